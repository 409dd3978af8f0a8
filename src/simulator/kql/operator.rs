//! The tabular operators that look at one row at a time or at all in order. Grouping and joining have files of
//! their own.

use std::cmp::Ordering;
use std::collections::HashSet;

use serde_json::{Map, Value as Json};

use super::aggregate;
use super::ast::{Expr, ExprKind, Item, Operator, OperatorKind, SortKey};
use super::bind::{Binder, Typed};
use super::error::{Fault, Tried};
use super::run::{Relation, Runner};
use super::tables::{Column, Row};
use super::value::{Type, Value};
use super::{join, series, summarize};

/// The word of an operator, for messages.
pub(super) const fn name(operator: &Operator) -> &'static str {
    match &operator.kind {
        OperatorKind::Where(_) => "where",
        OperatorKind::Extend(_) => "extend",
        OperatorKind::Project(_) => "project",
        OperatorKind::ProjectAway(_) => "project-away",
        OperatorKind::ProjectRename(_) => "project-rename",
        OperatorKind::Distinct(_) => "distinct",
        OperatorKind::Take(_) => "take",
        OperatorKind::Order(_) => "order",
        OperatorKind::Top(..) => "top",
        OperatorKind::Count => "count",
        OperatorKind::Summarize { .. } => "summarize",
        OperatorKind::Join(_) => "join",
        OperatorKind::Union(_) => "union",
        OperatorKind::MvExpand { .. } => "mv-expand",
        OperatorKind::MakeSeries(_) => "make-series",
        OperatorKind::Nothing => "render",
    }
}

/// What `operator` makes of `input`.
pub(super) fn apply(
    runner: &Runner<'_>,
    mut input: Relation,
    operator: &Operator,
) -> Tried<Relation> {
    match &operator.kind {
        OperatorKind::Where(condition) => {
            let condition = Binder::new(runner, &input.columns).truth(condition)?;
            input.rows.retain(|row| condition.holds(row));
            Ok(input)
        }
        OperatorKind::Extend(items) => extend(runner, input, items),
        OperatorKind::Project(items) => project(runner, &input, items),
        OperatorKind::ProjectAway(names) => {
            let mut away = HashSet::new();
            for (name, at) in names {
                away.insert(place(&input, name, *at)?);
            }
            let kept: Vec<usize> =
                (0..input.columns.len()).filter(|place| !away.contains(place)).collect();
            Ok(picked(&input, &kept))
        }
        OperatorKind::ProjectRename(renames) => {
            for (new, old, at) in renames {
                let place = place(&input, old, *at)?;
                if let Some(column) = input.columns.get_mut(place) {
                    column.name = new.as_str().into();
                }
            }
            Ok(input)
        }
        OperatorKind::Distinct(items) => {
            let mut projected = match items {
                Some(items) => project(runner, &input, items)?,
                None => input,
            };
            if projected.columns.iter().any(|column| column.ty == Type::Dynamic) {
                return Err(Fault::semantic(
                    operator.at,
                    "A 'dynamic' column cannot be made distinct",
                ));
            }
            let mut seen = HashSet::new();
            projected.rows.retain(|row| seen.insert(whole_key(row)));
            Ok(projected)
        }
        OperatorKind::Take(count) => {
            let count = whole(runner, count)?;
            input.rows.truncate(count);
            Ok(input)
        }
        OperatorKind::Order(keys) => sorted(runner, input, keys),
        OperatorKind::Top(count, keys) => {
            let count = whole(runner, count)?;
            let mut output = sorted(runner, input, keys)?;
            output.rows.truncate(count);
            Ok(output)
        }
        OperatorKind::Count => {
            let count = i64::try_from(input.rows.len()).map_or(Value::Null, Value::Long);
            let row = Row { cells: [count].into(), ingested: None };
            Ok(Relation { columns: vec![Column::new("Count", Type::Long)], rows: vec![row] })
        }
        OperatorKind::Summarize { aggregates, by } => {
            summarize::summarize(runner, &input, aggregates, by, operator.at)
        }
        OperatorKind::Join(join) => join::join(runner, &input, join),
        OperatorKind::Union(union) => runner.union(Some(input), union),
        OperatorKind::MvExpand { items, limit, index } => {
            mv_expand(runner, &input, items, limit.as_ref(), index.as_deref())
        }
        OperatorKind::MakeSeries(series) => series::make_series(runner, &input, series),
        OperatorKind::Nothing => Ok(input),
    }
}

