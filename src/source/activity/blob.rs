//! A content blob as the listing names it, and whether a body is one. It fetches nothing.

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::seen::IdHash;
use crate::domain::{Gap, GapCause, Ticks};

/// A blob that the listing named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    /// The API's name for it; opaque.
    pub id: String,
    /// Where it is, as the API says; not yet held to our own host.
    pub uri: String,
    /// When it became available. Without a readable stamp: the end of the window that listed it.
    pub created: Ticks,
    /// When it ceases to be, by the API's own word.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires: Option<Ticks>,
}

/// Seconds that content can be read where the API does not say until when.
const READABLE_SECONDS: i64 = 7 * 86_400;

impl Blob {
    /// Its id as the seen-set keeps it.
    #[must_use]
    pub fn hash(&self) -> IdHash {
        IdHash::of(&self.id)
    }

    /// Whether it is past its time.
    #[must_use]
    pub fn expired(&self, now: Ticks) -> bool {
        self.ceases() < now
    }

    fn ceases(&self) -> Ticks {
        self.expires.unwrap_or_else(|| self.created.plus_seconds(READABLE_SECONDS))
    }

    /// The gap that its loss is.
    #[must_use]
    pub fn gap(&self, source: &str, content: &str, cause: GapCause, detail: &str) -> Gap {
        Gap {
            source: source.into(),
            what: format!("{content} blob {}", self.id).into(),
            from: self.created.to_string().into(),
            to: self.ceases().to_string().into(),
            count: None,
            cause,
            detail: detail.into(),
        }
    }
}

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// A JSON array.
    Whole,
    /// It begins and ends like an array, but something in it is no JSON: records among it may still be read.
    Odd,
    /// Something else, or the beginning of an array.
    Broken,
}

impl Body {
    /// Reads without keeping anything.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii();
        if !(bytes.starts_with(b"[") && bytes.ends_with(b"]")) {
            return Self::Broken;
        }
        match serde_json::from_slice::<IgnoredAny>(bytes) {
            Ok(IgnoredAny) => Self::Whole,
            Err(_) => Self::Odd,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fault matrix: C14.
    #[test]
    fn html_nothing_and_half_an_array_are_no_blob() {
        for body in ["", " ", "<html>busy</html>", "{}", "null", "[{\"Id\":", "[{\"Id\":\"1\"}"] {
            assert_eq!(Body::of(body.as_bytes()), Body::Broken, "{body}");
        }
        for body in ["[]", " [{\"Id\":\"1\"}]\r\n", "\u{feff}[1]", r#"["\ud800", 1e999]"#] {
            assert_eq!(Body::of(body.as_bytes()), Body::Whole, "{body}");
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(Body::of(deep.as_bytes()), Body::Whole);
        assert_eq!(Body::of(b"[{\"Id\":\"1\"},{\"a\":\"\x01\"}]"), Body::Odd);
    }
}
