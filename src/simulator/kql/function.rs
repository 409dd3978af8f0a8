//! The scalar functions: which there are, what they take, what they give.

use std::sync::Arc;

use serde_json::{Map, Value as Json};

use super::bind::{Typed, text_operand};
use super::calendar::{self, Start};
use super::error::{Fault, Tried};
use super::timespan::DAY;
use super::value::{Type, Value};
use crate::domain::Ticks;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Cast(Type),
    Not,
    ParseJson,
    Bin,
    Lower,
    Upper,
    Split,
    Concat,
    Length,
    Substring,
    If,
    Case,
    Coalesce,
    IsEmpty,
    IsNotEmpty,
    IsNull,
    IsNotNull,
    Hash,
    FormatTime,
    StartOf(Start),
    SetHas,
    ArrayLength,
    JoinArray,
    PackArray,
    Pack,
    Keys,
    Round,
    Abs,
    Replace,
}

/// The function `name` for these arguments: with them made to fit, and what it gives.
pub(super) fn resolve(
    at: usize,
    name: &str,
    mut args: Vec<Typed>,
) -> Tried<(Function, Vec<Typed>, Type)> {
    let count = args.len();
    let arity = |low: usize, high: usize| {
        if (low..=high).contains(&count) {
            Ok(())
        } else {
            let wanted = if low == high { format!("{low}") } else { format!("{low} or more") };
            Err(Fault::semantic(at, format!("{name}(): takes {wanted} argument(s), found {count}")))
        }
    };
    let texts = |args: Vec<Typed>| -> Tried<Vec<Typed>> {
        args.into_iter().map(|arg| text_operand(at, arg)).collect()
    };
    let any = usize::MAX;
    let (function, ty) = match name {
        "tostring" => (Function::Cast(Type::Text), Type::Text),
        "toint" => (Function::Cast(Type::Int), Type::Int),
        "tolong" => (Function::Cast(Type::Long), Type::Long),
        "toreal" | "todouble" => (Function::Cast(Type::Real), Type::Real),
        "tobool" | "toboolean" => (Function::Cast(Type::Bool), Type::Bool),
        "todatetime" => (Function::Cast(Type::DateTime), Type::DateTime),
        "totimespan" => (Function::Cast(Type::TimeSpan), Type::TimeSpan),
        "not" => {
            arity(1, 1)?;
            if args.iter().any(|arg| !matches!(arg.ty, Type::Bool | Type::Dynamic)) {
                return Err(Fault::semantic(at, "not(): a bool is wanted here"));
            }
            args = args.into_iter().map(|arg| arg.cast(Type::Bool)).collect();
            (Function::Not, Type::Bool)
        }
        "parse_json" | "todynamic" | "parsejson" => {
            arity(1, 1)?;
            (Function::ParseJson, Type::Dynamic)
        }
        "bin" | "floor" => {
            arity(2, 2)?;
            let ty = match args.as_slice() {
                [a, b] if a.ty == Type::DateTime && b.ty == Type::TimeSpan => Type::DateTime,
                [a, b] if a.ty == Type::TimeSpan && b.ty == Type::TimeSpan => Type::TimeSpan,
                [a, b] if a.ty.is_number() && b.ty.is_number() => {
                    if a.ty == Type::Real || b.ty == Type::Real { Type::Real } else { a.ty }
                }
                _ => return Err(Fault::semantic(at, "bin(): the types do not fit each other")),
            };
            (Function::Bin, ty)
        }
        "tolower" | "toupper" => {
            arity(1, 1)?;
            args = texts(args)?;
            (if name == "tolower" { Function::Lower } else { Function::Upper }, Type::Text)
        }
        "split" => {
            arity(2, 3)?;
            let index = if count == 3 { args.pop() } else { None };
            args = texts(args)?;
            args.extend(index);
            (Function::Split, Type::Dynamic)
        }
        "strcat" => {
            arity(1, any)?;
            args = args.into_iter().map(|arg| arg.cast(Type::Text)).collect();
            (Function::Concat, Type::Text)
        }
        "strlen" => {
            arity(1, 1)?;
            args = texts(args)?;
            (Function::Length, Type::Long)
        }
        "substring" => {
            arity(2, 3)?;
            args = args
                .into_iter()
                .enumerate()
                .map(|(place, arg)| arg.cast(if place == 0 { Type::Text } else { Type::Long }))
                .collect();
            (Function::Substring, Type::Text)
        }
        "replace_string" => {
            arity(3, 3)?;
            args = texts(args)?;
            (Function::Replace, Type::Text)
        }
        "iff" | "iif" | "case" => {
            let odd = count % 2 == 1;
            if name == "case" {
                arity(3, any)?
            } else {
                arity(3, 3)?
            }
            if !odd {
                return Err(Fault::semantic(
                    at,
                    "case(): pairs of condition and value, then an else",
                ));
            }
            let last = count - 1;
            let is_condition = |place: usize| place.is_multiple_of(2) && place != last;
            let values = args.iter().enumerate().filter(|(place, _)| !is_condition(*place));
            let ty = common(at, name, values.map(|(_, arg)| arg))?;
            let mut fitted = Vec::with_capacity(count);
            for (place, arg) in args.into_iter().enumerate() {
                if !is_condition(place) {
                    fitted.push(arg.cast(ty));
                } else if matches!(arg.ty, Type::Bool | Type::Dynamic) {
                    fitted.push(arg.cast(Type::Bool));
                } else {
                    let word = arg.ty.kql_word();
                    return Err(Fault::semantic(
                        at,
                        format!("{name}(): a bool is wanted, this is a {word}"),
                    ));
                }
            }
            args = fitted;
            (if name == "case" { Function::Case } else { Function::If }, ty)
        }
        "coalesce" => {
            arity(2, any)?;
            let ty = common(at, name, args.iter())?;
            args = args.into_iter().map(|arg| arg.cast(ty)).collect();
            (Function::Coalesce, ty)
        }
        "isempty" | "isnotempty" | "notempty" | "isnull" | "isnotnull" | "notnull" => {
            arity(1, 1)?;
            let function = match name {
                "isempty" => Function::IsEmpty,
                "isnull" => Function::IsNull,
                "isnotempty" | "notempty" => Function::IsNotEmpty,
                _ => Function::IsNotNull,
            };
            (function, Type::Bool)
        }
        "hash" => {
            arity(1, 2)?;
            (Function::Hash, Type::Long)
        }
        "format_datetime" => {
            arity(2, 2)?;
            if args.first().is_none_or(|arg| arg.ty != Type::DateTime) {
                return Err(Fault::semantic(at, "format_datetime(): a datetime is wanted first"));
            }
            (Function::FormatTime, Type::Text)
        }
        "startofday" | "startofweek" | "startofmonth" | "startofyear" => {
            arity(1, 2)?;
            if args.first().is_none_or(|arg| arg.ty != Type::DateTime) {
                return Err(Fault::semantic(at, format!("{name}(): a datetime is wanted")));
            }
            let start = match name {
                "startofday" => Start::Day,
                "startofweek" => Start::Week,
                "startofmonth" => Start::Month,
                _ => Start::Year,
            };
            (Function::StartOf(start), Type::DateTime)
        }
        "set_has_element" => {
            arity(2, 2)?;
            (Function::SetHas, Type::Bool)
        }
        "array_length" => {
            arity(1, 1)?;
            (Function::ArrayLength, Type::Long)
        }
        "strcat_array" => {
            arity(2, 2)?;
            (Function::JoinArray, Type::Text)
        }
        "pack_array" => (Function::PackArray, Type::Dynamic),
        "bag_pack" | "pack" => {
            if count % 2 == 1 {
                return Err(Fault::semantic(at, format!("{name}(): pairs of name and value")));
            }
            (Function::Pack, Type::Dynamic)
        }
        "bag_keys" => {
            arity(1, 1)?;
            (Function::Keys, Type::Dynamic)
        }
        "round" => {
            arity(1, 2)?;
            args = args
                .into_iter()
                .enumerate()
                .map(|(place, arg)| arg.cast(if place == 0 { Type::Real } else { Type::Long }))
                .collect();
            (Function::Round, Type::Real)
        }
        "abs" => {
            arity(1, 1)?;
            let ty = args.first().map_or(Type::Long, |arg| arg.ty);
            if !ty.is_number() && ty != Type::TimeSpan {
                return Err(Fault::semantic(at, "abs(): a number is wanted"));
            }
            (Function::Abs, ty)
        }
        "trim" => return Err(Fault::unsupported(at, "The function 'trim' (a regular expression)")),
        other => {
            let other: String = other.chars().take(80).collect();
            return Err(Fault::semantic(at, format!("Unknown function: '{other}'")));
        }
    };
    if matches!(function, Function::Cast(_)) {
        arity(1, 1)?;
    }
    Ok((function, args, ty))
}

