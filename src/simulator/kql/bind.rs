//! Resolves the names of an expression and checks its types, against the columns at hand. What comes out can be
//! evaluated on a row without any further error.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::Value as Json;

use super::aggregate::{self, Aggregate};
use super::ast::{Expr, ExprKind, Pipeline};
use super::error::{Fault, Tried};
use super::eval::{Comparison, Node, TextMatch};
use super::function::{self, Function};
use super::run::{Bound as LetBound, Runner};
use super::tables::Column;
use super::value::{Type, Value};

/// An expression that can be evaluated.
#[derive(Debug, Clone)]
pub(super) struct Typed {
    pub(super) node: Node,
    pub(super) ty: Type,
}

impl Typed {
    pub(super) const fn constant(value: Value, ty: Type) -> Self {
        Self { node: Node::Const(value), ty }
    }

    pub(super) const fn as_constant(&self) -> Option<&Value> {
        match &self.node {
            Node::Const(value) => Some(value),
            _ => None,
        }
    }

    /// The same as another type.
    pub(super) fn cast(self, ty: Type) -> Self {
        if self.ty == ty {
            return self;
        }
        folded(Node::Call(Function::Cast(ty), vec![self]), ty)
    }
}

/// What names mean here.
pub(super) struct Binder<'a, 'q> {
    pub(super) runner: &'a Runner<'q>,
    pub(super) columns: &'a [Column],
    /// Where aggregates may stand, those found so far: each is a column of a row of results.
    pub(super) aggregates: Option<Vec<Aggregate>>,
}

impl<'a, 'q> Binder<'a, 'q> {
    pub(super) const fn new(runner: &'a Runner<'q>, columns: &'a [Column]) -> Self {
        Self { runner, columns, aggregates: None }
    }

    pub(super) fn bind(&mut self, expr: &Expr) -> Tried<Typed> {
        let at = expr.at;
        match &expr.kind {
            ExprKind::Const(value, ty) => Ok(Typed::constant(value.clone(), *ty)),
            ExprKind::Name(name) => self.name(at, name),
            ExprKind::Star => Err(Fault::syntax(at, "*", "expected an expression")),
            ExprKind::And(terms) => Ok(folded(Node::And(self.truths(terms)?), Type::Bool)),
            ExprKind::Or(terms) => Ok(folded(Node::Or(self.truths(terms)?), Type::Bool)),
            ExprKind::Minus(inner) => {
                let inner = self.bind(inner)?;
                if !inner.ty.is_number() && inner.ty != Type::TimeSpan {
                    return Err(Fault::semantic(
                        at,
                        format!("Cannot negate a {}", inner.ty.kql_word()),
                    ));
                }
                let ty = inner.ty;
                Ok(folded(Node::Minus(Box::new(inner)), ty))
            }
            ExprKind::Index(value, index) => {
                let (value, index) = (self.bind(value)?, self.bind(index)?);
                if value.ty != Type::Dynamic {
                    let word = value.ty.kql_word();
                    return Err(Fault::semantic(
                        at,
                        format!("A {word} has no members: parse_json() makes it dynamic"),
                    ));
                }
                if !matches!(index.ty, Type::Text | Type::Int | Type::Long) {
                    return Err(Fault::semantic(at, "An index is a string or a number"));
                }
                Ok(folded(Node::Index(Box::new(value), Box::new(index)), Type::Dynamic))
            }
            ExprKind::Arithmetic(sign, left, right) => {
                let (left, right) = (self.bind(left)?, self.bind(right)?);
                let ty = arithmetic(at, *sign, left.ty, right.ty)?;
                Ok(folded(Node::Arithmetic(*sign, Box::new(left), Box::new(right)), ty))
            }
            ExprKind::Compare(operator, left, right) => {
                let (left, right) = (self.bind(left)?, self.bind(right)?);
                compare(at, operator, left, right)
            }
            ExprKind::Between { negated, value, low, high } => {
                let value = self.bind(value)?;
                let (low, mut high) = (self.bind(low)?, self.bind(high)?);
                if value.ty == Type::DateTime && high.ty == Type::TimeSpan {
                    let sum = Node::Arithmetic('+', Box::new(low.clone()), Box::new(high));
                    high = folded(sum, Type::DateTime);
                }
                let above = compare(at, ">=", value.clone(), low)?;
                let below = compare(at, "<=", value, high)?;
                let inside = folded(Node::And(vec![above, below]), Type::Bool);
                Ok(if *negated { not(inside) } else { inside })
            }
            ExprKind::Among { operator, value, list } => {
                let value = self.bind(value)?;
                self.among(at, operator, value, list)
            }
            ExprKind::Table(table) => self.scalar_of(table),
            ExprKind::Call(name, arguments) => self.call(at, name, arguments),
        }
    }

