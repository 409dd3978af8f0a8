//! Evaluates a bound expression on a row. Nothing here can fail: what has no value is null, with the three-valued
//! logic of the language.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::sync::Arc;

use serde_json::Value as Json;

use super::bind::Typed;
use super::function::{self, Function};
use super::tables::Row;
use super::value::Value;
use crate::domain::Ticks;

/// A node of a bound expression.
#[derive(Debug, Clone)]
pub(super) enum Node {
    Const(Value),
    Column(usize),
    /// When the row came in.
    Ingested,
    And(Vec<Typed>),
    Or(Vec<Typed>),
    Minus(Box<Typed>),
    Index(Box<Typed>, Box<Typed>),
    Arithmetic(char, Box<Typed>, Box<Typed>),
    Compare(Comparison, Box<Typed>, Box<Typed>),
    Text {
        matcher: TextMatch,
        negated: bool,
        left: Box<Typed>,
        right: Box<Typed>,
    },
    In {
        negated: bool,
        fold: bool,
        value: Box<Typed>,
        set: Arc<HashSet<Vec<u8>>>,
    },
    HasAmong {
        all: bool,
        value: Box<Typed>,
        needles: Vec<Arc<str>>,
    },
    Call(Function, Vec<Typed>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    Unequal,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

impl Comparison {
    pub(super) fn from_mark(mark: &str) -> Option<Self> {
        Some(match mark {
            "==" => Self::Equal,
            "!=" => Self::Unequal,
            "<" => Self::Less,
            "<=" => Self::AtMost,
            ">" => Self::Greater,
            ">=" => Self::AtLeast,
            _ => return None,
        })
    }

    /// Two nulls compare to null; a null and a value are unequal, and have no order.
    fn of(self, left: &Value, right: &Value) -> Value {
        let one_null = left.is_null() != right.is_null();
        match (left.compare(right), self) {
            (Some(order), _) => Value::Bool(match self {
                Self::Equal => order == Ordering::Equal,
                Self::Unequal => order != Ordering::Equal,
                Self::Less => order == Ordering::Less,
                Self::AtMost => order != Ordering::Greater,
                Self::Greater => order == Ordering::Greater,
                Self::AtLeast => order != Ordering::Less,
            }),
            (None, Self::Equal) if one_null => Value::Bool(false),
            (None, Self::Unequal) if one_null => Value::Bool(true),
            (None, _) => Value::Null,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TextMatch {
    Equals,
    Has,
    HasCase,
    Contains,
    ContainsCase,
    Starts,
    StartsCase,
    Ends,
    EndsCase,
}

impl TextMatch {
    pub(super) fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "has" => Self::Has,
            "has_cs" => Self::HasCase,
            "contains" => Self::Contains,
            "contains_cs" => Self::ContainsCase,
            "startswith" => Self::Starts,
            "startswith_cs" => Self::StartsCase,
            "endswith" => Self::Ends,
            "endswith_cs" => Self::EndsCase,
            _ => return None,
        })
    }

    fn of(self, text: &str, needle: &str) -> bool {
        match self {
            Self::HasCase => has(text, needle),
            Self::ContainsCase => text.contains(needle),
            Self::StartsCase => text.starts_with(needle),
            Self::EndsCase => text.ends_with(needle),
            _ => {
                let (text, needle) = (text.to_lowercase(), needle.to_lowercase());
                match self {
                    Self::Equals => text == needle,
                    Self::Has => has(&text, &needle),
                    Self::Starts => text.starts_with(&needle),
                    Self::Ends => text.ends_with(&needle),
                    _ => text.contains(&needle),
                }
            }
        }
    }
}

/// Whether `needle` is in `text` as a whole term: with no letter or digit right before or after it.
fn has(text: &str, needle: &str) -> bool {
    if needle.is_empty() {
        return true;
    }
    let first = needle.chars().next().is_some_and(char::is_alphanumeric);
    let last = needle.chars().next_back().is_some_and(char::is_alphanumeric);
    text.match_indices(needle).any(|(at, found)| {
        let before = text.get(..at).and_then(|before| before.chars().next_back());
        let after = text.get(at + found.len()..).and_then(|after| after.chars().next());
        let inside_before = first && before.is_some_and(char::is_alphanumeric);
        let inside_after = last && after.is_some_and(char::is_alphanumeric);
        !inside_before && !inside_after
    })
}

impl Typed {
    pub(super) fn eval(&self, row: &Row) -> Value {
        self.node.eval(row)
    }

    /// Whether it is true: null is not.
    pub(super) fn holds(&self, row: &Row) -> bool {
        matches!(self.eval(row), Value::Bool(true))
    }
}

impl Node {
    fn eval(&self, row: &Row) -> Value {
        match self {
            Self::Const(value) => value.clone(),
            Self::Column(at) => row.cell(*at).clone(),
            Self::Ingested => row.ingested.map_or(Value::Null, Value::Time),
            Self::And(terms) => settle(terms, row, false),
            Self::Or(terms) => settle(terms, row, true),
            Self::Minus(inner) => match inner.eval(row) {
                Value::Long(number) => number.checked_neg().map_or(Value::Null, Value::Long),
                Value::Real(real) => Value::Real(-real),
                Value::Span(ticks) => ticks.checked_neg().map_or(Value::Null, Value::Span),
                _ => Value::Null,
            },
            Self::Index(value, index) => member(&value.eval(row), &index.eval(row)),
            Self::Arithmetic(sign, left, right) => {
                arithmetic(*sign, &left.eval(row), &right.eval(row))
            }
            Self::Compare(comparison, left, right) => {
                comparison.of(&left.eval(row), &right.eval(row))
            }
            Self::Text { matcher, negated, left, right } => {
                let (left, right) = (left.eval(row).to_text(), right.eval(row).to_text());
                Value::Bool(matcher.of(&left, &right) != *negated)
            }
            Self::In { negated, fold, value, set } => {
                let value = value.eval(row);
                let mut key = Vec::new();
                if *fold {
                    Value::text(&value.to_text().to_lowercase()).key(&mut key);
                } else {
                    value.key(&mut key);
                }
                Value::Bool(set.contains(&key) != *negated)
            }
            Self::HasAmong { all, value, needles } => {
                let text = value.eval(row).to_text();
                let mut found = needles.iter().map(|needle| TextMatch::Has.of(&text, needle));
                Value::Bool(if *all { found.all(|hit| hit) } else { found.any(|hit| hit) })
            }
            Self::Call(function, arguments) => {
                let values: Vec<Value> =
                    arguments.iter().map(|argument| argument.eval(row)).collect();
                function::call(*function, &values)
            }
        }
    }

    /// Whether its value is the same for every row.
    pub(super) fn children_are_constant(&self) -> bool {
        let all = |children: &[&Typed]| children.iter().all(|child| child.as_constant().is_some());
        match self {
            Self::Const(_) | Self::Column(_) | Self::Ingested => false,
            Self::And(terms) | Self::Or(terms) | Self::Call(_, terms) => {
                terms.iter().all(|term| term.as_constant().is_some())
            }
            Self::Minus(a) | Self::In { value: a, .. } | Self::HasAmong { value: a, .. } => {
                all(&[a])
            }
            Self::Index(a, b)
            | Self::Arithmetic(_, a, b)
            | Self::Compare(_, a, b)
            | Self::Text { left: a, right: b, .. } => all(&[a, b]),
        }
    }

    /// The value of a node whose children are constant.
    pub(super) fn eval_constant(&self) -> Value {
        self.eval(&Row { cells: Arc::new([]), ingested: None })
    }
}

/// `and` (settled by false) and `or` (settled by true) over three values.
fn settle(terms: &[Typed], row: &Row, settled_by: bool) -> Value {
    let mut unknown = false;
    for term in terms {
        match term.eval(row) {
            Value::Bool(truth) if truth == settled_by => return Value::Bool(truth),
            Value::Bool(_) => {}
            _ => unknown = true,
        }
    }
    if unknown { Value::Null } else { Value::Bool(!settled_by) }
}

/// A member of a dynamic value: by name of an object, by place in an array, from the end if negative.
fn member(value: &Value, index: &Value) -> Value {
    let Value::Json(json) = value else { return Value::Null };
    let found = match (&**json, index) {
        (Json::Object(members), Value::Text(name)) => members.get(&**name),
        (Json::Array(items), Value::Long(place)) => {
            let from_end = place.unsigned_abs() as usize;
            let place = if *place < 0 { items.len().checked_sub(from_end) } else { Some(from_end) };
            place.and_then(|place| items.get(place))
        }
        _ => None,
    };
    found.map_or(Value::Null, |json| Value::json(json.clone()))
}

#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "as Kusto does")]
fn arithmetic(sign: char, left: &Value, right: &Value) -> Value {
    let longs = |a: i64, b: i64| match sign {
        '+' => a.checked_add(b),
        '-' => a.checked_sub(b),
        '*' => a.checked_mul(b),
        '/' => a.checked_div(b),
        _ => a.checked_rem(b),
    };
    let reals = |a: f64, b: f64| match sign {
        '+' => a + b,
        '-' => a - b,
        '*' => a * b,
        '/' => a / b,
        _ => a % b,
    };
    let time = |ticks: Option<i64>| ticks.map_or(Value::Null, |ticks| Value::Time(Ticks(ticks)));
    let span = |ticks: Option<i64>| ticks.map_or(Value::Null, Value::Span);
    match (left, right) {
        (Value::Long(a), Value::Long(b)) => longs(*a, *b).map_or(Value::Null, Value::Long),
        (Value::Long(a), Value::Real(b)) => Value::Real(reals(*a as f64, *b)),
        (Value::Real(a), Value::Long(b)) => Value::Real(reals(*a, *b as f64)),
        (Value::Real(a), Value::Real(b)) => Value::Real(reals(*a, *b)),
        (Value::Time(a), Value::Time(b)) => span(a.0.checked_sub(b.0)),
        (Value::Time(a), Value::Span(b)) => time(longs(a.0, *b)),
        (Value::Span(a), Value::Time(b)) => time(longs(*a, b.0)),
        (Value::Span(a), Value::Span(b)) if sign == '/' => Value::Real(*a as f64 / *b as f64),
        (Value::Span(a), Value::Span(b) | Value::Long(b)) => span(longs(*a, *b)),
        (Value::Long(a), Value::Span(b)) => span(longs(*a, *b)),
        (Value::Span(a), Value::Real(b)) => span(Some(reals(*a as f64, *b) as i64)),
        (Value::Real(a), Value::Span(b)) => span(Some(reals(*a, *b as f64) as i64)),
        _ => Value::Null,
    }
}
