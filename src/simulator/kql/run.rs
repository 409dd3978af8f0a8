//! Runs a parsed query: its `let`s in order, then its body, one operator after the other. Keeps the limits.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;

use super::ast::{Item, LetValue, Pipeline, Query, Source, Union};
use super::bind::{Binder, Typed};
use super::error::{Fault, Tried};
use super::tables::{Column, Row, Tables};
use super::timespan::Window;
use super::value::{Type, Value};
use super::{Limits, operator};
use crate::domain::Ticks;

/// Rows with the names and types of their cells.
#[derive(Debug, Clone, Default)]
pub(super) struct Relation {
    pub(super) columns: Vec<Column>,
    pub(super) rows: Vec<Row>,
}

/// What a `let` means.
#[derive(Debug)]
pub(super) enum Bound {
    Scalar(Value, Type),
    Table(Arc<Relation>),
}

/// One run of one query.
pub(super) struct Runner<'q> {
    tables: &'q Tables,
    window: Window,
    pub(super) now: Ticks,
    lets: HashMap<String, Bound>,
    /// How many more cells all operators together may make; a row that is only passed on counts as one.
    work: Cell<u64>,
}

impl<'q> Runner<'q> {
    pub(super) fn new(tables: &'q Tables, window: Window, now: Ticks, limits: &Limits) -> Self {
        Self { tables, window, now, lets: HashMap::new(), work: Cell::new(limits.work) }
    }

    pub(super) fn query(mut self, query: &Query) -> Tried<Relation> {
        for binding in &query.lets {
            let value = match &binding.value {
                LetValue::Table(pipeline) => Bound::Table(Arc::new(self.pipeline(pipeline)?)),
                LetValue::Scalar(expr) => self.scalar(expr)?,
            };
            self.lets.insert(binding.name.clone(), value);
        }
        self.pipeline(&query.body)
    }

    pub(super) fn bound(&self, name: &str) -> Option<&Bound> {
        self.lets.get(name)
    }

    /// A `let` of something that looks like a scalar: a lone name may still be a table.
    fn scalar(&self, expr: &super::ast::Expr) -> Tried<Bound> {
        if let super::ast::ExprKind::Name(name) = &expr.kind {
            if let Some(Bound::Table(relation)) = self.lets.get(name) {
                return Ok(Bound::Table(Arc::clone(relation)));
            }
            if !self.lets.contains_key(name) && self.tables.get(name).is_some() {
                return Ok(Bound::Table(Arc::new(self.table(name, expr.at)?)));
            }
        }
        let typed = Binder::new(self, &[]).bind(expr)?;
        match typed.as_constant() {
            Some(value) => Ok(Bound::Scalar(value.clone(), typed.ty)),
            None => Err(Fault::semantic(expr.at, "A constant is wanted here")),
        }
    }

    /// Counts `cells` more cells of work.
    pub(super) fn spend(&self, cells: usize) -> Tried<()> {
        let left = self.work.get().checked_sub(cells as u64).ok_or_else(Fault::too_much_work)?;
        self.work.set(left);
        Ok(())
    }

    pub(super) fn pipeline(&self, pipeline: &Pipeline) -> Tried<Relation> {
        let mut relation = match &pipeline.source {
            Source::Name(name, at) => {
                let first = pipeline.operators.first().map(operator::name);
                self.table(name, *at).map_err(|fault| match first {
                    Some(first) => fault.inside(first),
                    None => fault,
                })?
            }
            Source::Nested(inner) => self.pipeline(inner)?,
            Source::Union(union) => self.union(None, union)?,
        };
        for step in &pipeline.operators {
            relation = operator::apply(self, relation, step)
                .map_err(|fault| fault.inside(operator::name(step)))?;
            self.spend(relation.rows.len())?;
        }
        Ok(relation)
    }

