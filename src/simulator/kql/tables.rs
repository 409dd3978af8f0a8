//! The tables that a query can ask: typed columns, rows, and when each row came in. Filled by whoever plays the
//! tenant; a query only reads.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value as Json};

use super::value::{Type, Value};
use crate::domain::Ticks;

/// A column's name and type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// As a query names it; case counts.
    pub name: Arc<str>,
    /// What its cells hold.
    pub ty: Type,
}

impl Column {
    /// A column.
    #[must_use]
    pub fn new(name: &str, ty: Type) -> Self {
        Self { name: name.into(), ty }
    }
}

/// A row, shared between the operators that only pass it on.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) cells: Arc<[Value]>,
    pub(super) ingested: Option<Ticks>,
}

impl Row {
    pub(super) fn cell(&self, at: usize) -> &Value {
        self.cells.get(at).unwrap_or(&Value::Null)
    }
}

/// A table of the tenant.
#[derive(Debug, Clone, Default)]
pub struct Table {
    pub(super) columns: Vec<Column>,
    pub(super) rows: Vec<Row>,
}

impl Table {
    /// An empty table.
    #[must_use]
    pub const fn new(columns: Vec<Column>) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row as the far end's export writes it. Members that are no column are dropped, cells that do not
    /// fit their column's type are null; `ingested` is what `ingestion_time()` will say.
    pub fn push(&mut self, row: &Map<String, Json>, ingested: Option<Ticks>) {
        let cell = |column: &Column| match row.get(&*column.name) {
            Some(json) => Value::from_row(json, column.ty),
            None => Value::nothing(column.ty),
        };
        let cells = self.columns.iter().map(cell).collect();
        self.rows.push(Row { cells, ingested });
    }

    /// How many rows it has.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether it has none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Its columns.
    #[must_use]
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Drops the rows for which `keep`, asked with the place of the row, says no.
    pub fn retain(&mut self, mut keep: impl FnMut(usize) -> bool) {
        let mut place = 0;
        self.rows.retain(|_| {
            place += 1;
            keep(place - 1)
        });
    }
}

/// All tables of a tenant by name. A table that the tenant has no licence for is simply not in here.
#[derive(Debug, Clone, Default)]
pub struct Tables {
    tables: BTreeMap<String, Table>,
}

impl Tables {
    /// None at all.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The mail and alert tables, typed and empty.
    #[must_use]
    pub fn of_mail() -> Self {
        let mut tables = Self::new();
        for (name, columns) in super::schema::MAIL_TABLES {
            tables.put(name, Table::new(super::schema::columns(columns)));
        }
        tables
    }

    /// Adds or replaces a table.
    pub fn put(&mut self, name: &str, table: Table) {
        self.tables.insert(name.to_owned(), table);
    }

    /// Takes a table away, as a missing licence does.
    pub fn remove(&mut self, name: &str) -> Option<Table> {
        self.tables.remove(name)
    }

    /// A table by its exact name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Table> {
        self.tables.get(name)
    }

    /// A table to fill.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Table> {
        self.tables.get_mut(name)
    }
}
