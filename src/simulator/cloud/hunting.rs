//! Graph's advanced hunting: the query's way from the request to the tables and the form of the answer. What a
//! query means is the interpreter's business; what nobody understands is a 400, never an empty table.

use serde_json::{Value, json};

use super::asked::Reply;
use super::graph::Reader;
use super::store::Store;

/// Answers `runHuntingQuery`.
#[must_use]
pub fn answer(reader: &Reader<'_>, store: &Store) -> Reply {
    let bad = |message: &str| reader.error(400, "BadRequest", message);
    let Ok(body) = serde_json::from_slice::<Value>(&reader.asked.body) else {
        return bad("The request body is no JSON.");
    };
    let query = body.get("Query").or_else(|| body.get("query")).and_then(Value::as_str);
    let Some(query) = query else { return bad("The request has no Query.") };
    let parts: Vec<&str> = query.split('|').map(str::trim).collect();
    let &[table, "take 1"] = parts.as_slice() else {
        return bad(
            "Syntax error: this operator is not supported. Fix syntax errors in your query.",
        );
    };
    let Some(rows) = store.tables.get(table) else {
        return bad(&format!(
            "Failed to resolve table or column expression named '{table}'. Fix semantic errors in your query."
        ));
    };
    let row = rows.front().map(|row| &row.row);
    let schema: Vec<Value> = row
        .into_iter()
        .flatten()
        .map(|(name, value)| json!({ "name": name, "type": type_of(name, value) }))
        .collect();
    Reply::json(
        200,
        &json!({
            "@odata.context": format!(
                "{}/v1.0/$metadata#microsoft.graph.security.huntingQueryResults",
                reader.asked.origin()
            ),
            "schema": schema,
            "results": row.into_iter().collect::<Vec<_>>(),
        }),
    )
}

fn type_of(name: &str, value: &Value) -> &'static str {
    match value {
        _ if name == "Timestamp" => "DateTime",
        Value::Bool(_) => "SByte",
        Value::Number(_) => "Int64",
        Value::Array(_) | Value::Object(_) => "Object",
        Value::String(_) | Value::Null => "String",
    }
}