    /// An expression that says yes or no.
    pub(super) fn truth(&mut self, expr: &Expr) -> Tried<Typed> {
        let typed = self.bind(expr)?;
        match typed.ty {
            Type::Bool => Ok(typed),
            Type::Dynamic => Ok(typed.cast(Type::Bool)),
            other => {
                let word = other.kql_word();
                Err(Fault::semantic(expr.at, format!("A bool is wanted here, this is a {word}")))
            }
        }
    }

    fn truths(&mut self, exprs: &[Expr]) -> Tried<Vec<Typed>> {
        exprs.iter().map(|expr| self.truth(expr)).collect()
    }

    fn name(&mut self, at: usize, name: &str) -> Tried<Typed> {
        if self.aggregates.is_none()
            && let Some(place) = self.columns.iter().position(|column| &*column.name == name)
        {
            let ty = self.columns.get(place).map_or(Type::Dynamic, |column| column.ty);
            return Ok(Typed { node: Node::Column(place), ty });
        }
        match self.runner.bound(name) {
            Some(LetBound::Scalar(value, ty)) => Ok(Typed::constant(value.clone(), *ty)),
            Some(LetBound::Table(_)) => {
                Err(Fault::semantic(at, format!("'{name}' is a table; a scalar is wanted here")))
            }
            None if self.columns.iter().any(|column| &*column.name == name) => {
                Err(Fault::semantic(at, format!("'{name}' must be inside an aggregate")))
            }
            None => Err(Fault::unresolved(at, name)),
        }
    }

    fn scalar_of(&mut self, table: &Pipeline) -> Tried<Typed> {
        let relation = self.runner.pipeline(table)?;
        let ty = relation.columns.first().map_or(Type::Dynamic, |column| column.ty);
        let value = relation.rows.first().map_or(Value::nothing(ty), |row| row.cell(0).clone());
        Ok(Typed::constant(value, ty))
    }

    fn call(&mut self, at: usize, name: &str, arguments: &[Expr]) -> Tried<Typed> {
        if aggregate::is_aggregate(name) {
            if self.aggregates.is_none() {
                return Err(Fault::semantic(
                    at,
                    format!("The aggregate {name}() cannot stand here"),
                ));
            }
            let mut inside = Binder::new(self.runner, self.columns);
            let bound: Vec<Typed> =
                arguments.iter().map(|argument| inside.bind(argument)).collect::<Tried<_>>()?;
            let (aggregate, ty) = aggregate::resolve(at, name, bound)?;
            let found = self.aggregates.get_or_insert_default();
            found.push(aggregate);
            return Ok(Typed { node: Node::Column(found.len() - 1), ty });
        }
        if name == "toscalar" {
            return match arguments {
                [one] => self.bind(one),
                _ => Err(Fault::semantic(at, "toscalar() takes one tabular expression")),
            };
        }
        if name == "ingestion_time" && arguments.is_empty() {
            return Ok(Typed { node: Node::Ingested, ty: Type::DateTime });
        }
        if matches!(name, "now" | "ago") {
            let now = Typed::constant(Value::Time(self.runner.now), Type::DateTime);
            return match (name, arguments) {
                ("now", []) => Ok(now),
                (_, [offset]) => {
                    let offset = self.bind(offset)?;
                    let sign = if name == "now" { '+' } else { '-' };
                    let ty = arithmetic(at, sign, Type::DateTime, offset.ty)?;
                    if ty != Type::DateTime {
                        return Err(Fault::semantic(at, format!("{name}() takes a timespan")));
                    }
                    Ok(folded(Node::Arithmetic(sign, Box::new(now), Box::new(offset)), ty))
                }
                _ => Err(Fault::semantic(at, format!("{name}() takes a timespan"))),
            };
        }
        let mut bound = Vec::with_capacity(arguments.len());
        for argument in arguments {
            bound.push(self.bind(argument)?);
        }
        let (function, arguments, ty) = function::resolve(at, name, bound)?;
        Ok(folded(Node::Call(function, arguments), ty))
    }

