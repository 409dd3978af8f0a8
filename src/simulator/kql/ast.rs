//! The tree that a query is parsed into; every node knows its place. Nothing is resolved here.

use super::value::{Type, Value};

/// A scalar expression.
#[derive(Debug)]
pub(super) struct Expr {
    pub(super) kind: ExprKind,
    pub(super) at: usize,
    /// How many nodes are above the deepest one below it: what keeps recursion bounded.
    pub(super) depth: usize,
}

#[derive(Debug)]
pub(super) enum ExprKind {
    /// A column, or a `let`.
    Name(String),
    Const(Value, Type),
    /// `a.b`, `a["b"]`, `a[0]`.
    Index(Box<Expr>, Box<Expr>),
    Call(String, Vec<Expr>),
    /// `*` as an argument of `arg_max`.
    Star,
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Minus(Box<Expr>),
    Arithmetic(char, Box<Expr>, Box<Expr>),
    /// `==`, `<`, `has`, `!contains`, …
    Compare(String, Box<Expr>, Box<Expr>),
    Between {
        negated: bool,
        value: Box<Expr>,
        low: Box<Expr>,
        high: Box<Expr>,
    },
    /// `in`, `!in~`, `has_any`, `has_all`.
    Among {
        operator: String,
        value: Box<Expr>,
        list: Vec<Expr>,
    },
    /// A tabular expression where a list is wanted, or in `toscalar`.
    Table(Box<Pipeline>),
}

/// `expression` or `name = expression`.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) name: Option<String>,
    pub(super) expr: Expr,
}

/// A whole query.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) lets: Vec<Let>,
    pub(super) body: Pipeline,
}

#[derive(Debug)]
pub(super) struct Let {
    pub(super) name: String,
    pub(super) value: LetValue,
}

#[derive(Debug)]
pub(super) enum LetValue {
    Scalar(Expr),
    Table(Pipeline),
}

/// A source of rows and what is done with them, in order.
#[derive(Debug)]
pub(super) struct Pipeline {
    pub(super) source: Source,
    pub(super) operators: Vec<Operator>,
}

#[derive(Debug)]
pub(super) enum Source {
    Name(String, usize),
    Nested(Box<Pipeline>),
    Union(Union),
}

#[derive(Debug)]
pub(super) struct Operator {
    pub(super) at: usize,
    pub(super) kind: OperatorKind,
}

#[derive(Debug)]
pub(super) enum OperatorKind {
    Where(Expr),
    Extend(Vec<Item>),
    Project(Vec<Item>),
    ProjectAway(Vec<(String, usize)>),
    ProjectRename(Vec<(String, String, usize)>),
    Distinct(Option<Vec<Item>>),
    Take(Expr),
    Order(Vec<SortKey>),
    Top(Expr, Vec<SortKey>),
    Count,
    Summarize {
        aggregates: Vec<Item>,
        by: Vec<Item>,
    },
    Join(Join),
    Union(Union),
    MvExpand {
        items: Vec<(Item, Option<Type>)>,
        limit: Option<Expr>,
        index: Option<String>,
    },
    MakeSeries(Box<Series>),
    /// `render` and `as`: for the eyes only.
    Nothing,
}

#[derive(Debug)]
pub(super) struct SortKey {
    pub(super) expr: Expr,
    pub(super) descending: bool,
    pub(super) nulls_first: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JoinKind {
    InnerUnique,
    Inner,
    LeftOuter,
    LeftAnti,
    LeftSemi,
}

#[derive(Debug)]
pub(super) struct Join {
    pub(super) kind: JoinKind,
    pub(super) right: Pipeline,
    /// Left column, right column, place.
    pub(super) on: Vec<(String, String, usize)>,
}

#[derive(Debug)]
pub(super) struct Union {
    pub(super) source_column: Option<String>,
    pub(super) inner: bool,
    pub(super) fuzzy: bool,
    pub(super) parts: Vec<Pipeline>,
}

#[derive(Debug)]
pub(super) struct Series {
    pub(super) aggregates: Vec<(Item, Option<Expr>)>,
    pub(super) on: Item,
    pub(super) from: Expr,
    pub(super) to: Expr,
    pub(super) step: Expr,
    pub(super) by: Vec<Item>,
}
