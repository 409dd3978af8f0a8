//! `join`: rows of two tables side by side where their keys are equal. A null key matches nothing.

use std::collections::{HashMap, HashSet};

use super::ast::{Join, JoinKind};
use super::error::{Fault, Tried};
use super::operator::place;
use super::run::{Relation, Runner};
use super::tables::{Column, Row};
use super::value::{Type, Value};

/// `left` joined with what `join` names.
pub(super) fn join(runner: &Runner<'_>, left: &Relation, join: &Join) -> Tried<Relation> {
    let right = runner.pipeline(&join.right)?;
    let (mut left_keys, mut right_keys) = (Vec::new(), Vec::new());
    for (left_name, right_name, at) in &join.on {
        let left_place = place(left, left_name, *at)?;
        let right_place = place(&right, right_name, *at)?;
        let of = |relation: &Relation, place: usize| relation.columns.get(place).map(|c| c.ty);
        let (a, b) = (of(left, left_place), of(&right, right_place));
        let numbers = a.is_some_and(Type::is_number) && b.is_some_and(Type::is_number);
        if a == Some(Type::Dynamic) || b == Some(Type::Dynamic) || (a != b && !numbers) {
            return Err(Fault::semantic(
                *at,
                format!(
                    "join key '{left_name}': the two sides must have the same type, and not dynamic"
                ),
            ));
        }
        left_keys.push(left_place);
        right_keys.push(right_place);
    }
    let mut known: HashMap<Vec<u8>, Vec<&Row>> = HashMap::new();
    for row in &right.rows {
        if let Some(key) = key(row, &right_keys) {
            known.entry(key).or_default().push(row);
        }
    }
    let wide = !matches!(join.kind, JoinKind::LeftAnti | JoinKind::LeftSemi);
    let mut columns = left.columns.clone();
    if wide {
        for column in &right.columns {
            let mut name = column.name.to_string();
            for number in 1.. {
                if !columns.iter().any(|known| *known.name == *name) {
                    break;
                }
                name = format!("{}{number}", column.name);
            }
            columns.push(Column::new(&name, column.ty));
        }
    }
    let nothing: Vec<Value> =
        right.columns.iter().map(|column| Value::nothing(column.ty)).collect();
    let mut seen = HashSet::new();
    let mut rows = Vec::new();
    for row in &left.rows {
        let key = key(row, &left_keys);
        let matches = key.as_ref().and_then(|key| known.get(key)).map_or(&[][..], Vec::as_slice);
        match join.kind {
            JoinKind::LeftAnti if matches.is_empty() => rows.push(row.clone()),
            JoinKind::LeftSemi if !matches.is_empty() => rows.push(row.clone()),
            JoinKind::LeftAnti | JoinKind::LeftSemi => {}
            JoinKind::InnerUnique if key.is_some_and(|key| !seen.insert(key)) => {}
            JoinKind::LeftOuter if matches.is_empty() => rows.push(beside(row, &nothing)),
            JoinKind::InnerUnique | JoinKind::Inner | JoinKind::LeftOuter => {
                runner.spend(matches.len().saturating_mul(columns.len()))?;
                rows.extend(matches.iter().map(|other| beside(row, &other.cells)));
            }
        }
    }
    Ok(Relation { columns, rows })
}

fn key(row: &Row, places: &[usize]) -> Option<Vec<u8>> {
    let mut key = Vec::new();
    for place in places {
        let cell = row.cell(*place);
        if cell.is_null() {
            return None;
        }
        match cell {
            Value::Long(_) | Value::Real(_) => cell.cast(Type::Real).key(&mut key),
            other => other.key(&mut key),
        }
    }
    Some(key)
}

fn beside(left: &Row, right: &[Value]) -> Row {
    Row { cells: left.cells.iter().chain(right).cloned().collect(), ingested: left.ingested }
}
