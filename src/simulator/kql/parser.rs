//! From tokens to statements and tabular operators. Scalars are in `scalar.rs`, operators with
//! clauses of their own in `clauses.rs`; nothing is resolved here.

use super::ast::{Item, Let, LetValue, Operator, OperatorKind, Pipeline, Query, SortKey, Source};
use super::error::{Fault, Tried};
use super::lexer::{Placed, Token, tokens};

/// How deep parentheses, calls and nested queries may go: keeps recursion within any thread's stack.
pub(super) const MAX_NESTING: usize = 32;

/// How many tokens a query may have.
const MAX_TOKENS: usize = 50_000;

pub(super) struct Parser {
    tokens: Vec<Placed>,
    next: usize,
    pub(super) nesting: usize,
}

/// Parses a whole query.
pub(super) fn parse(text: &str) -> Tried<Query> {
    let tokens = tokens(text)?;
    if let Some(placed) = tokens.get(MAX_TOKENS) {
        return Err(Fault::syntax(placed.at, "", "the query is too long"));
    }
    Parser { tokens, next: 0, nesting: 0 }.query()
}

impl Parser {
    pub(super) fn peek(&self) -> &Token {
        self.look(0)
    }

    pub(super) fn look(&self, ahead: usize) -> &Token {
        self.tokens.get(self.next + ahead).map_or(&Token::End, |placed| &placed.token)
    }

    /// Where the next token starts.
    pub(super) fn at(&self) -> usize {
        self.tokens.get(self.next).or(self.tokens.last()).map_or(0, |placed| placed.at)
    }

    pub(super) fn advance(&mut self) -> Token {
        let token = self.peek().clone();
        self.next += 1;
        token
    }

    pub(super) fn skip(&mut self, tokens: usize) {
        self.next += tokens;
    }

    pub(super) fn is(&self, mark: &str) -> bool {
        matches!(self.peek(), Token::Mark(found) if *found == mark)
    }