    /// `in`, `in~`, `has_any`, `has_all` and their negations.
    fn among(&mut self, at: usize, operator: &str, value: Typed, list: &[Expr]) -> Tried<Typed> {
        let mut members: Vec<Typed> = Vec::new();
        for expr in list {
            let table = match &expr.kind {
                ExprKind::Table(table) => Some(Arc::new(self.runner.pipeline(table)?)),
                ExprKind::Name(name) if !self.columns.iter().any(|c| *c.name == **name) => {
                    match self.runner.bound(name) {
                        Some(LetBound::Table(relation)) => Some(Arc::clone(relation)),
                        _ => None,
                    }
                }
                _ => None,
            };
            if let Some(table) = table {
                let ty = table.columns.first().map_or(Type::Dynamic, |column| column.ty);
                members
                    .extend(table.rows.iter().map(|row| Typed::constant(row.cell(0).clone(), ty)));
                continue;
            }
            let member = self.bind(expr)?;
            match member.as_constant() {
                Some(Value::Json(json)) if json.is_array() => {
                    for item in json.as_array().into_iter().flatten() {
                        members.push(plain(item));
                    }
                }
                _ => members.push(member),
            }
        }
        if matches!(operator, "has_any" | "has_all") {
            let value = text_operand(at, value)?;
            let mut needles = Vec::new();
            for member in members {
                match member.as_constant() {
                    Some(needle) => needles.push(needle.to_text()),
                    None => return Err(Fault::unsupported(at, "A list that is not constant")),
                }
            }
            let all = operator == "has_all";
            return Ok(folded(Node::HasAmong { all, value: Box::new(value), needles }, Type::Bool));
        }
        let negated = operator.starts_with('!');
        let fold = operator.ends_with('~');
        if fold && !matches!(value.ty, Type::Text | Type::Dynamic) {
            return Err(Fault::semantic(at, format!("'{operator}' compares strings")));
        }
        if members.iter().any(|member| member.as_constant().is_none()) {
            let equals = if fold { "=~" } else { "==" };
            let terms: Vec<Typed> = members
                .into_iter()
                .map(|member| compare(at, equals, value.clone(), member))
                .collect::<Tried<_>>()?;
            let any = folded(Node::Or(terms), Type::Bool);
            return Ok(if negated { not(any) } else { any });
        }
        let ty = match value.ty {
            Type::Dynamic => members.first().map_or(Type::Text, |member| member.ty),
            other => other,
        };
        let ty = if ty == Type::Dynamic { Type::Text } else { ty };
        let mut set = HashSet::with_capacity(members.len());
        for member in members {
            if !comparable(ty, member.ty) {
                return Err(mismatch(at, ty, member.ty));
            }
            let value = member.as_constant().map_or(Value::Null, |constant| constant.cast(ty));
            if !value.is_null() {
                let mut key = Vec::new();
                if fold {
                    Value::text(&value.to_text().to_lowercase()).key(&mut key);
                } else {
                    value.key(&mut key);
                }
                set.insert(key);
            }
        }
        let value = Box::new(value.cast(ty));
        Ok(folded(Node::In { negated, fold, value, set: Arc::new(set) }, Type::Bool))
    }
}

/// An item of a dynamic list as the scalar that it is.
fn plain(item: &Json) -> Typed {
    match item {
        Json::String(text) => Typed::constant(Value::text(text), Type::Text),
        Json::Bool(truth) => Typed::constant(Value::Bool(*truth), Type::Bool),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => Typed::constant(Value::Long(whole), Type::Long),
            None => Typed::constant(Value::json(item.clone()).cast(Type::Real), Type::Real),
        },
        other => Typed::constant(Value::json(other.clone()), Type::Dynamic),
    }
}

