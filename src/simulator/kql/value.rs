//! Values and their types: what a cell can hold, how cells compare, and how they look in an answer. Knows no
//! expression and no operator.

use std::cmp::Ordering;
use std::sync::Arc;

use serde_json::Value as Json;

use crate::domain::Ticks;

/// The type of a column or an expression. Known before anything is evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Type {
    /// `bool`
    Bool,
    /// `int`, 32 bits in Kusto
    Int,
    /// `long`
    Long,
    /// `real`
    Real,
    /// `datetime`
    DateTime,
    /// `timespan`
    TimeSpan,
    /// `string`: never null, only empty
    Text,
    /// `dynamic`
    Dynamic,
}

impl Type {
    /// The word in the `schema` of an answer.
    #[must_use]
    pub const fn graph_word(self) -> &'static str {
        match self {
            Self::Bool => "SByte",
            Self::Int => "Int32",
            Self::Long => "Int64",
            Self::Real => "Double",
            Self::DateTime => "DateTime",
            Self::TimeSpan => "TimeSpan",
            Self::Text => "String",
            Self::Dynamic => "Object",
        }
    }

    /// The word in a query and in error messages.
    #[must_use]
    pub const fn kql_word(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Long => "long",
            Self::Real => "real",
            Self::DateTime => "datetime",
            Self::TimeSpan => "timespan",
            Self::Text => "string",
            Self::Dynamic => "dynamic",
        }
    }

    /// By its word in a query.
    pub(super) fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "bool" | "boolean" => Self::Bool,
            "int" => Self::Int,
            "long" => Self::Long,
            "real" | "double" => Self::Real,
            "datetime" | "date" => Self::DateTime,
            "timespan" | "time" => Self::TimeSpan,
            "string" => Self::Text,
            "dynamic" => Self::Dynamic,
            _ => return None,
        })
    }

    pub(super) const fn is_number(self) -> bool {
        matches!(self, Self::Int | Self::Long | Self::Real)
    }
}

/// What one cell holds. A null has no type of its own: its column has.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Null of any type but string.
    Null,
    /// A truth value.
    Bool(bool),
    /// An `int` or a `long`.
    Long(i64),
    /// A `real`.
    Real(f64),
    /// A point in time.
    Time(Ticks),
    /// A length of time in ticks.
    Span(i64),
    /// A string.
    Text(Arc<str>),
    /// JSON that is not null.
    Json(Arc<Json>),
}

