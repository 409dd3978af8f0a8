//! A small interpreter of Kusto's query language over tables in memory: what the simulated tenant answers hunting
//! queries with. Whatever is outside the subset is refused with its place, never answered with an empty table.
//!
//! **Statements**: `let name = scalar;`, `let name = table;` (no functions), then one tabular expression.
//!
//! **Operators**: `where` (`filter`), `extend`, `project`, `project-away`, `project-rename`, `distinct`, `take` (`limit`),
//! `order`/`sort by`, `top … by`, `count`, `summarize … by`, `make-series … on … from … to … step … by`,
//! `join` (`innerunique`, `inner`, `leftouter`, `leftanti`, `leftsemi`; `on` columns or `$left.a == $right.b`),
//! `union` (`withsource=`, `kind=`, `isfuzzy=`), `mv-expand` (`to typeof()`, `limit`, `with_itemindex=`); `render` is
//! read and ignored.
//!
//! **Aggregates**: `count`, `countif`, `dcount(if)` (exact here), `sum(if)`, `avg(if)`, `min(if)`, `max(if)`,
//! `make_set(_if)`, `make_list(_if)`, `take_any`, `arg_max`, `arg_min`.
//!
//! **Scalars**: `== != =~ !~ < <= > >=`, `has contains startswith endswith` (each with `!` and `_cs`), `has_any`,
//! `has_all`, `in in~ !in !in~` (of constants, dynamic arrays, tables), `between`, `and or not()`, `+ - * / %` also
//! on times, members of dynamic values; the functions of `function.rs`, `now`, `ago`, `ingestion_time`, `toscalar`.
//!
//! Types are checked before any row is read. Nulls are three-valued as in Kusto, strings are never null. What
//! differs: `dcount` is exact, `hash` has values of its own, an answer past the row limit is cut silently (as the
//! far end does) and one past the size limit is refused.

mod aggregate;
mod answer;
mod ast;
mod bind;
mod calendar;
mod clauses;
mod error;
mod eval;
mod function;
mod join;
mod lexer;
mod operator;
mod parser;
mod run;
mod scalar;
mod schema;
mod series;
mod summarize;
mod tables;
mod timespan;
mod value;

#[cfg(test)]
mod tests;

pub use answer::Answer;
pub use error::{KqlError, KqlErrorKind};
pub use tables::{Column, Table, Tables};
pub use timespan::Window;
pub use value::{Type, Value};

use crate::domain::Ticks;

/// What a query may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Rows of an answer; more are cut off without a word.
    pub rows: usize,
    /// Bytes of an answer; more are refused.
    pub bytes: usize,
    /// Cells that all operators together may make; more are refused.
    pub work: u64,
}

impl Default for Limits {
    /// What is documented of Graph: 100,000 rows, 50 MB. The work is ours: some seconds and
    /// at most some hundred megabytes.
    fn default() -> Self {
        Self { rows: 100_000, bytes: 50_000_000, work: 30_000_000 }
    }
}

/// Answers `query` from `tables` as of `now`, looking only at rows whose `Timestamp` is in `window`.
///
/// # Errors
/// With the place where the query is wrong or leaves the subset; without one if it asks for too much.
pub fn run(tables: &Tables, query: &str, window: Window, now: Ticks) -> Result<Answer, KqlError> {
    run_within(tables, query, window, now, &Limits::default())
}

/// As [`run`], with other limits.
///
/// # Errors
/// As [`run`].
pub fn run_within(
    tables: &Tables,
    query: &str,
    window: Window,
    now: Ticks,
    limits: &Limits,
) -> Result<Answer, KqlError> {
    parser::parse(query)
        .and_then(|parsed| run::Runner::new(tables, window, now, limits).query(&parsed))
        .and_then(|relation| Answer::new(relation, limits))
        .map_err(|fault| fault.placed(query))
}