/// Evaluates at once what depends on no row.
pub(super) fn folded(node: Node, ty: Type) -> Typed {
    let typed = Typed { node, ty };
    if typed.node.children_are_constant() {
        return Typed::constant(typed.node.eval_constant(), ty);
    }
    typed
}

pub(super) fn not(inner: Typed) -> Typed {
    folded(Node::Call(Function::Not, vec![inner]), Type::Bool)
}

/// A string, or something dynamic read as one.
pub(super) fn text_operand(at: usize, value: Typed) -> Tried<Typed> {
    match value.ty {
        Type::Text | Type::Dynamic => Ok(value.cast(Type::Text)),
        other => Err(Fault::semantic(
            at,
            format!("A string is wanted here, this is a {}", other.kql_word()),
        )),
    }
}

fn comparable(a: Type, b: Type) -> bool {
    a == b || (a.is_number() && b.is_number()) || a == Type::Dynamic || b == Type::Dynamic
}

fn mismatch(at: usize, a: Type, b: Type) -> Fault {
    let (a, b) = (a.kql_word(), b.kql_word());
    Fault::semantic(
        at,
        format!("Cannot compare values of types {a} and {b}. Try adding explicit casts"),
    )
}

/// `left operator right` with the types made equal.
pub(super) fn compare(at: usize, operator: &str, left: Typed, right: Typed) -> Tried<Typed> {
    let (bare, negated) = match operator.strip_prefix('!') {
        Some(rest) if !matches!(operator, "!=" | "!~") => (rest, true),
        _ => (operator, false),
    };
    if let Some(matcher) = TextMatch::from_word(bare) {
        let (left, right) = (text_operand(at, left)?, text_operand(at, right)?);
        let node = Node::Text { matcher, negated, left: Box::new(left), right: Box::new(right) };
        return Ok(folded(node, Type::Bool));
    }
    if matches!(operator, "=~" | "!~") {
        let (left, right) = (text_operand(at, left)?, text_operand(at, right)?);
        let node = Node::Text {
            matcher: TextMatch::Equals,
            negated: operator == "!~",
            left: Box::new(left),
            right: Box::new(right),
        };
        return Ok(folded(node, Type::Bool));
    }
    let (left, right) = match (left.ty, right.ty) {
        (Type::Dynamic, Type::Dynamic) => return Err(mismatch(at, left.ty, right.ty)),
        (Type::Dynamic, ty) => (left.cast(ty), right),
        (ty, Type::Dynamic) => (left, right.cast(ty)),
        (Type::Bool, Type::Int | Type::Long | Type::Text) => (left, right.cast(Type::Bool)),
        (Type::Int | Type::Long | Type::Text, Type::Bool) => (left.cast(Type::Bool), right),
        (a, b) if comparable(a, b) => (left, right),
        (a, b) => return Err(mismatch(at, a, b)),
    };
    let Some(comparison) = Comparison::from_mark(operator) else {
        return Err(Fault::unsupported(at, &format!("The operator '{operator}'")));
    };
    Ok(folded(Node::Compare(comparison, Box::new(left), Box::new(right)), Type::Bool))
}

fn arithmetic(at: usize, sign: char, left: Type, right: Type) -> Tried<Type> {
    let number = |a: Type, b: Type| {
        if a == Type::Real || b == Type::Real { Type::Real } else { Type::Long }
    };
    Ok(match (sign, left, right) {
        (_, a, b) if a.is_number() && b.is_number() => number(a, b),
        ('+' | '-', Type::DateTime, Type::TimeSpan) | ('+', Type::TimeSpan, Type::DateTime) => {
            Type::DateTime
        }
        ('-', Type::DateTime, Type::DateTime)
        | ('+' | '-' | '%', Type::TimeSpan, Type::TimeSpan) => Type::TimeSpan,
        ('/', Type::TimeSpan, Type::TimeSpan) => Type::Real,
        ('*' | '/', Type::TimeSpan, b) if b.is_number() => Type::TimeSpan,
        ('*', a, Type::TimeSpan) if a.is_number() => Type::TimeSpan,
        (_, a, b) => {
            let (a, b) = (a.kql_word(), b.kql_word());
            return Err(Fault::semantic(
                at,
                format!(
                    "Arithmetic expression cannot be carried-out between {a} and {b} with '{sign}'"
                ),
            ));
        }
    })
}
