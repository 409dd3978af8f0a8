//! The public identity of an event. How it is made from a record is `normalize::identity`'s business.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// 128 bits, written as 32 lower-case hex digits: the same on every installation, for ever.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EventId(pub [u8; 16]);

impl EventId {
    /// The 32 hex digits, without allocating.
    #[must_use]
    pub fn hex(self) -> [u8; 32] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut out = [0; 32];
        for (pair, byte) in out.chunks_exact_mut(2).zip(self.0) {
            if let [high, low] = pair {
                *high = DIGITS.get(usize::from(byte >> 4)).copied().unwrap_or(b'0');
                *low = DIGITS.get(usize::from(byte & 15)).copied().unwrap_or(b'0');
            }
        }
        out
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.hex()).unwrap_or_default())
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not 32 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAnId;

impl fmt::Display for NotAnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event id is 32 hex digits")
    }
}

impl std::error::Error for NotAnId {}

impl FromStr for EventId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let mut id = [0; 16];
        if text.len() != 32 || !text.is_ascii() {
            return Err(NotAnId);
        }
        for (place, pair) in id.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| NotAnId)?;
            if pair.starts_with('+') {
                return Err(NotAnId);
            }
            *place = u8::from_str_radix(pair, 16).map_err(|_| NotAnId)?;
        }
        Ok(Self(id))
    }
}

impl Serialize for EventId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for EventId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
        } else {
            <[u8; 16]>::deserialize(deserializer).map(Self)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_its_text_form_and_other_text_is_refused() {
        let id = EventId(*b"\x00\x01\x7f\x80\xffabcdefghijk");
        assert_eq!(id.to_string(), "00017f80ff6162636465666768696a6b");
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in
            ["", "00", "00017f80ff6162636465666768696a6g", "+0017f80ff6162636465666768696a6b"]
        {
            assert_eq!(text.parse::<EventId>(), Err(NotAnId), "{text}");
        }
    }
}