    pub(super) fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Token::Word(found) if found == word)
    }

    pub(super) fn eat(&mut self, mark: &str) -> bool {
        let found = self.is(mark);
        self.next += usize::from(found);
        found
    }

    pub(super) fn eat_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        self.next += usize::from(found);
        found
    }

    pub(super) fn expect(&mut self, mark: &str) -> Tried<()> {
        if self.eat(mark) { Ok(()) } else { Err(self.wrong(&format!("expected '{mark}'"))) }
    }

    pub(super) fn wrong(&self, expected: &str) -> Fault {
        Fault::syntax(self.at(), &shown(self.peek()), expected)
    }

    /// A name, plain or as `['a b']`.
    pub(super) fn name(&mut self, expected: &str) -> Tried<String> {
        if let (Token::Mark("["), Token::Text(text), Token::Mark("]")) =
            (self.look(0), self.look(1), self.look(2))
        {
            let text = text.clone();
            self.next += 3;
            return Ok(text);
        }
        match self.peek() {
            Token::Word(word) if !word.starts_with(['!', '$']) => {
                let word = word.clone();
                self.next += 1;
                Ok(word)
            }
            _ => Err(self.wrong(expected)),
        }
    }

    pub(super) fn enter(&mut self) -> Tried<()> {
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            return Err(self.wrong("the query is nested too deeply"));
        }
        Ok(())
    }

    pub(super) fn leave(&mut self) {
        self.nesting -= 1;
    }

    fn query(mut self) -> Tried<Query> {
        let mut lets = Vec::new();
        loop {
            while self.eat(";") {}
            if self.is_word("let") {
                self.next += 1;
                lets.push(self.binding()?);
                if !self.is(";") {
                    return Err(self.wrong("expected ';'"));
                }
                continue;
            }
            for word in ["set", "declare", "alias", "pattern", "restrict"] {
                if self.is_word(word) && matches!(self.look(1), Token::Word(_)) {
                    return Err(Fault::unsupported(self.at(), &format!("The statement '{word}'")));
                }
            }
            let body = self.pipeline()?;
            while self.eat(";") {}
            if *self.peek() != Token::End {
                return Err(self.wrong("expected the end of the query"));
            }
            return Ok(Query { lets, body });
        }
    }

    fn binding(&mut self) -> Tried<Let> {
        let name = self.name("expected a name")?;
        self.expect("=")?;
        if let (Token::Mark("("), Token::Word(_), Token::Mark(":"))
        | (Token::Mark("("), Token::Mark(")"), _) = (self.look(0), self.look(1), self.look(2))
        {
            return Err(Fault::unsupported(self.at(), "A function made by 'let'"));
        }
        let value = if self.is_tabular() {
            LetValue::Table(self.pipeline()?)
        } else {
            LetValue::Scalar(self.expression()?)
        };
        Ok(Let { name, value })
    }

    /// Whether what follows, up to the end of this statement or bracket, is a tabular expression: it has a pipe
    /// outside calls, or starts with a word that only tables start with.
    pub(super) fn is_tabular(&self) -> bool {
        if ["union", "materialize"].iter().any(|word| self.is_word(word)) {
            return true;
        }
        let (mut brackets, mut calls) = (Vec::new(), 0_usize);
        let mut previous_is_word = false;
        let mut ahead = 0;
        loop {
            match self.look(ahead) {
                Token::Mark("|") if calls == 0 => return true,
                Token::Mark("(" | "[") => {
                    brackets.push(previous_is_word);
                    calls += usize::from(previous_is_word);
                }
                Token::Mark(")" | "]") => match brackets.pop() {
                    Some(call) => calls -= usize::from(call),
                    None => return false,
                },
                Token::Mark(";") | Token::End => return false,
                _ => {}
            }
            previous_is_word = matches!(self.look(ahead), Token::Word(_));
            ahead += 1;
        }
    }

    pub(super) fn pipeline(&mut self) -> Tried<Pipeline> {
        self.enter()?;
        let source = self.source()?;
        let mut operators = Vec::new();
        while self.eat("|") {
            let at = self.at();
            operators.push(Operator { at, kind: self.operator()? });
        }
        self.leave();
        Ok(Pipeline { source, operators })
    }

    pub(super) fn source(&mut self) -> Tried<Source> {
        if self.is_word("union")
            && !matches!(self.look(1), Token::Mark("|" | ")" | ";") | Token::End)
        {
            self.next += 1;
            return Ok(Source::Union(self.union()?));
        }
        if self.is_word("materialize") && matches!(self.look(1), Token::Mark("(")) {
            self.next += 1;
        }
        if self.eat("(") {
            let inner = self.pipeline()?;
            self.expect(")")?;
            return Ok(Source::Nested(Box::new(inner)));
        }
        let at = self.at();
        for word in ["range", "print", "datatable", "search", "find", "evaluate", "externaldata"] {
            if self.is_word(word) && !matches!(self.look(1), Token::Mark("|" | ")") | Token::End) {
                return Err(Fault::unsupported(at, &format!("The operator '{word}'")));
            }
        }
        let name = self.name("expected a table")?;
        if self.is("(") {
            return Err(Fault::unsupported(at, &format!("The function '{name}' as a table")));
        }
        Ok(Source::Name(name, at))
    }

    /// The name of an operator; the hyphen of `mv-expand` is part of it.
    fn operator_name(&mut self) -> Tried<String> {
        let Token::Word(mut name) = self.peek().clone() else {
            return Err(self.wrong("expected an operator"));
        };
        self.next += 1;
        while let (Token::Mark("-"), Token::Word(more)) = (self.look(0), self.look(1)) {
            name = format!("{name}-{more}");
            self.next += 2;
        }
        Ok(name)
    }

    fn operator(&mut self) -> Tried<OperatorKind> {
        let at = self.at();
        let name = self.operator_name()?;
        Ok(match name.as_str() {
            "where" | "filter" => OperatorKind::Where(self.expression()?),
            "extend" => OperatorKind::Extend(self.items()?),
            "project" => OperatorKind::Project(self.items()?),
            "project-away" => OperatorKind::ProjectAway(self.names()?),
            "project-rename" => {
                let mut renames = Vec::new();
                loop {
                    let new = self.name("expected a column")?;
                    self.expect("=")?;
                    let at = self.at();
                    renames.push((new, self.name("expected a column")?, at));
                    if !self.eat(",") {
                        break OperatorKind::ProjectRename(renames);
                    }
                }
            }
            "distinct" if self.eat("*") => OperatorKind::Distinct(None),
            "distinct" => OperatorKind::Distinct(Some(self.items()?)),
            "take" | "limit" => OperatorKind::Take(self.expression()?),
            "order" | "sort" => {
                if !self.eat_word("by") {
                    return Err(self.wrong("expected 'by'"));
                }
                OperatorKind::Order(self.sort_keys()?)
            }
            "top" => {
                let count = self.expression()?;
                if !self.eat_word("by") {
                    return Err(self.wrong("expected 'by'"));
                }
                OperatorKind::Top(count, self.sort_keys()?)
            }
            "count" => OperatorKind::Count,
            "summarize" => {
                let mut aggregates = Vec::new();
                if !self.is_word("by") {
                    aggregates = self.items()?;
                }
                let by = if self.eat_word("by") { self.items()? } else { Vec::new() };
                OperatorKind::Summarize { aggregates, by }
            }
            "join" => OperatorKind::Join(self.join()?),
            "union" => OperatorKind::Union(self.union()?),
            "mv-expand" | "mvexpand" => self.mv_expand()?,
            "make-series" => OperatorKind::MakeSeries(Box::new(self.series()?)),
            "render" => {
                while !matches!(self.peek(), Token::Mark("|" | ")" | ";") | Token::End) {
                    if self.eat("(") {
                        while !matches!(self.peek(), Token::Mark(")") | Token::End) {
                            self.next += 1;
                        }
                        self.expect(")")?;
                    } else {
                        self.next += 1;
                    }
                }
                OperatorKind::Nothing
            }
            other => return Err(Fault::unsupported(at, &format!("The operator '{other}'"))),
        })
    }

    fn names(&mut self) -> Tried<Vec<(String, usize)>> {
        let mut names = Vec::new();
        loop {
            let at = self.at();
            names.push((self.name("expected a column")?, at));
            if !self.eat(",") {
                return Ok(names);
            }
        }
    }

    pub(super) fn items(&mut self) -> Tried<Vec<Item>> {
        let mut items = Vec::new();
        loop {
            items.push(self.item()?);
            if !self.eat(",") {
                return Ok(items);
            }
        }
    }

    pub(super) fn item(&mut self) -> Tried<Item> {
        let named = matches!(
            (self.look(0), self.look(1), self.look(2), self.look(3)),
            (Token::Word(_), Token::Mark("="), ..)
                | (Token::Mark("["), Token::Text(_), Token::Mark("]"), Token::Mark("="))
        );
        let mut name = None;
        if named {
            name = Some(self.name("expected a column")?);
            self.expect("=")?;
        }
        Ok(Item { name, expr: self.expression()? })
    }

    fn sort_keys(&mut self) -> Tried<Vec<SortKey>> {
        let mut keys = Vec::new();
        loop {
            let expr = self.expression()?;
            let descending = !self.eat_word("asc");
            if descending {
                self.eat_word("desc");
            }
            let mut nulls_first = !descending;
            if self.eat_word("nulls") {
                nulls_first = self.eat_word("first");
                if !nulls_first && !self.eat_word("last") {
                    return Err(self.wrong("expected 'first' or 'last'"));
                }
            }
            keys.push(SortKey { expr, descending, nulls_first });
            if !self.eat(",") {
                return Ok(keys);
            }
        }
    }
}

fn shown(token: &Token) -> String {
    match token {
        Token::Word(word) => word.clone(),
        Token::Long(number) => number.to_string(),
        Token::Real(number) => number.to_string(),
        Token::Span(_) => "a timespan".to_owned(),
        Token::Text(text) => format!("'{text}'"),
        Token::Literal(word, _) => word.clone(),
        Token::Mark(mark) => (*mark).to_owned(),
        Token::End => "the end of the query".to_owned(),
    }
}
