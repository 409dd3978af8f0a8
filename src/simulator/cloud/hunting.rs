//! Graph's advanced hunting: the query's way from the request to the tables and the form of the answer. What a
//! query means is the interpreter's business; what nobody understands is a 400, never an empty table.

use serde_json::Value;

use super::asked::Reply;
use super::graph::Reader;
use super::store::Store;
use crate::simulator::kql::{self, Window};

/// Answers `runHuntingQuery`.
#[must_use]
pub fn answer(reader: &Reader<'_>, store: &Store) -> Reply {
    let bad = |message: &str| reader.error(400, "BadRequest", message);
    let Ok(body) = serde_json::from_slice::<Value>(&reader.asked.body) else {
        return bad("The request body is no JSON.");
    };
    let field = |name: &str| {
        let object = body.as_object()?;
        let (_, value) = object.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        value.as_str()
    };
    let Some(query) = field("Query") else { return bad("The request has no Query.") };
    let window = match field("Timespan") {
        None => Window::default_at(reader.now),
        Some(text) => match Window::parse(text, reader.now) {
            Some(window) => window,
            None => return bad(&format!("The Timespan '{text}' is no ISO 8601 interval.")),
        },
    };
    match kql::run(&store.tables, query, window, reader.now) {
        Ok(answer) => Reply::text(200, "application/json; charset=utf-8", answer.graph_body()),
        Err(error) => bad(&error.to_string()),
    }
}