/// The one type that all of these can be.
fn common<'t>(at: usize, name: &str, args: impl Iterator<Item = &'t Typed>) -> Tried<Type> {
    let mut found: Option<Type> = None;
    for arg in args {
        found = Some(match found {
            None => arg.ty,
            Some(ty) if ty == arg.ty => ty,
            Some(ty) if ty.is_number() && arg.ty.is_number() => {
                if ty == Type::Real || arg.ty == Type::Real { Type::Real } else { Type::Long }
            }
            Some(Type::Dynamic) => Type::Dynamic,
            Some(_) if arg.ty == Type::Dynamic => Type::Dynamic,
            Some(ty) => {
                let (a, b) = (ty.kql_word(), arg.ty.kql_word());
                return Err(Fault::semantic(at, format!("{name}(): the values are {a} and {b}")));
            }
        });
    }
    Ok(found.unwrap_or(Type::Dynamic))
}

/// What `function` gives for these values, which have the types that [`resolve`] made them have.
pub(super) fn call(function: Function, args: &[Value]) -> Value {
    let arg = |place: usize| args.get(place).unwrap_or(&Value::Null);
    let first = arg(0);
    match function {
        Function::Cast(ty) => first.cast(ty),
        Function::Not => match first {
            Value::Bool(truth) => Value::Bool(!truth),
            _ => Value::Null,
        },
        Function::ParseJson => match first {
            Value::Text(text) if text.trim().is_empty() => Value::Null,
            Value::Text(text) => Value::json(
                serde_json::from_str(text).unwrap_or_else(|_| Json::String(text.to_string())),
            ),
            other => other.cast(Type::Dynamic),
        },
        Function::Bin => bin(first, arg(1)),
        Function::Lower => Value::text(&first.to_text().to_lowercase()),
        Function::Upper => Value::text(&first.to_text().to_uppercase()),
        Function::Split => split(&first.to_text(), &arg(1).to_text(), args.get(2)),
        Function::Concat => {
            let mut whole = String::new();
            for value in args {
                whole.push_str(&value.to_text());
            }
            Value::Text(whole.into())
        }
        Function::Length => number(first.to_text().chars().count()),
        Function::Substring => substring(&first.to_text(), arg(1), args.get(2)),
        Function::Replace => {
            let (from, to) = (arg(1).to_text(), arg(2).to_text());
            if from.is_empty() {
                first.clone()
            } else {
                Value::text(&first.to_text().replace(&*from, &to))
            }
        }
        Function::If | Function::Case => {
            let mut rest = args;
            while let [condition, value, more @ ..] = rest {
                if matches!(condition, Value::Bool(true)) {
                    return value.clone();
                }
                rest = more;
            }
            rest.first().cloned().unwrap_or(Value::Null)
        }
        Function::Coalesce => {
            let filled = |value: &&Value| !matches!(value, Value::Null) && !is_empty_text(value);
            args.iter().find(filled).or(args.last()).cloned().unwrap_or(Value::Null)
        }
        Function::IsEmpty => Value::Bool(is_empty(first)),
        Function::IsNotEmpty => Value::Bool(!is_empty(first)),
        Function::IsNull => Value::Bool(first.is_null()),
        Function::IsNotNull => Value::Bool(!first.is_null()),
        Function::Hash => hash(first, args.get(1)),
        Function::FormatTime => match first {
            Value::Time(ticks) => Value::text(&calendar::format(*ticks, &arg(1).to_text())),
            _ => Value::text(""),
        },
        Function::StartOf(start) => match (first, args.get(1)) {
            (Value::Time(ticks), None) => Value::Time(calendar::start_of(start, *ticks, 0)),
            (Value::Time(ticks), Some(Value::Long(offset))) => {
                Value::Time(calendar::start_of(start, *ticks, *offset))
            }
            _ => Value::Null,
        },
        Function::SetHas => match first {
            Value::Json(json) => json
                .as_array()
                .map_or(Value::Null, |items| Value::Bool(items.contains(&arg(1).to_json()))),
            _ => Value::Null,
        },
        Function::ArrayLength => match first {
            Value::Json(json) => json.as_array().map_or(Value::Null, |items| number(items.len())),
            _ => Value::Null,
        },
        Function::JoinArray => match first {
            Value::Json(json) => {
                let items = json.as_array().map(Vec::as_slice).unwrap_or_default();
                let texts: Vec<Arc<str>> =
                    items.iter().map(|item| Value::json(item.clone()).to_text()).collect();
                Value::text(&texts.join(&*arg(1).to_text()))
            }
            _ => Value::text(""),
        },
        Function::PackArray => Value::json(Json::Array(args.iter().map(Value::to_json).collect())),
        Function::Pack => {
            let mut members = Map::new();
            for pair in args.chunks_exact(2) {
                if let [name, value] = pair {
                    members.insert(name.to_text().to_string(), value.to_json());
                }
            }
            Value::json(Json::Object(members))
        }
        Function::Keys => match first {
            Value::Json(json) => json.as_object().map_or(Value::Null, |members| {
                Value::json(members.keys().cloned().map(Json::String).collect())
            }),
            _ => Value::Null,
        },
        Function::Round => match (first, arg(1)) {
            (Value::Real(real), digits) => {
                let digits = if let Value::Long(digits) = digits { *digits } else { 0 };
                let scale = 10_f64.powi(i32::try_from(digits.clamp(-300, 300)).unwrap_or(0));
                Value::Real((real * scale).round() / scale)
            }
            _ => Value::Null,
        },
        Function::Abs => match first {
            Value::Long(number) => number.checked_abs().map_or(Value::Null, Value::Long),
            Value::Span(ticks) => ticks.checked_abs().map_or(Value::Null, Value::Span),
            Value::Real(real) => Value::Real(real.abs()),
            _ => Value::Null,
        },
    }
}