    fn table(&self, name: &str, at: usize) -> Tried<Relation> {
        match self.lets.get(name) {
            Some(Bound::Table(relation)) => return Ok((**relation).clone()),
            Some(Bound::Scalar(..)) => {
                return Err(Fault::semantic(
                    at,
                    format!("'{name}' is a scalar; a table is wanted here"),
                ));
            }
            None => {}
        }
        let Some(table) = self.tables.get(name) else { return Err(Fault::unresolved(at, name)) };
        let stamp = table
            .columns
            .iter()
            .position(|column| &*column.name == "Timestamp" && column.ty == Type::DateTime);
        let inside = |row: &&Row| match stamp.map(|stamp| row.cell(stamp)) {
            Some(Value::Time(ticks)) => *ticks >= self.window.from && *ticks < self.window.to,
            Some(_) => false,
            None => true,
        };
        let rows: Vec<Row> = table.rows.iter().filter(inside).cloned().collect();
        self.spend(table.rows.len())?;
        Ok(Relation { columns: table.columns.clone(), rows })
    }

    /// All rows of all parts under all columns (or those that every part has), in order.
    pub(super) fn union(&self, first: Option<Relation>, union: &Union) -> Tried<Relation> {
        let mut parts: Vec<(String, Relation)> = Vec::new();
        if let Some(first) = first {
            parts.push(("union_arg0".to_owned(), first));
        }
        for part in &union.parts {
            let name = match &part.source {
                Source::Name(name, _) => name.clone(),
                _ => format!("union_arg{}", parts.len()),
            };
            match self.pipeline(part) {
                Ok(relation) => parts.push((name, relation)),
                Err(fault) if union.fuzzy && union.parts.len() > 1 => {
                    if !matches!(&part.source, Source::Name(name, _) if self.tables.get(name).is_none())
                    {
                        return Err(fault);
                    }
                }
                Err(fault) => return Err(fault.inside("union")),
            }
        }
        let mut columns: Vec<Column> = Vec::new();
        for (_, relation) in &parts {
            for column in &relation.columns {
                if !columns.contains(column) {
                    columns.push(column.clone());
                }
            }
        }
        if union.inner {
            columns.retain(|column| parts.iter().all(|(_, part)| part.columns.contains(column)));
        }
        let mut result = Relation { columns: renamed_by_type(&columns), rows: Vec::new() };
        if let Some(name) = &union.source_column {
            result.columns.insert(0, Column::new(name, Type::Text));
        }
        for (name, part) in parts {
            let places: Vec<Option<usize>> = columns
                .iter()
                .map(|column| part.columns.iter().position(|own| own == column))
                .collect();
            for row in &part.rows {
                let source = union.source_column.as_ref().map(|_| Value::text(&name));
                let cells = columns.iter().zip(&places).map(|(column, place)| match place {
                    Some(place) => row.cell(*place).clone(),
                    None => Value::nothing(column.ty),
                });
                let cells = source.into_iter().chain(cells).collect();
                result.rows.push(Row { cells, ingested: row.ingested });
            }
            self.spend(part.rows.len().saturating_mul(columns.len()))?;
        }
        Ok(result)
    }

    /// Binds `item` and says what its column is called; `place` counts the nameless ones.
    pub(super) fn item(
        &self,
        columns: &[Column],
        item: &Item,
        place: &mut usize,
    ) -> Tried<(Column, Typed)> {
        let typed = Binder::new(self, columns).bind(&item.expr)?;
        let name = match &item.name {
            Some(name) => name.clone(),
            None => operator::implied_name(&item.expr).unwrap_or_else(|| {
                *place += 1;
                format!("Column{place}")
            }),
        };
        Ok((Column::new(&name, typed.ty), typed))
    }
}

/// Columns of one name and different types get their type's name appended.
fn renamed_by_type(columns: &[Column]) -> Vec<Column> {
    let shared =
        |column: &Column| columns.iter().filter(|other| other.name == column.name).count() > 1;
    columns
        .iter()
        .map(|column| {
            if shared(column) {
                Column::new(&format!("{}_{}", column.name, column.ty.kql_word()), column.ty)
            } else {
                column.clone()
            }
        })
        .collect()
}
