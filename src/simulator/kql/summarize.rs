//! `summarize`: one row for each group. `arg_max` and `arg_min` carry a whole row along, so they are groups of
//! columns here, not single values.

use std::cmp::Ordering;
use std::collections::HashMap;

use super::aggregate::{self, Aggregate, Gathered};
use super::ast::{Expr, ExprKind, Item};
use super::bind::{Binder, Typed};
use super::error::{Fault, Tried};
use super::operator::implied_name;
use super::run::{Relation, Runner};
use super::tables::{Column, Row};
use super::value::Value;

/// The row that has the greatest or least value of something.
struct Extreme {
    wanted: Ordering,
    by: Typed,
    carried: Vec<Typed>,
}

/// Where the columns of a result come from.
enum Output {
    Key(usize),
    /// An expression over the results of the aggregates.
    Value(Typed),
    /// The column of an extreme: 0 is what was compared.
    Extreme(usize, usize),
}

struct Group {
    keys: Vec<Value>,
    gathered: Vec<Gathered>,
    extremes: Vec<Option<(Value, Row)>>,
}

/// `input` by the keys `by`.
pub(super) fn summarize(
    runner: &Runner<'_>,
    input: &Relation,
    aggregates: &[Item],
    by: &[Item],
    at: usize,
) -> Tried<Relation> {
    let mut plan = Plan::default();
    let mut nameless = 0;
    for item in by {
        let (column, typed) = runner.item(&input.columns, item, &mut nameless)?;
        plan.column(column, Output::Key(plan.keys.len()), item.expr.at)?;
        plan.keys.push(aggregate::group_key(item.expr.at, typed)?);
    }
    let mut binder = Binder::new(runner, &input.columns);
    binder.aggregates = Some(Vec::new());
    for item in aggregates {
        if let ExprKind::Call(name, arguments) = &item.expr.kind
            && matches!(name.as_str(), "arg_max" | "arg_min" | "argmax" | "argmin")
        {
            let wanted = if name.contains("max") { Ordering::Greater } else { Ordering::Less };
            plan.extreme(runner, input, item, arguments, wanted)?;
            continue;
        }
        if let ExprKind::Call(name, arguments) = &item.expr.kind
            && matches!(name.as_str(), "take_any" | "any")
            && matches!(arguments.as_slice(), [Expr { kind: ExprKind::Star, .. }])
        {
            return Err(Fault::unsupported(item.expr.at, "take_any(*)"));
        }
        let typed = binder.bind(&item.expr)?;
        let name = item.name.clone().or_else(|| implied_name(&item.expr)).unwrap_or_else(|| {
            nameless += 1;
            format!("Column{nameless}")
        });
        let mut name = name;
        if item.name.is_none() {
            let free = |name: &str| !plan.columns.iter().any(|column| &*column.name == name);
            let base = name.clone();
            let mut number = 0;
            while !free(&name) {
                number += 1;
                name = format!("{base}{number}");
            }
        }
        plan.column(Column::new(&name, typed.ty), Output::Value(typed), item.expr.at)?;
    }
    plan.aggregates = binder.aggregates.unwrap_or_default();
    if plan.columns.is_empty() {
        return Err(Fault::semantic(at, "Nothing to summarize"));
    }
    Ok(plan.run(input))
}

#[derive(Default)]
struct Plan {
    keys: Vec<Typed>,
    aggregates: Vec<Aggregate>,
    extremes: Vec<Extreme>,
    columns: Vec<Column>,
    outputs: Vec<Output>,
}

impl Plan {
    fn column(&mut self, column: Column, output: Output, at: usize) -> Tried<()> {
        if self.columns.iter().any(|known| known.name == column.name) {
            let name = &column.name;
            return Err(Fault::semantic(at, format!("A column named '{name}' already exists")));
        }
        self.columns.push(column);
        self.outputs.push(output);
        Ok(())
    }

