//! The aggregates of `summarize`: what each takes and gives, and how it gathers.

use std::cmp::Ordering;
use std::collections::HashSet;

use serde_json::Value as Json;

use super::bind::Typed;
use super::error::{Fault, Tried};
use super::tables::Row;
use super::value::{Type, Value};

/// How many members `make_set` and `make_list` keep where the query names no number.
const LIST_LIMIT: usize = 1_048_576;

/// An aggregate with its arguments.
#[derive(Debug, Clone)]
pub(super) struct Aggregate {
    kind: Kind,
    /// What is gathered.
    value: Option<Typed>,
    /// Which rows count.
    when: Option<Typed>,
    limit: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Count,
    DistinctCount,
    Sum,
    Average,
    Min,
    Max,
    Set,
    List,
    Any,
}

const NAMES: [&str; 19] = [
    "count",
    "countif",
    "dcount",
    "dcountif",
    "sum",
    "sumif",
    "avg",
    "avgif",
    "min",
    "minif",
    "max",
    "maxif",
    "make_set",
    "make_set_if",
    "make_list",
    "make_list_if",
    "take_any",
    "any",
    "anyif",
];

pub(super) fn is_aggregate(name: &str) -> bool {
    NAMES.contains(&name) || name == "makeset" || name == "makelist"
}

/// The name that a column gets where the query gives none; `over` is the name of its argument.
pub(super) fn default_name(name: &str, over: Option<&str>) -> Option<String> {
    let over = over.unwrap_or_default();
    Some(match name {
        "make_set" | "make_set_if" | "makeset" => format!("set_{over}"),
        "make_list" | "make_list_if" | "makelist" => format!("list_{over}"),
        "take_any" | "any" | "anyif" if !over.is_empty() => over.to_owned(),
        "countif" => "countif_".to_owned(),
        _ if is_aggregate(name) => format!("{name}_{over}"),
        _ => return None,
    })
}

/// The aggregate `name` for these arguments, and the type of its result.
pub(super) fn resolve(at: usize, name: &str, mut args: Vec<Typed>) -> Tried<(Aggregate, Type)> {
    let wrong = |why: &str| Err(Fault::semantic(at, format!("{name}(): {why}")));
    let conditional = name.ends_with("if");
    let (least, most) = match name {
        "count" => (0, 0),
        "countif" => (1, 1),
        "dcount" | "make_set" | "make_list" | "makeset" | "makelist" => (1, 2),
        "dcountif" | "make_set_if" | "make_list_if" => (2, 3),
        _ if conditional => (2, 2),
        _ => (1, 1),
    };
    if !(least..=most).contains(&args.len()) {
        return wrong(&format!("takes {least} to {most} arguments, found {}", args.len()));
    }
    let mut limit = LIST_LIMIT;
    if args.len() > 1
        && args.len() == most
        && matches!(most, 2 | 3)
        && !matches!(name, "sumif" | "avgif" | "minif" | "maxif" | "anyif")
    {
        match args.pop().as_ref().and_then(Typed::as_constant) {
            Some(Value::Long(number)) => {
                if !name.starts_with("dcount") {
                    limit = usize::try_from(*number).unwrap_or(0);
                }
            }
            _ => return wrong("the last argument is a constant number"),
        }
    }
    let mut when = None;
    if conditional {
        let condition = args.pop();
        if condition.as_ref().is_some_and(|typed| !matches!(typed.ty, Type::Bool | Type::Dynamic)) {
            return wrong("the condition is a bool");
        }
        when = condition.map(|typed| typed.cast(Type::Bool));
    }
    let value = args.pop();
    let ty = value.as_ref().map_or(Type::Long, |typed| typed.ty);
    let (kind, result) = match name.trim_end_matches("if").trim_end_matches('_') {
        "count" => (Kind::Count, Type::Long),
        "dcount" => (Kind::DistinctCount, Type::Long),
        "sum" if ty == Type::Real => (Kind::Sum, Type::Real),
        "sum" if ty.is_number() => (Kind::Sum, Type::Long),
        "sum" if ty == Type::TimeSpan => (Kind::Sum, Type::TimeSpan),
        "sum" => return wrong("a number is wanted"),
        "avg" if ty.is_number() => (Kind::Average, Type::Real),
        "avg" => return wrong("a number is wanted"),
        "min" | "max" if ty == Type::Dynamic => return wrong("a dynamic value has no order"),
        "min" => (Kind::Min, ty),
        "max" => (Kind::Max, ty),
        "make_set" | "makeset" => (Kind::Set, Type::Dynamic),
        "make_list" | "makelist" => (Kind::List, Type::Dynamic),
        _ => (Kind::Any, ty),
    };
    let value = match (kind, value) {
        (Kind::Average, Some(value)) => Some(value.cast(Type::Real)),
        (_, value) => value,
    };
    Ok((Aggregate { kind, value, when, limit }, result))
}

