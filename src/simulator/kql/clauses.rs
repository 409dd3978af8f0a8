//! The grammar of the operators that have clauses of their own: `join`, `union`, `mv-expand`, `make-series`.

use super::ast::{Join, JoinKind, OperatorKind, Pipeline, Series, Source, Union};
use super::error::{Fault, Tried};
use super::lexer::Token;
use super::parser::Parser;
use super::value::Type;

impl Parser {
    pub(super) fn join(&mut self) -> Tried<Join> {
        let mut kind = JoinKind::InnerUnique;
        while let (Token::Word(option), Token::Mark("=")) = (self.look(0).clone(), self.look(1)) {
            self.skip(2);
            let at = self.at();
            let value = self.name("expected a word")?;
            match (option.as_str(), value.as_str()) {
                ("kind", "innerunique") => kind = JoinKind::InnerUnique,
                ("kind", "inner") => kind = JoinKind::Inner,
                ("kind", "leftouter") => kind = JoinKind::LeftOuter,
                ("kind", "leftanti" | "anti" | "leftantisemi") => kind = JoinKind::LeftAnti,
                ("kind", "leftsemi") => kind = JoinKind::LeftSemi,
                ("hint", _) => {}
                _ => return Err(Fault::unsupported(at, &format!("join {option}={value}"))),
            }
        }
        let right = if self.eat("(") {
            let inner = self.pipeline()?;
            self.expect(")")?;
            inner
        } else {
            Pipeline { source: self.source()?, operators: Vec::new() }
        };
        if !self.eat_word("on") {
            return Err(self.wrong("expected 'on'"));
        }
        let mut on = Vec::new();
        loop {
            let at = self.at();
            if self.is_word("$left") || self.is_word("$right") {
                let first = self.sided()?;
                self.expect("==")?;
                let second = self.sided()?;
                on.push(match (first, second) {
                    ((true, left), (false, right)) | ((false, right), (true, left)) => {
                        (left, right, at)
                    }
                    _ => {
                        return Err(Fault::semantic(
                            at,
                            "join: a key needs a left and a right side",
                        ));
                    }
                });
            } else {
                let name = self.name("expected a column")?;
                on.push((name.clone(), name, at));
            }
            if !self.eat(",") && !self.eat_word("and") {
                return Ok(Join { kind, right, on });
            }
        }
    }

    /// `$left.name`: whether left, and the name.
    fn sided(&mut self) -> Tried<(bool, String)> {
        let left = self.eat_word("$left");
        if !left && !self.eat_word("$right") {
            return Err(self.wrong("expected '$left' or '$right'"));
        }
        self.expect(".")?;
        Ok((left, self.name("expected a column")?))
    }

    pub(super) fn union(&mut self) -> Tried<Union> {
        let mut union =
            Union { source_column: None, inner: false, fuzzy: false, parts: Vec::new() };
        while let (Token::Word(option), Token::Mark("=")) = (self.look(0).clone(), self.look(1)) {
            let at = self.at();
            self.skip(2);
            let value = self.name("expected a word")?;
            match (option.as_str(), value.as_str()) {
                ("withsource", _) => union.source_column = Some(value),
                ("kind", "outer" | "inner") => union.inner = value == "inner",
                ("isfuzzy", "true" | "false") => union.fuzzy = value == "true",
                _ => return Err(Fault::unsupported(at, &format!("union {option}={value}"))),
            }
        }
        loop {
            if self.eat("(") {
                let inner = self.pipeline()?;
                self.expect(")")?;
                union.parts.push(Pipeline {
                    source: Source::Nested(Box::new(inner)),
                    operators: Vec::new(),
                });
            } else {
                let source = self.source()?;
                if self.is("*") {
                    return Err(Fault::unsupported(self.at(), "A wildcard in union"));
                }
                union.parts.push(Pipeline { source, operators: Vec::new() });
            }
            if !self.eat(",") {
                return Ok(union);
            }
        }
    }

    pub(super) fn mv_expand(&mut self) -> Tried<OperatorKind> {
        let mut index = None;
        while let (Token::Word(option), Token::Mark("=")) = (self.look(0).clone(), self.look(1)) {
            match option.as_str() {
                "with_itemindex" => {
                    self.skip(2);
                    index = Some(self.name("expected a column")?);
                }
                "kind" | "bagexpansion" => {
                    self.skip(2);
                    let at = self.at();
                    if self.name("expected a word")? != "bag" {
                        return Err(Fault::unsupported(at, "mv-expand kind=array"));
                    }
                }
                _ => break,
            }
        }
        let mut items = Vec::new();
        loop {
            let item = self.item()?;
            let mut ty = None;
            if self.eat_word("to") {
                if !self.eat_word("typeof") {
                    return Err(self.wrong("expected 'typeof'"));
                }
                self.expect("(")?;
                let at = self.at();
                let word = self.name("expected a type")?;
                ty = Some(
                    Type::from_word(&word)
                        .ok_or_else(|| Fault::semantic(at, format!("Unknown type '{word}'")))?,
                );
                self.expect(")")?;
            }
            items.push((item, ty));
            if !self.eat(",") {
                break;
            }
        }
        let limit = if self.eat_word("limit") { Some(self.expression()?) } else { None };
        Ok(OperatorKind::MvExpand { items, limit, index })
    }

    pub(super) fn series(&mut self) -> Tried<Series> {
        let mut aggregates = Vec::new();
        loop {
            let item = self.item()?;
            let mut default = None;
            if self.eat_word("default") {
                self.expect("=")?;
                default = Some(self.expression()?);
            }
            aggregates.push((item, default));
            if !self.eat(",") {
                break;
            }
        }
        let mut part = |word: &str| {
            if self.eat_word(word) {
                self.item()
            } else {
                Err(self.wrong(&format!("make-series: expected '{word}'")))
            }
        };
        let on = part("on")?;
        let (from, to, step) = (part("from")?.expr, part("to")?.expr, part("step")?.expr);
        let by = if self.eat_word("by") { self.items()? } else { Vec::new() };
        Ok(Series { aggregates, on, from, to, step, by })
    }
}