    fn extreme(
        &mut self,
        runner: &Runner<'_>,
        input: &Relation,
        item: &Item,
        arguments: &[Expr],
        wanted: Ordering,
    ) -> Tried<()> {
        let at = item.expr.at;
        let Some((by, rest)) = arguments.split_first() else {
            return Err(Fault::semantic(at, "arg_max()/arg_min(): what to compare is missing"));
        };
        let place = self.extremes.len();
        let compared = Binder::new(runner, &input.columns).bind(by)?;
        let compared = aggregate::group_key(by.at, compared)?;
        let name = item.name.clone().or_else(|| implied_name(by)).unwrap_or_else(|| {
            if wanted == Ordering::Greater { "max_" } else { "min_" }.to_owned()
        });
        self.column(Column::new(&name, compared.ty), Output::Extreme(place, 0), at)?;
        let mut carried = Vec::new();
        for argument in rest {
            if matches!(argument.kind, ExprKind::Star) {
                for (index, column) in input.columns.iter().enumerate() {
                    if self.columns.iter().any(|known| known.name == column.name) {
                        continue;
                    }
                    let node = super::eval::Node::Column(index);
                    carried.push(Typed { node, ty: column.ty });
                    self.column(column.clone(), Output::Extreme(place, carried.len()), at)?;
                }
                continue;
            }
            let typed = Binder::new(runner, &input.columns).bind(argument)?;
            let name =
                implied_name(argument).unwrap_or_else(|| format!("Column{}", carried.len() + 1));
            let column = Column::new(&name, typed.ty);
            carried.push(typed);
            self.column(column, Output::Extreme(place, carried.len()), argument.at)?;
        }
        self.extremes.push(Extreme { wanted, by: compared, carried });
        Ok(())
    }

    fn start(&self, keys: Vec<Value>) -> Group {
        Group {
            keys,
            gathered: self.aggregates.iter().map(Aggregate::start).collect(),
            extremes: self.extremes.iter().map(|_| None).collect(),
        }
    }

    fn run(self, input: &Relation) -> Relation {
        let mut places: HashMap<Vec<u8>, usize> = HashMap::new();
        let mut groups: Vec<Group> = Vec::new();
        if self.keys.is_empty() && self.extremes.is_empty() {
            groups.push(self.start(Vec::new()));
            places.insert(Vec::new(), 0);
        }
        for row in &input.rows {
            let keys: Vec<Value> = self.keys.iter().map(|key| key.eval(row)).collect();
            let mut bytes = Vec::new();
            for key in &keys {
                key.key(&mut bytes);
            }
            let place = *places.entry(bytes).or_insert_with(|| {
                groups.push(self.start(keys));
                groups.len() - 1
            });
            let Some(group) = groups.get_mut(place) else { continue };
            for (aggregate, gathered) in self.aggregates.iter().zip(&mut group.gathered) {
                aggregate.add(row, gathered);
            }
            for (extreme, best) in self.extremes.iter().zip(&mut group.extremes) {
                let value = extreme.by.eval(row);
                let better = match best {
                    None => true,
                    Some((known, _)) if known.is_null() => !value.is_null(),
                    Some((known, _)) => value.compare(known) == Some(extreme.wanted),
                };
                if better {
                    *best = Some((value, row.clone()));
                }
            }
        }
        let rows = groups.into_iter().map(|group| self.row(group)).collect();
        Relation { columns: self.columns, rows }
    }

    fn row(&self, group: Group) -> Row {
        let results = self.aggregates.iter().zip(group.gathered);
        let results = Row {
            cells: results.map(|(aggregate, gathered)| aggregate.finish(gathered)).collect(),
            ingested: None,
        };
        let cells = self.outputs.iter().map(|output| match output {
            Output::Key(place) => group.keys.get(*place).cloned().unwrap_or(Value::Null),
            Output::Value(typed) => typed.eval(&results),
            Output::Extreme(place, column) => {
                let Some(Some((value, row))) = group.extremes.get(*place) else {
                    return Value::Null;
                };
                match column.checked_sub(1) {
                    None => value.clone(),
                    Some(column) => self
                        .extremes
                        .get(*place)
                        .and_then(|extreme| extreme.carried.get(column))
                        .map_or(Value::Null, |typed| typed.eval(row)),
                }
            }
        });
        Row { cells: cells.collect(), ingested: None }
    }
}
