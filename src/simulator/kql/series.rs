//! `make-series`: aggregates over even steps of time, one array for each group.

use std::collections::HashMap;

use serde_json::Value as Json;

use super::aggregate::{self, Aggregate, Gathered};
use super::ast::Series;
use super::bind::Binder;
use super::error::{Fault, Tried};
use super::operator::implied_name;
use super::run::{Relation, Runner};
use super::tables::{Column, Row};
use super::value::{Type, Value};
use crate::domain::Ticks;

/// How many steps a series may have.
const MAX_STEPS: i64 = 100_000;

/// What the aggregates have gathered, by step.
type Turns = HashMap<usize, Vec<Gathered>>;

/// What `series` makes of `input`; only over datetimes.
pub(super) fn make_series(
    runner: &Runner<'_>,
    input: &Relation,
    series: &Series,
) -> Tried<Relation> {
    let constant = |expr: &super::ast::Expr| {
        Binder::new(runner, &[]).bind(expr).map(|typed| typed.as_constant().cloned())
    };
    let wrong = |why: &str| Fault::semantic(series.on.expr.at, why);
    let (Some(Value::Time(from)), Some(Value::Time(to)), Some(Value::Span(step))) =
        (constant(&series.from)?, constant(&series.to)?, constant(&series.step)?)
    else {
        return Err(wrong("make-series: from and to are datetimes, step is a timespan"));
    };
    let length = to.0.saturating_sub(from.0);
    if step <= 0 || length < 0 || length / step > MAX_STEPS {
        return Err(wrong("make-series: the range does not fit the step"));
    }
    let steps = usize::try_from((length + step - 1) / step).unwrap_or(0);
    let mut columns = Vec::new();
    let mut keys = Vec::new();
    let mut nameless = 0;
    for item in &series.by {
        let (column, typed) = runner.item(&input.columns, item, &mut nameless)?;
        keys.push(aggregate::group_key(item.expr.at, typed)?);
        columns.push(column);
    }
    let mut binder = Binder::new(runner, &input.columns);
    binder.aggregates = Some(Vec::new());
    let mut values = Vec::new();
    for (item, default) in &series.aggregates {
        let typed = binder.bind(&item.expr)?;
        let name = item.name.clone().or_else(|| implied_name(&item.expr));
        columns.push(Column::new(&name.unwrap_or_else(|| "Column1".to_owned()), Type::Dynamic));
        let default = match default {
            Some(default) => constant(default)?,
            None => Some(Value::Long(0)),
        };
        values.push((typed, default.unwrap_or(Value::Null)));
    }
    let aggregates = binder.aggregates.unwrap_or_default();
    let (axis, on) = runner.item(&input.columns, &series.on, &mut nameless)?;
    if on.ty != Type::DateTime {
        return Err(wrong("make-series: only over a datetime"));
    }
    columns.push(Column { name: axis.name, ty: Type::Dynamic });
    let mut groups: Vec<(Vec<Value>, Turns)> = Vec::new();
    let mut places: HashMap<Vec<u8>, usize> = HashMap::new();
    if keys.is_empty() {
        groups.push((Vec::new(), HashMap::new()));
        places.insert(Vec::new(), 0);
    }
    for row in &input.rows {
        let Value::Time(time) = on.eval(row) else { continue };
        if time < from || time >= to {
            continue;
        }
        let turn = usize::try_from((time.0 - from.0) / step).unwrap_or(0);
        let own: Vec<Value> = keys.iter().map(|key| key.eval(row)).collect();
        let mut bytes = Vec::new();
        for key in &own {
            key.key(&mut bytes);
        }
        let place = *places.entry(bytes).or_insert_with(|| {
            groups.push((own, HashMap::new()));
            groups.len() - 1
        });
        let Some((_, turns)) = groups.get_mut(place) else { continue };
        let start = || aggregates.iter().map(Aggregate::start).collect();
        let gathered: &mut Vec<Gathered> = turns.entry(turn).or_insert_with(start);
        for (aggregate, gathered) in aggregates.iter().zip(gathered) {
            aggregate.add(row, gathered);
        }
    }
    let moments: Vec<Json> = (0_i64..)
        .take(steps)
        .map(|turn| Value::Time(Ticks(from.0.saturating_add(turn.saturating_mul(step)))).to_json())
        .collect();
    let mut rows = Vec::new();
    for (own, mut turns) in groups {
        runner.spend(steps)?;
        let mut arrays: Vec<Vec<Json>> = values.iter().map(|_| Vec::with_capacity(steps)).collect();
        for turn in 0..steps {
            let results = turns.remove(&turn).map(|gathered| {
                let cells = aggregates.iter().zip(gathered).map(|(one, found)| one.finish(found));
                Row { cells: cells.collect(), ingested: None }
            });
            for ((typed, default), array) in values.iter().zip(&mut arrays) {
                let value = results.as_ref().map_or_else(|| default.clone(), |row| typed.eval(row));
                array.push(value.to_json());
            }
        }
        let arrays = arrays.into_iter().map(|array| Value::json(Json::Array(array)));
        let axis = Value::json(Json::Array(moments.clone()));
        let cells = own.into_iter().chain(arrays).chain([axis]).collect();
        rows.push(Row { cells, ingested: None });
    }
    Ok(Relation { columns, rows })
}
