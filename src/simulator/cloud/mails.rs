//! What the cloud remembers of mails that it has shown rows of: the material for evidence and audit records.

use std::collections::{BTreeMap, HashMap, VecDeque};

use serde_json::{Map, Value};

/// Mails that are remembered; older ones are forgotten first.
const MOST: usize = 50_000;

/// A row as an object.
pub type Row = Map<String, Value>;

/// One mail.
#[derive(Debug, Default)]
pub struct Known {
    /// Its first `EmailEvents` row of each recipient.
    pub rows: BTreeMap<String, Row>,
    /// The links in it.
    pub urls: Vec<String>,
    /// Its files, as rows.
    pub files: Vec<Row>,
    /// Whether its audit record has been written.
    pub audited: bool,
}

impl Known {
    /// Whether the rows of all recipients are there.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.rows.values().next().is_some_and(|row| {
            let to = row.get("To").and_then(Value::as_array).map_or(1, Vec::len);
            self.rows.len() >= to
        })
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct Mails {
    known: HashMap<String, Known>,
    order: VecDeque<String>,
}

/// A text of a row; empty where there is none.
#[must_use]
pub fn text<'a>(row: &'a Row, column: &str) -> &'a str {
    row.get(column).and_then(Value::as_str).unwrap_or_default()
}

impl Mails {
    /// Remembers what a row says.
    pub fn take(&mut self, table: &str, row: &Row) {
        let id = text(row, "NetworkMessageId");
        if id.is_empty() || !matches!(table, "EmailEvents" | "EmailUrlInfo" | "EmailAttachmentInfo")
        {
            return;
        }
        if !self.known.contains_key(id) {
            self.order.push_back(id.to_owned());
            if self.order.len() > MOST
                && let Some(oldest) = self.order.pop_front()
            {
                self.known.remove(&oldest);
            }
        }
        let known = self.known.entry(id.to_owned()).or_default();
        match table {
            "EmailEvents" => {
                let recipient = text(row, "RecipientEmailAddress").to_owned();
                known.rows.entry(recipient).or_insert_with(|| row.clone());
            }
            "EmailUrlInfo" => {
                let url = text(row, "Url").to_owned();
                if !known.urls.contains(&url) {
                    known.urls.push(url);
                }
            }
            _ => {
                let same = |file: &Row| text(file, "SHA256") == text(row, "SHA256");
                if !known.files.iter().any(same) {
                    known.files.push(row.clone());
                }
            }
        }
    }

    /// A mail.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Known> {
        self.known.get(id)
    }

    /// A mail, to be changed.
    pub fn get_mut(&mut self, id: &str) -> Option<&mut Known> {
        self.known.get_mut(id)
    }
}