fn number(count: usize) -> Value {
    i64::try_from(count).map_or(Value::Null, Value::Long)
}

fn is_empty_text(value: &Value) -> bool {
    matches!(value, Value::Text(text) if text.is_empty())
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value.to_text().is_empty()
}

/// Rounded down to a multiple of `step`; times count from the year 1, so that weeks begin on Mondays.
#[expect(clippy::cast_precision_loss, reason = "binning a real")]
pub(super) fn bin(value: &Value, step: &Value) -> Value {
    const EPOCH: i64 = 719_162 * DAY;
    let down = |number: i64, step: i64| {
        if step <= 0 { None } else { number.div_euclid(step).checked_mul(step) }
    };
    let found = match (value, step) {
        (Value::Time(ticks), Value::Span(step)) => ticks
            .0
            .checked_add(EPOCH)
            .and_then(|ticks| down(ticks, *step))
            .map(|ticks| Value::Time(Ticks(ticks.saturating_sub(EPOCH)))),
        (Value::Span(ticks), Value::Span(step)) => down(*ticks, *step).map(Value::Span),
        (Value::Long(number), Value::Long(step)) => down(*number, *step).map(Value::Long),
        (Value::Long(number), Value::Real(step)) if *step > 0.0 => {
            Some(Value::Real((*number as f64 / step).floor() * step))
        }
        (Value::Real(number), Value::Real(step)) if *step > 0.0 => {
            Some(Value::Real((number / step).floor() * step))
        }
        (Value::Real(number), Value::Long(step)) if *step > 0 => {
            let step = *step as f64;
            Some(Value::Real((number / step).floor() * step))
        }
        _ => None,
    };
    found.unwrap_or(Value::Null)
}