/// The name that a column gets from its expression alone.
pub(super) fn implied_name(expr: &Expr) -> Option<String> {
    match &expr.kind {
        ExprKind::Name(name) => Some(name.clone()),
        ExprKind::Index(value, index) => {
            let value = implied_name(value)?;
            match &index.kind {
                ExprKind::Const(index, _) => Some(format!("{value}_{}", index.to_text())),
                _ => None,
            }
        }
        ExprKind::Call(function, arguments) => {
            let over = arguments.first().and_then(implied_name);
            if let Some(name) = aggregate::default_name(function, over.as_deref()) {
                return Some(name);
            }
            let passes = matches!(function.as_str(), "bin" | "floor" | "startofday" | "todynamic")
                || (function.starts_with("to")
                    && !matches!(function.as_str(), "tolower" | "toupper"));
            if passes { over } else { None }
        }
        _ => None,
    }
}

/// The place of a column by name.
pub(super) fn place(relation: &Relation, name: &str, at: usize) -> Tried<usize> {
    let found = relation.columns.iter().position(|column| &*column.name == name);
    found.ok_or_else(|| Fault::unresolved(at, name))
}

/// The bytes by which two rows are equal.
pub(super) fn whole_key(row: &Row) -> Vec<u8> {
    let mut key = Vec::new();
    for cell in row.cells.iter() {
        cell.key(&mut key);
    }
    key
}

/// The columns at `places`, in that order.
pub(super) fn picked(input: &Relation, places: &[usize]) -> Relation {
    let columns = places.iter().filter_map(|place| input.columns.get(*place).cloned()).collect();
    let rows = input.rows.iter().map(|row| Row {
        cells: places.iter().map(|place| row.cell(*place).clone()).collect(),
        ingested: row.ingested,
    });
    Relation { columns, rows: rows.collect() }
}

fn extend(runner: &Runner<'_>, input: Relation, items: &[Item]) -> Tried<Relation> {
    let mut columns = input.columns.clone();
    let mut fresh: Vec<(usize, Typed)> = Vec::new();
    let mut nameless = 0;
    for item in items {
        let (column, typed) = runner.item(&input.columns, item, &mut nameless)?;
        let place = match columns.iter().position(|known| known.name == column.name) {
            Some(place) => {
                if let Some(known) = columns.get_mut(place) {
                    *known = column;
                }
                place
            }
            None => {
                columns.push(column);
                columns.len() - 1
            }
        };
        fresh.push((place, typed));
    }
    let width = columns.len();
    runner.spend(input.rows.len().saturating_mul(width))?;
    let rows = input.rows.iter().map(|row| {
        let mut cells: Vec<Value> = row.cells.to_vec();
        cells.resize(width, Value::Null);
        for (place, typed) in &fresh {
            if let Some(cell) = cells.get_mut(*place) {
                *cell = typed.eval(row);
            }
        }
        Row { cells: cells.into(), ingested: row.ingested }
    });
    Ok(Relation { rows: rows.collect(), columns })
}

fn project(runner: &Runner<'_>, input: &Relation, items: &[Item]) -> Tried<Relation> {
    let mut columns: Vec<Column> = Vec::new();
    let mut fresh = Vec::new();
    let mut nameless = 0;
    for item in items {
        let (column, typed) = runner.item(&input.columns, item, &mut nameless)?;
        if columns.iter().any(|known| known.name == column.name) {
            let name = &column.name;
            return Err(Fault::semantic(
                item.expr.at,
                format!("A column named '{name}' already exists"),
            ));
        }
        columns.push(column);
        fresh.push(typed);
    }
    runner.spend(input.rows.len().saturating_mul(columns.len()))?;
    let rows = input.rows.iter().map(|row| Row {
        cells: fresh.iter().map(|typed| typed.eval(row)).collect(),
        ingested: row.ingested,
    });
    Ok(Relation { rows: rows.collect(), columns })
}

/// A constant number of rows.
fn whole(runner: &Runner<'_>, count: &Expr) -> Tried<usize> {
    let typed = Binder::new(runner, &[]).bind(count)?;
    match typed.as_constant() {
        Some(Value::Long(number)) => usize::try_from(*number)
            .map_err(|_| Fault::semantic(count.at, "The number of rows cannot be negative")),
        _ => Err(Fault::semantic(count.at, "A constant number of rows is wanted here")),
    }
}

