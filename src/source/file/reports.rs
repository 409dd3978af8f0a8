//! A user's report from a third-party tool, with that tool's names of columns, as a line with ours.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// What a report is made of.
pub(super) use crate::normalize::submission::KEYS;

/// From the tool's names (lower case) to ours.
#[derive(Debug, Clone, Default)]
pub(super) struct Names(BTreeMap<String, &'static str>);

impl Names {
    pub(super) fn new(columns: &BTreeMap<String, String>) -> Self {
        let theirs = |key: &'static str| {
            let name = columns.get(key).map_or(key, String::as_str);
            (name.trim().to_lowercase(), key)
        };
        Self(KEYS.into_iter().map(theirs).collect())
    }

    /// One line. Columns that have no name of ours keep their own.
    pub(super) fn line(&self, report: impl IntoIterator<Item = (String, Value)>) -> Vec<u8> {
        let (mut ours, mut others) = (Map::new(), Map::new());
        for (name, value) in report {
            match self.0.get(&name.trim().to_lowercase()) {
                Some(key) => ours.insert((*key).to_owned(), value),
                None => others.insert(name, value),
            };
        }
        for (name, value) in others {
            ours.entry(name).or_insert(value);
        }
        serde_json::to_vec(&ours).unwrap_or_default()
    }

    /// The same of a JSON object. What is none stays as it is, on one line.
    pub(super) fn line_of(&self, json: &[u8]) -> Vec<u8> {
        match serde_json::from_slice::<Map<String, Value>>(json) {
            Ok(report) => self.line(report),
            Err(_) => {
                let blank = |byte: &u8| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte };
                json.iter().map(blank).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_named_by_the_mapping_whatever_their_case_and_others_are_kept() {
        let columns = [("reporter", "Reported By"), ("subject", "Betreff")];
        let columns = columns.map(|(ours, theirs)| (ours.to_owned(), theirs.to_owned()));
        let names = Names::new(&columns.into());
        let line = names.line_of(
            br#"{"reported by":"adele@contoso.example","reporter":"x","Betreff":"Hi","Score":7,"Category":"Phish"}"#,
        );
        let line: Value = serde_json::from_slice(&line).unwrap();
        let expected = serde_json::json!({
            "reporter": "adele@contoso.example", "subject": "Hi", "Score": 7, "category": "Phish",
        });
        assert_eq!(line, expected);
        assert_eq!(names.line_of(b"[1,\n2]"), b"[1, 2]");
    }
}