fn split(text: &str, separator: &str, index: Option<&Value>) -> Value {
    let parts: Vec<&str> =
        if separator.is_empty() { vec![text] } else { text.split(separator).collect() };
    let parts = match index {
        Some(Value::Long(place)) => {
            let part = usize::try_from(*place).ok().and_then(|place| parts.get(place).copied());
            part.into_iter().collect()
        }
        _ => parts,
    };
    Value::json(parts.into_iter().map(|part| Json::String(part.to_owned())).collect())
}

fn substring(text: &str, start: &Value, length: Option<&Value>) -> Value {
    let Value::Long(start) = start else { return Value::text("") };
    let count = text.chars().count();
    let start = if *start < 0 {
        count.saturating_sub(usize::try_from(start.unsigned_abs()).unwrap_or(count))
    } else {
        usize::try_from(*start).unwrap_or(count)
    };
    let length = match length {
        Some(Value::Long(length)) => usize::try_from(*length).unwrap_or(0),
        Some(_) => 0,
        None => count,
    };
    Value::Text(text.chars().skip(start).take(length).collect::<String>().into())
}

/// Evenly spread and always the same; not the far end's own function, which nobody may rely on.
fn hash(value: &Value, modulus: Option<&Value>) -> Value {
    let mut key = Vec::new();
    value.key(&mut key);
    let mut state = 0xcbf2_9ce4_8422_2325_u64;
    for byte in key {
        state = (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^= state >> 31;
    let positive = i64::try_from(state >> 1).unwrap_or(0);
    match modulus {
        None => Value::Long(positive),
        Some(Value::Long(modulus)) if *modulus > 0 => Value::Long(positive % modulus),
        Some(_) => Value::Null,
    }
}