fn sorted(runner: &Runner<'_>, input: Relation, keys: &[SortKey]) -> Tried<Relation> {
    let mut bound = Vec::with_capacity(keys.len());
    for key in keys {
        let typed = Binder::new(runner, &input.columns).bind(&key.expr)?;
        bound.push(aggregate::group_key(key.expr.at, typed)?);
    }
    let mut keyed: Vec<(Vec<Value>, Row)> = input
        .rows
        .into_iter()
        .map(|row| (bound.iter().map(|typed| typed.eval(&row)).collect(), row))
        .collect();
    keyed.sort_by(|(a, _), (b, _)| {
        for ((a, b), key) in a.iter().zip(b).zip(keys) {
            let order = match (a.is_null(), b.is_null()) {
                (true, true) => Ordering::Equal,
                (true, false) if key.nulls_first => Ordering::Less,
                (true, false) => Ordering::Greater,
                (false, true) if key.nulls_first => Ordering::Greater,
                (false, true) => Ordering::Less,
                (false, false) => total(a, b, key.descending),
            };
            if order != Ordering::Equal {
                return order;
            }
        }
        Ordering::Equal
    });
    Ok(Relation { columns: input.columns, rows: keyed.into_iter().map(|(_, row)| row).collect() })
}

/// A total order, which sorting needs: not-a-number counts as the least real.
fn total(a: &Value, b: &Value, descending: bool) -> Ordering {
    let order = match (a, b) {
        (Value::Real(a), Value::Real(b)) if a.is_nan() || b.is_nan() => b.is_nan().cmp(&a.is_nan()),
        _ => a.compare(b).unwrap_or(Ordering::Equal),
    };
    if descending { order.reverse() } else { order }
}

/// One row for each member of an array or object; a row without any is kept once, with null.
fn mv_expand(
    runner: &Runner<'_>,
    input: &Relation,
    items: &[(Item, Option<Type>)],
    limit: Option<&Expr>,
    index: Option<&str>,
) -> Tried<Relation> {
    let limit = match limit {
        Some(limit) => whole(runner, limit)?,
        None => usize::MAX,
    };
    let mut columns = input.columns.clone();
    let mut fresh: Vec<(usize, Typed, Option<Type>)> = Vec::new();
    for (item, ty) in items {
        let (mut column, typed) = runner.item(&input.columns, item, &mut 0)?;
        if typed.ty != Type::Dynamic {
            return Err(Fault::semantic(item.expr.at, "mv-expand: a dynamic value is wanted here"));
        }
        column.ty = ty.unwrap_or(Type::Dynamic);
        let place = columns.iter().position(|known| known.name == column.name);
        let place = place.unwrap_or_else(|| {
            columns.push(column.clone());
            columns.len() - 1
        });
        if let Some(known) = columns.get_mut(place) {
            known.ty = column.ty;
        }
        fresh.push((place, typed, *ty));
    }
    if let Some(index) = index {
        columns.push(Column::new(index, Type::Long));
    }
    let width = columns.len();
    let mut rows = Vec::new();
    for row in &input.rows {
        let lists: Vec<Vec<Value>> =
            fresh.iter().map(|(_, typed, _)| members(&typed.eval(row))).collect();
        let longest = lists.iter().map(Vec::len).max().unwrap_or(0).clamp(1, limit.max(1));
        runner.spend(longest.saturating_mul(width))?;
        for turn in 0..longest {
            let mut cells: Vec<Value> = row.cells.to_vec();
            cells.resize(width, Value::Null);
            for ((place, _, ty), list) in fresh.iter().zip(&lists) {
                let value = list.get(turn).cloned().unwrap_or(Value::Null);
                if let Some(cell) = cells.get_mut(*place) {
                    *cell = ty.map_or_else(|| value.clone(), |ty| value.cast(ty));
                }
            }
            if index.is_some()
                && let Some(cell) = cells.last_mut()
            {
                *cell = i64::try_from(turn).map_or(Value::Null, Value::Long);
            }
            rows.push(Row { cells: cells.into(), ingested: row.ingested });
        }
    }
    Ok(Relation { columns, rows })
}

fn members(value: &Value) -> Vec<Value> {
    let Value::Json(json) = value else { return Vec::new() };
    match &**json {
        Json::Array(items) => items.iter().cloned().map(Value::json).collect(),
        Json::Object(members) => members
            .iter()
            .map(|(name, value)| {
                Value::json(Json::Object(Map::from_iter([(name.clone(), value.clone())])))
            })
            .collect(),
        _ => vec![value.clone()],
    }
}
