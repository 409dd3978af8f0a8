//! A request as the simulated cloud reads it, whole and decoded, and the answer that it makes. No network here:
//! what happens to an answer on its way is `faults`' and `server`'s.

use std::time::Duration;

use serde_json::Value;

/// Which part of the cloud a request is for; faults are aimed at these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Route {
    /// Entra's token endpoint.
    Token,
    /// Graph's incidents: the list.
    Incidents,
    /// Graph's incidents: one of them.
    Incident,
    /// Graph's alerts: the list, and one of them.
    Alerts,
    /// Graph's advanced hunting.
    Hunting,
    /// The Activity API's subscriptions: start, stop, list.
    Subscriptions,
    /// The Activity API's listings of content.
    Content,
    /// The Activity API's blobs of records.
    Records,
    /// The storage account's listings.
    BlobList,
    /// The storage account's blobs.
    Blob,
    /// Nothing of the cloud's.
    Elsewhere,
}

impl Route {
    /// Its word in fault scripts and in the request log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Incidents => "graph.incidents.list",
            Self::Incident => "graph.incidents.one",
            Self::Alerts => "graph.alerts",
            Self::Hunting => "graph.hunting",
            Self::Subscriptions => "activity.subscriptions",
            Self::Content => "activity.content",
            Self::Records => "activity.records",
            Self::BlobList => "storage.list",
            Self::Blob => "storage.blob",
            Self::Elsewhere => "elsewhere",
        }
    }

    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Token,
        Self::Incidents,
        Self::Incident,
        Self::Alerts,
        Self::Hunting,
        Self::Subscriptions,
        Self::Content,
        Self::Records,
        Self::BlobList,
        Self::Blob,
        Self::Elsewhere,
    ];
}

/// A request.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// The method, upper-case.
    pub method: String,
    /// The path as sent.
    pub path: String,
    /// The query as sent.
    pub raw_query: String,
    /// The query's pairs, decoded.
    pub query: Vec<(String, String)>,
    /// Header names in lower case and their values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Asked {
    /// The path's parts, decoded, without empty ones.
    #[must_use]
    pub fn parts(&self) -> Vec<String> {
        self.path
            .split('/')
            .filter(|part| !part.is_empty())
            .map(|part| decode(part, false))
            .collect()
    }

    /// A value of the query, the name in any case.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        let pair = self.query.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
        Some(&pair.1)
    }

    /// A header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let pair = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
        Some(&pair.1)
    }

    /// `https://` and the place that the client believes to talk to.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("https://{}", self.header("host").unwrap_or("localhost"))
    }

    /// The fields of a form.
    #[must_use]
    pub fn form(&self) -> Vec<(String, String)> {
        pairs(&String::from_utf8_lossy(&self.body))
    }
}

/// The pairs of a query or form, decoded.
#[must_use]
pub fn pairs(text: &str) -> Vec<(String, String)> {
    let pair = |part: &str| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        (decode(name, true), decode(value, true))
    };
    text.split('&').filter(|part| !part.is_empty()).map(pair).collect()
}

/// Undoes percent-encoding, in a query `+` too; what is no encoding stays.
#[must_use]
pub fn decode(text: &str, plus: bool) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'+' if plus => bytes.push(b' '),
            b'%' => {
                let code = after.get(..2).and_then(|code| std::str::from_utf8(code).ok());
                match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
                    Some(byte) => {
                        bytes.push(byte);
                        rest = after.get(2..).unwrap_or_default();
                    }
                    None => bytes.push(b'%'),
                }
            }
            byte => bytes.push(*byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Percent-encodes everything but letters, digits and `-._~`.
#[must_use]
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// How an answer goes over the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Manner {
    /// As it should.
    #[default]
    Whole,
    /// The connection breaks off behind half of the body.
    Cut,
    /// The connection breaks off before any answer.
    Reset,
    /// No answer ever comes.
    Hang,
    /// The body comes in small pieces with this pause between them.
    Slow(Duration),
    /// The body never ends.
    Endless(Duration),
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// How it goes over the line.
    pub manner: Manner,
}

impl Reply {
    /// A JSON answer.
    #[must_use]
    pub fn json(status: u16, body: &Value) -> Self {
        Self::text(status, "application/json; charset=utf-8", body.to_string())
    }

    /// An answer of some type.
    #[must_use]
    pub fn text(status: u16, kind: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: vec![("content-type", kind.to_owned())],
            body: body.into(),
            manner: Manner::Whole,
        }
    }

    /// An answer without a body.
    #[must_use]
    pub fn empty(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    /// The same with a header more.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded_as_servers_decode_them() {
        let text = "$filter=lastUpdateDateTime+ge+2026-08-20T09%3A00%3A00Z&$top=50&a=%zz&b";
        let asked = Asked { query: pairs(text), ..Asked::default() };
        assert_eq!(asked.value("$FILTER"), Some("lastUpdateDateTime ge 2026-08-20T09:00:00Z"));
        assert_eq!(asked.value("a"), Some("%zz"));
        assert_eq!(asked.value("b"), Some(""));
        assert_eq!(decode("a+b%20c", false), "a+b c");
        assert_eq!(decode(&encode("a b/ä$"), false), "a b/ä$");
    }
}
