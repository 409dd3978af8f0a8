//! The grammar of scalar expressions. Precedence from loose to tight: `or`, `and`, comparisons, `+ -`, `* / %`,
//! a sign, member access.

use serde_json::Value as Json;

use super::ast::{Expr, ExprKind};
use super::error::{Fault, Tried};
use super::lexer::Token;
use super::parser::Parser;
use super::timespan;
use super::value::{Type, Value};
use crate::domain::Ticks;

/// How deep a tree may be; a chain such as `a + b + c` is as deep as it is long.
const MAX_DEPTH: usize = 96;

/// Operators that are words.
const TEXT_OPERATORS: [&str; 17] = [
    "has",
    "!has",
    "contains",
    "!contains",
    "startswith",
    "!startswith",
    "endswith",
    "!endswith",
    "has_cs",
    "!has_cs",
    "contains_cs",
    "!contains_cs",
    "startswith_cs",
    "!startswith_cs",
    "endswith_cs",
    "!endswith_cs",
    "matches",
];

const LIST_OPERATORS: [&str; 6] = ["in", "!in", "in~", "!in~", "has_any", "has_all"];

impl Parser {
    pub(super) fn expression(&mut self) -> Tried<Expr> {
        self.enter()?;
        let at = self.at();
        let mut terms = vec![self.conjunction()?];
        while self.eat_word("or") {
            terms.push(self.conjunction()?);
        }
        self.leave();
        Self::several(at, terms, ExprKind::Or)
    }

    fn conjunction(&mut self) -> Tried<Expr> {
        let at = self.at();
        let mut terms = vec![self.comparison()?];
        while self.eat_word("and") {
            terms.push(self.comparison()?);
        }
        Self::several(at, terms, ExprKind::And)
    }

    fn several(at: usize, mut terms: Vec<Expr>, make: fn(Vec<Expr>) -> ExprKind) -> Tried<Expr> {
        match terms.pop() {
            Some(only) if terms.is_empty() => Ok(only),
            Some(last) => {
                terms.push(last);
                let depth = terms.iter().map(|term| term.depth).max().unwrap_or(0);
                node(at, depth, make(terms))
            }
            None => Err(Fault::syntax(at, "", "expected an expression")),
        }
    }

    fn comparison(&mut self) -> Tried<Expr> {
        let value = self.sum()?;
        let at = self.at();
        let operator = match self.peek() {
            Token::Mark(mark @ ("==" | "!=" | "=~" | "!~" | "<" | "<=" | ">" | ">=")) => {
                (*mark).to_owned()
            }
            Token::Word(word) => word.clone(),
            _ => return Ok(value),
        };
        if operator == "matches" {
            return Err(Fault::unsupported(at, "The operator 'matches regex'"));
        }
        if operator == "between" || operator == "!between" {
            self.advance();
            self.expect("(")?;
            let low = self.expression()?;
            self.expect("..")?;
            let high = self.expression()?;
            self.expect(")")?;
            let depth = value.depth.max(low.depth).max(high.depth);
            let negated = operator == "!between";
            let [value, low, high] = [value, low, high].map(Box::new);
            return node(at, depth, ExprKind::Between { negated, value, low, high });
        }
        if LIST_OPERATORS.contains(&operator.as_str()) {
            self.advance();
            let list = self.list()?;
            let depth = list.iter().map(|item| item.depth).max().unwrap_or(0).max(value.depth);
            return node(at, depth, ExprKind::Among { operator, value: Box::new(value), list });
        }
        if matches!(self.peek(), Token::Mark(_)) || TEXT_OPERATORS.contains(&operator.as_str()) {
            self.advance();
            let right = self.sum()?;
            let depth = value.depth.max(right.depth);
            return node(at, depth, ExprKind::Compare(operator, Box::new(value), Box::new(right)));
        }
        if operator.starts_with('!') || operator == "hasprefix" || operator == "hassuffix" {
            return Err(Fault::unsupported(at, &format!("The operator '{operator}'")));
        }
        Ok(value)
    }

    /// `(a, b)`, `(T | project x)`, or a bare name of a list.
    fn list(&mut self) -> Tried<Vec<Expr>> {
        if !self.is("(") {
            return Ok(vec![self.unary()?]);
        }
        self.advance();
        if self.is_tabular() {
            let at = self.at();
            let table = self.pipeline()?;
            self.expect(")")?;
            return Ok(vec![node(at, 0, ExprKind::Table(Box::new(table)))?]);
        }
        let mut items = Vec::new();
        while !self.is(")") {
            items.push(self.expression()?);
            if !self.eat(",") {
                break;
            }
        }
        self.expect(")")?;
        Ok(items)
    }

    fn sum(&mut self) -> Tried<Expr> {
        let mut left = self.product()?;
        loop {
            let sign = match self.peek() {
                Token::Mark("+") => '+',
                Token::Mark("-") => '-',
                _ => return Ok(left),
            };
            left = self.arithmetic(sign, left, Self::product)?;
        }
    }

    fn product(&mut self) -> Tried<Expr> {
        let mut left = self.unary()?;
        loop {
            let sign = match self.peek() {
                Token::Mark("*") => '*',
                Token::Mark("/") => '/',
                Token::Mark("%") => '%',
                _ => return Ok(left),
            };
            left = self.arithmetic(sign, left, Self::unary)?;
        }
    }

    fn arithmetic(
        &mut self,
        sign: char,
        left: Expr,
        next: fn(&mut Self) -> Tried<Expr>,
    ) -> Tried<Expr> {
        let at = self.at();
        self.advance();
        let right = next(self)?;
        let depth = left.depth.max(right.depth);
        node(at, depth, ExprKind::Arithmetic(sign, Box::new(left), Box::new(right)))
    }