/// What an aggregate has gathered so far.
#[derive(Debug)]
pub(super) struct Gathered {
    count: i64,
    sum: Option<Value>,
    seen: HashSet<Vec<u8>>,
    items: Vec<Json>,
}

impl Aggregate {
    pub(super) fn start(&self) -> Gathered {
        Gathered { count: 0, sum: None, seen: HashSet::new(), items: Vec::new() }
    }

    pub(super) fn add(&self, row: &Row, gathered: &mut Gathered) {
        if self.when.as_ref().is_some_and(|when| !when.holds(row)) {
            return;
        }
        let value = match &self.value {
            Some(value) => value.eval(row),
            None => Value::Bool(true),
        };
        if value.is_null() && self.kind != Kind::Any {
            return;
        }
        gathered.count += 1;
        match self.kind {
            Kind::Count => {}
            Kind::DistinctCount => {
                let mut key = Vec::new();
                value.key(&mut key);
                gathered.seen.insert(key);
            }
            Kind::Sum | Kind::Average => {
                gathered.sum = Some(match (gathered.sum.take(), value) {
                    (Some(Value::Long(a)), Value::Long(b)) => Value::Long(a.wrapping_add(b)),
                    (Some(Value::Span(a)), Value::Span(b)) => Value::Span(a.wrapping_add(b)),
                    (Some(Value::Real(a)), Value::Real(b)) => Value::Real(a + b),
                    (_, value) => value,
                });
            }
            Kind::Min | Kind::Max => {
                let wanted =
                    if self.kind == Kind::Min { Ordering::Less } else { Ordering::Greater };
                if gathered.sum.as_ref().is_none_or(|best| value.compare(best) == Some(wanted)) {
                    gathered.sum = Some(value);
                }
            }
            Kind::Any => {
                if gathered.sum.as_ref().is_none_or(Value::is_null) {
                    gathered.sum = Some(value);
                }
            }
            Kind::List => {
                if gathered.items.len() < self.limit {
                    gathered.items.push(value.to_json());
                }
            }
            Kind::Set => {
                let mut key = Vec::new();
                value.key(&mut key);
                if gathered.items.len() < self.limit && gathered.seen.insert(key) {
                    gathered.items.push(value.to_json());
                }
            }
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "an average")]
    pub(super) fn finish(&self, gathered: Gathered) -> Value {
        match self.kind {
            Kind::Count => Value::Long(gathered.count),
            Kind::DistinctCount => {
                i64::try_from(gathered.seen.len()).map_or(Value::Null, Value::Long)
            }
            Kind::Sum => gathered.sum.unwrap_or_else(|| match &self.value {
                Some(value) if value.ty == Type::Real => Value::Real(0.0),
                Some(value) if value.ty == Type::TimeSpan => Value::Span(0),
                _ => Value::Long(0),
            }),
            Kind::Average => match gathered.sum {
                Some(Value::Real(sum)) => Value::Real(sum / gathered.count as f64),
                _ => Value::Null,
            },
            Kind::Min | Kind::Max | Kind::Any => gathered.sum.unwrap_or_else(|| {
                Value::nothing(self.value.as_ref().map_or(Type::Dynamic, |value| value.ty))
            }),
            Kind::Set | Kind::List => Value::json(Json::Array(gathered.items)),
        }
    }
}

/// A key to group by: anything but dynamic.
pub(super) fn group_key(at: usize, typed: Typed) -> Tried<Typed> {
    if typed.ty == Type::Dynamic {
        return Err(Fault::semantic(
            at,
            "A key is of a 'dynamic' type. Please use an explicit cast (for example, tostring())",
        ));
    }
    Ok(typed)
}