impl Value {
    /// A string.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::Text(text.into())
    }

    /// Dynamic content; JSON's null is null.
    #[must_use]
    pub fn json(json: Json) -> Self {
        if json.is_null() { Self::Null } else { Self::Json(Arc::new(json)) }
    }

    /// Reads a cell of a JSON row into a column of type `ty`; what does not fit is null, as when Kusto ingests it.
    #[must_use]
    pub fn from_row(json: &Json, ty: Type) -> Self {
        match (ty, json) {
            (Type::Text, Json::String(text)) => Self::text(text),
            (Type::Text, Json::Null) => Self::text(""),
            (Type::Text, other) => Self::text(&other.to_string()),
            (_, Json::Null) => Self::Null,
            (Type::Dynamic, Json::String(text)) => match serde_json::from_str::<Json>(text) {
                Ok(inner @ (Json::Object(_) | Json::Array(_))) => Self::json(inner),
                _ => Self::json(json.clone()),
            },
            (Type::Dynamic, other) => Self::json(other.clone()),
            (_, Json::String(text)) => Self::text(text).cast(ty),
            (_, other) => Self::json(other.clone()).cast(ty),
        }
    }

    /// The null of `ty`: the empty string for strings.
    #[must_use]
    pub fn nothing(ty: Type) -> Self {
        if ty == Type::Text { Self::text("") } else { Self::Null }
    }

    /// `toX(self)`: null (or "") where it cannot be converted.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "as Kusto does"
    )]
    pub fn cast(&self, ty: Type) -> Self {
        let plain = match self {
            Self::Json(json) => match &**json {
                Json::String(text) => Self::text(text),
                Json::Bool(truth) => Self::Bool(*truth),
                Json::Number(number) => number
                    .as_i64()
                    .map_or_else(|| number.as_f64().map_or(Self::Null, Self::Real), Self::Long),
                _ if ty == Type::Text => return Self::text(&json.to_string()),
                _ if ty == Type::Dynamic => return self.clone(),
                _ => return Self::Null,
            },
            other => other.clone(),
        };
        match (ty, &plain) {
            (Type::Dynamic, _) => match self {
                Self::Json(_) => self.clone(),
                other => Self::json(other.to_json()),
            },
            (Type::Text, value) => Self::text(&value.to_text()),
            (_, Self::Null) => Self::Null,
            (Type::Bool, Self::Bool(_))
            | (Type::Real, Self::Real(_))
            | (Type::DateTime, Self::Time(_))
            | (Type::TimeSpan, Self::Span(_))
            | (Type::Long, Self::Long(_)) => plain,
            (Type::Bool, Self::Long(number)) => Self::Bool(*number != 0),
            (Type::Bool, Self::Text(text)) => match text.trim().to_ascii_lowercase().as_str() {
                "true" | "1" => Self::Bool(true),
                "false" | "0" => Self::Bool(false),
                _ => Self::Null,
            },
            (Type::Int, Self::Long(number)) => {
                if i32::try_from(*number).is_ok() {
                    plain
                } else {
                    Self::Null
                }
            }
            (Type::Int | Type::Long, Self::Bool(truth)) => Self::Long(i64::from(*truth)),
            (Type::Int | Type::Long, Self::Real(real)) => {
                if real.is_finite() {
                    Self::Long(*real as i64).cast(ty)
                } else {
                    Self::Null
                }
            }
            (Type::Int | Type::Long, Self::Text(text)) => match text.trim().parse::<i64>() {
                Ok(number) => Self::Long(number).cast(ty),
                Err(_) => match text.trim().parse::<f64>() {
                    Ok(real) if real.is_finite() => Self::Long(real as i64).cast(ty),
                    _ => Self::Null,
                },
            },
            (Type::Long, Self::Time(ticks)) => Self::Long(ticks.0),
            (Type::Long, Self::Span(ticks)) => Self::Long(*ticks),
            (Type::Real, Self::Long(number)) => Self::Real(*number as f64),
            (Type::Real, Self::Bool(truth)) => Self::Real(f64::from(u8::from(*truth))),
            (Type::Real, Self::Text(text)) => {
                text.trim().parse::<f64>().map_or(Self::Null, Self::Real)
            }
            (Type::DateTime, Self::Text(text)) => Ticks::parse(text).map_or(Self::Null, Self::Time),
            (Type::TimeSpan, Self::Text(text)) => {
                super::timespan::clock(text).map_or(Self::Null, Self::Span)
            }
            _ => Self::Null,
        }
    }

    /// As `tostring` writes it; "" for null.
    #[must_use]
    pub fn to_text(&self) -> Arc<str> {
        match self {
            Self::Null => "".into(),
            Self::Bool(truth) => if *truth { "True" } else { "False" }.into(),
            Self::Long(number) => number.to_string().into(),
            Self::Real(real) => real_text(*real).into(),
            Self::Time(ticks) => stamp(*ticks).into(),
            Self::Span(ticks) => super::timespan::written(*ticks).into(),
            Self::Text(text) => Arc::clone(text),
            Self::Json(json) => match &**json {
                Json::String(text) => text.as_str().into(),
                Json::Bool(truth) => if *truth { "true" } else { "false" }.into(),
                other => other.to_string().into(),
            },
        }
    }

    /// As it is in the rows of an answer: truth as 0 or 1, times with seven digits.
    #[must_use]
    pub fn to_answer(&self) -> Json {
        match self {
            Self::Bool(truth) => Json::from(u8::from(*truth)),
            other => other.to_json(),
        }
    }

    /// As a member of a dynamic value.
    #[must_use]
    pub fn to_json(&self) -> Json {
        match self {
            Self::Null => Json::Null,
            Self::Bool(truth) => Json::Bool(*truth),
            Self::Long(number) => Json::from(*number),
            Self::Real(real) if real.is_finite() => Json::from(*real),
            Self::Json(json) => (**json).clone(),
            other => Json::String(other.to_text().to_string()),
        }
    }

    /// About how many bytes it takes in an answer.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Null => 4,
            Self::Bool(_) => 1,
            Self::Long(_) | Self::Real(_) => 8,
            Self::Time(_) | Self::Span(_) => 30,
            Self::Text(text) => text.len() + 2,
            Self::Json(json) => json_weight(json),
        }
    }

    pub(super) const fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The order of two values of comparable types; `None` where either is null.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "comparing a long with a real is real")]
    pub fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Null, _) | (_, Self::Null) => None,
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            (Self::Long(a), Self::Long(b)) | (Self::Span(a), Self::Span(b)) => Some(a.cmp(b)),
            (Self::Long(a), Self::Real(b)) => (*a as f64).partial_cmp(b),
            (Self::Real(a), Self::Long(b)) => a.partial_cmp(&(*b as f64)),
            (Self::Real(a), Self::Real(b)) => a.partial_cmp(b),
            (Self::Time(a), Self::Time(b)) => Some(a.cmp(b)),
            (Self::Text(a), Self::Text(b)) => Some(a.cmp(b)),
            (Self::Json(a), Self::Json(b)) => (a == b).then_some(Ordering::Equal),
            (Self::Json(_), plain) => self.cast(plain.own_type()).compare(plain),
            (plain, Self::Json(_)) => plain.compare(&other.cast(plain.own_type())),
            _ => None,
        }
    }

    const fn own_type(&self) -> Type {
        match self {
            Self::Bool(_) => Type::Bool,
            Self::Long(_) => Type::Long,
            Self::Real(_) => Type::Real,
            Self::Time(_) => Type::DateTime,
            Self::Span(_) => Type::TimeSpan,
            Self::Text(_) => Type::Text,
            Self::Null | Self::Json(_) => Type::Dynamic,
        }
    }

    /// Bytes that are equal exactly for equal values: a key to group and join by.
    pub(super) fn key(&self, out: &mut Vec<u8>) {
        let mut piece = |mark: u8, bytes: &[u8]| {
            out.push(mark);
            out.extend_from_slice(&bytes.len().to_le_bytes());
            out.extend_from_slice(bytes);
        };
        match self {
            Self::Null => piece(0, &[]),
            Self::Bool(truth) => piece(1, &[u8::from(*truth)]),
            Self::Long(number) => piece(2, &number.to_le_bytes()),
            Self::Real(real) => piece(3, &real.to_bits().to_le_bytes()),
            Self::Time(ticks) => piece(4, &ticks.0.to_le_bytes()),
            Self::Span(ticks) => piece(5, &ticks.to_le_bytes()),
            Self::Text(text) => piece(6, text.as_bytes()),
            Self::Json(json) => piece(7, json.to_string().as_bytes()),
        }
    }
}

fn json_weight(json: &Json) -> usize {
    match json {
        Json::Null | Json::Bool(_) => 4,
        Json::Number(_) => 8,
        Json::String(text) => text.len() + 2,
        Json::Array(items) => items.iter().map(|item| json_weight(item) + 1).sum::<usize>() + 2,
        Json::Object(members) => {
            members.iter().map(|(name, item)| name.len() + 4 + json_weight(item)).sum::<usize>() + 2
        }
    }
}

/// A point in time with all seven digits, as an answer has it.
fn stamp(ticks: Ticks) -> String {
    let text = ticks.to_string();
    if text.contains('.') { text } else { format!("{}.0000000Z", text.trim_end_matches('Z')) }
}

fn real_text(real: f64) -> String {
    if real.is_nan() {
        "NaN".to_owned()
    } else if real.is_infinite() {
        if real > 0.0 { "Infinity" } else { "-Infinity" }.to_owned()
    } else {
        format!("{real:?}")
    }
}