    fn unary(&mut self) -> Tried<Expr> {
        let at = self.at();
        if self.eat("-") {
            self.enter()?;
            let inner = self.unary()?;
            self.leave();
            return node(at, inner.depth, ExprKind::Minus(Box::new(inner)));
        }
        if self.eat("+") {
            self.enter()?;
            let inner = self.unary();
            self.leave();
            return inner;
        }
        self.member()
    }

    fn member(&mut self) -> Tried<Expr> {
        let mut value = self.primary()?;
        loop {
            let at = self.at();
            let index = if self.eat(".") {
                if self.eat("[") {
                    let index = self.expression()?;
                    self.expect("]")?;
                    index
                } else {
                    let name = self.name("expected a member")?;
                    node(at, 0, ExprKind::Const(Value::text(&name), Type::Text))?
                }
            } else if self.eat("[") {
                let index = self.expression()?;
                self.expect("]")?;
                index
            } else {
                return Ok(value);
            };
            let depth = value.depth.max(index.depth);
            value = node(at, depth, ExprKind::Index(Box::new(value), Box::new(index)))?;
        }
    }

    fn primary(&mut self) -> Tried<Expr> {
        let at = self.at();
        let leaf = |value: Value, ty: Type| node(at, 0, ExprKind::Const(value, ty));
        match self.peek().clone() {
            Token::Long(number) => {
                self.advance();
                leaf(Value::Long(number), Type::Long)
            }
            Token::Real(number) => {
                self.advance();
                leaf(Value::Real(number), Type::Real)
            }
            Token::Span(ticks) => {
                self.advance();
                leaf(Value::Span(ticks), Type::TimeSpan)
            }
            Token::Text(_) => {
                let mut whole = String::new();
                // Adjacent literals are one string.
                while let Token::Text(text) = self.peek() {
                    whole.push_str(text);
                    self.advance();
                }
                leaf(Value::text(&whole), Type::Text)
            }
            Token::Literal(word, raw) => {
                let (value, ty) = literal(at, &word, &raw)?;
                self.advance();
                leaf(value, ty)
            }
            Token::Word(word) if word == "true" || word == "false" => {
                self.advance();
                leaf(Value::Bool(word == "true"), Type::Bool)
            }
            Token::Word(word) if !word.starts_with(['!', '$']) => {
                self.advance();
                if self.is("(") { self.call(at, word) } else { node(at, 0, ExprKind::Name(word)) }
            }
            Token::Mark("[") => {
                let name = self.name("expected a column as ['name']")?;
                node(at, 0, ExprKind::Name(name))
            }
            Token::Mark("(") => {
                self.advance();
                let inner = self.expression()?;
                self.expect(")")?;
                Ok(inner)
            }
            _ => Err(self.wrong("expected an expression")),
        }
    }

    fn call(&mut self, at: usize, name: String) -> Tried<Expr> {
        self.expect("(")?;
        let mut arguments = Vec::new();
        if name == "toscalar" {
            let inner = self.at();
            let table = self.pipeline()?;
            arguments.push(node(inner, 0, ExprKind::Table(Box::new(table)))?);
        }
        while arguments.is_empty() || self.eat(",") {
            if self.is(")") && arguments.is_empty() {
                break;
            }
            let star = self.at();
            arguments.push(if self.eat("*") {
                node(star, 0, ExprKind::Star)?
            } else {
                self.expression()?
            });
        }
        self.expect(")")?;
        let depth = arguments.iter().map(|argument| argument.depth).max().unwrap_or(0);
        node(at, depth, ExprKind::Call(name, arguments))
    }
}

fn node(at: usize, below: usize, kind: ExprKind) -> Tried<Expr> {
    if below >= MAX_DEPTH {
        return Err(Fault::syntax(at, "", "the expression is too deep"));
    }
    Ok(Expr { kind, at, depth: below + 1 })
}

fn literal(at: usize, word: &str, raw: &str) -> Tried<(Value, Type)> {
    let wrong = || Fault::semantic(at, format!("'{word}({raw})' is not a valid literal"));
    let Some(ty) = Type::from_word(word) else {
        return Err(Fault::unsupported(at, &format!("The type '{word}'")));
    };
    let bare = raw.trim_matches(['"', '\'']);
    if raw == "null" {
        return Ok((Value::Null, ty));
    }
    let value = match ty {
        Type::DateTime => Ticks::parse(bare).map_or(Value::Null, Value::Time),
        Type::TimeSpan => timespan::clock(bare).map_or(Value::Null, Value::Span),
        Type::Dynamic => return dynamic(raw).map(|json| (Value::json(json), ty)).ok_or_else(wrong),
        _ => Value::text(bare).cast(ty),
    };
    if value.is_null() { Err(wrong()) } else { Ok((value, ty)) }
}

/// JSON whose strings may also be in single quotes.
fn dynamic(raw: &str) -> Option<Json> {
    if let Ok(json) = serde_json::from_str(raw) {
        return Some(json);
    }
    let mut strict = String::with_capacity(raw.len() + 8);
    let mut letters = raw.chars();
    while let Some(quote) = letters.next() {
        if !matches!(quote, '"' | '\'') {
            strict.push(quote);
            continue;
        }
        let mut text = String::new();
        loop {
            match letters.next()? {
                letter if letter == quote => break,
                '\\' => match letters.next()? {
                    'n' => text.push('\n'),
                    't' => text.push('\t'),
                    other => text.push(other),
                },
                letter => text.push(letter),
            }
        }
        strict.push_str(&Json::String(text).to_string());
    }
    serde_json::from_str(&strict).ok()
}
