//! The answer to a query, with its schema, and its two shapes on the wire.

use serde_json::{Value as Json, json};

use super::Limits;
use super::error::{Fault, Tried};
use super::run::Relation;
use super::value::Type;

/// Typed columns and rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Names and types of the columns, in order.
    pub schema: Vec<(String, Type)>,
    /// The cells as JSON, in the order of the schema.
    pub rows: Vec<Vec<Json>>,
}

impl Answer {
    pub(super) fn new(relation: Relation, limits: &Limits) -> Tried<Self> {
        let schema: Vec<(String, Type)> =
            relation.columns.iter().map(|column| (column.name.to_string(), column.ty)).collect();
        let names: usize = schema.iter().map(|(name, _)| name.len() + 4).sum();
        let mut bytes = 0;
        let mut rows = Vec::with_capacity(relation.rows.len().min(limits.rows));
        for row in relation.rows.iter().take(limits.rows) {
            bytes += names + row.cells.iter().map(super::value::Value::weight).sum::<usize>();
            if bytes > limits.bytes {
                return Err(Fault::too_large());
            }
            rows.push(row.cells.iter().map(super::value::Value::to_answer).collect());
        }
        Ok(Self { schema, rows })
    }

    /// The body of Graph's answer: `schema` and `results`, columns in their order.
    #[must_use]
    pub fn graph_body(&self) -> Vec<u8> {
        let context = "https://graph.microsoft.com/v1.0/$metadata#microsoft.graph.security.huntingQueryResults";
        let mut out = format!("{{\"@odata.context\":{},", json!(context)).into_bytes();
        self.write(&mut out, ["schema", "name", "type", "results"]);
        out.push(b'}');
        out
    }

    /// The body of the older API's answer: `Stats`, `Schema` and `Results`.
    #[must_use]
    pub fn legacy_body(&self) -> Vec<u8> {
        let stats = json!({"ExecutionTime": 0.1, "dataset_statistics": [{"table_row_count": self.rows.len()}]});
        let mut out = format!("{{\"Stats\":{stats},").into_bytes();
        self.write(&mut out, ["Schema", "Name", "Type", "Results"]);
        out.push(b'}');
        out
    }

    fn write(&self, out: &mut Vec<u8>, words: [&str; 4]) {
        let [schema, name, ty, results] = words;
        let columns: Vec<String> = self
            .schema
            .iter()
            .map(|(column, of)| {
                format!("{{\"{name}\":{},\"{ty}\":\"{}\"}}", json!(column), of.graph_word())
            })
            .collect();
        out.extend_from_slice(
            format!("\"{schema}\":[{}],\"{results}\":[", columns.join(",")).as_bytes(),
        );
        let names: Vec<String> =
            self.schema.iter().map(|(name, _)| json!(name).to_string()).collect();
        for (place, row) in self.rows.iter().enumerate() {
            if place > 0 {
                out.push(b',');
            }
            out.push(b'{');
            for (column, (name, cell)) in names.iter().zip(row).enumerate() {
                if column > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(name.as_bytes());
                out.push(b':');
                out.extend_from_slice(cell.to_string().as_bytes());
            }
            out.push(b'}');
        }
        out.push(b']');
    }
}
