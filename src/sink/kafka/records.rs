//! Kafka records out of events: payload, key, headers, and how large each is. It sends nothing.

use std::fmt::Write as _;

use rdkafka::message::{Header, OwnedHeaders};

use super::cursor::{FarCursor, LastEvent, VERSION};
use crate::domain::Event;
use crate::journal::{Numbered, Offset};
use crate::render::{Format, render};

/// Header with the event's id.
pub const HEADER_ID: &str = "postern-id";
/// Header with the event's kind.
pub const HEADER_KIND: &str = "postern-kind";
/// Header with the event's tags, with commas; absent without tags.
pub const HEADER_TAGS: &str = "postern-tags";
/// Header with the record's place: `<journal id>/<sink name>:<batch>:<index>:<records in the batch>`. Batches
/// count from 1 without holes, so a reader that remembers the last batch can tell a repeated or torn one.
pub const HEADER_BATCH: &str = "postern-batch";

/// What Kafka and librdkafka add to a record's own bytes, generously.
const OVERHEAD: usize = 200;

/// The records of one batch. Kept and filled again, so that a batch costs no new memory.
#[derive(Default)]
pub(super) struct Records {
    bytes: Vec<u8>,
    /// Index in the batch, and where the payload is.
    places: Vec<(usize, usize, usize)>,
    hash: u32,
    rejected: Vec<(usize, Offset, usize)>,
    text: String,
}

impl Records {
    /// Renders the events that `wanted` names; those that would be larger than `limit` are refused.
    pub(super) fn fill(
        &mut self,
        events: &[Numbered],
        format: Format,
        limit: usize,
        wanted: impl Fn(Offset) -> bool,
    ) {
        self.bytes.clear();
        self.places.clear();
        self.rejected.clear();
        self.hash = 0;
        for (index, numbered) in events.iter().enumerate() {
            if !wanted(numbered.offset) {
                continue;
            }
            let start = self.bytes.len();
            render(format, &numbered.event, &mut self.bytes);
            let size = self.bytes.len() - start + around(&numbered.event);
            if size > limit {
                self.bytes.truncate(start);
                self.rejected.push((index, numbered.offset, size));
                continue;
            }
            self.hash = crc32c::crc32c_append(self.hash, &numbered.event.id.0);
            self.places.push((index, start, self.bytes.len()));
        }
    }

    /// How many records there are.
    pub(super) fn count(&self) -> usize {
        self.places.len()
    }

    /// Size of the largest record.
    pub(super) fn largest(&self) -> usize {
        self.places.iter().map(|(_, start, end)| end - start + OVERHEAD).max().unwrap_or(0)
    }

    /// The refused ones: index in the batch, and size.
    pub(super) fn rejected(&self) -> impl Iterator<Item = (usize, usize)> {
        self.rejected.iter().map(|(index, _, size)| (*index, *size))
    }

    /// Where in the batch the `nth` record's event is.
    pub(super) fn index(&self, nth: usize) -> Option<usize> {
        self.places.get(nth).map(|(index, ..)| *index)
    }

    /// The payload of the `nth` record.
    pub(super) fn payload(&self, nth: usize) -> &[u8] {
        let place = self.places.get(nth).map(|(_, start, end)| *start..*end);
        place.and_then(|place| self.bytes.get(place)).unwrap_or_default()
    }

    /// The cursor that goes with these records.
    pub(super) fn cursor(&self, seq: u64, next: Offset, last: &Numbered) -> FarCursor {
        FarCursor {
            v: VERSION,
            seq,
            next,
            n: self.count(),
            hash: self.hash,
            rejected: self.rejected.iter().map(|(_, offset, _)| *offset).collect(),
            last: LastEvent { offset: last.offset, id: last.event.id },
        }
    }

    /// The headers of one record. `place` is the batch header's value without index and count.
    pub(super) fn headers(&mut self, event: &Event, place: Option<(&str, usize)>) -> OwnedHeaders {
        let id = event.id.hex();
        let mut headers = OwnedHeaders::new_with_capacity(4)
            .insert(Header { key: HEADER_ID, value: Some(&id[..]) })
            .insert(Header { key: HEADER_KIND, value: Some(event.kind.as_str()) });
        self.text.clear();
        for tag in event.decision.tags.words() {
            if !self.text.is_empty() {
                self.text.push(',');
            }
            self.text.push_str(tag);
        }
        if !self.text.is_empty() {
            headers = headers.insert(Header { key: HEADER_TAGS, value: Some(self.text.as_str()) });
        }
        if let Some((batch, index)) = place {
            self.text.clear();
            let _ = write!(self.text, "{batch}:{index}:{}", self.places.len());
            headers = headers.insert(Header { key: HEADER_BATCH, value: Some(self.text.as_str()) });
        }
        headers
    }
}

/// Bytes of a record beside its payload.
fn around(event: &Event) -> usize {
    let tags: usize = event.decision.tags.words().map(|word| word.len() + 1).sum();
    OVERHEAD + tags + event.key.as_ref().map_or(32, |key| key.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::tests::event;
    use rdkafka::message::Headers as _;
    use std::sync::Arc;

    fn indexes(records: &Records) -> Vec<usize> {
        (0..records.count()).filter_map(|nth| records.index(nth)).collect()
    }

    // Reliability F10.
    #[test]
    fn a_record_over_the_limit_is_refused_and_its_neighbors_are_numbered_without_a_hole() {
        let events: Vec<Numbered> = [3, 5000, 4]
            .iter()
            .enumerate()
            .map(|(offset, length)| Numbered {
                offset: 10 + offset as u64,
                event: Arc::new(event(&format!("{{\"a\":\"{}\"}}", "x".repeat(*length)))),
            })
            .collect();
        let mut records = Records::default();
        records.fill(&events, Format::Native, 4000, |_| true);
        assert_eq!(indexes(&records), [0, 2]);
        assert_eq!(records.rejected().map(|(index, _)| index).collect::<Vec<_>>(), [1]);
        let cursor = records.cursor(7, 13, &events[2]);
        assert_eq!((cursor.n, cursor.seq, cursor.next), (2, 7, 13));
        assert_eq!(cursor.rejected, [11]);
        let headers = records.headers(&events[2].event, Some(("j/s:7", 1)));
        let batch = headers.iter().find(|header| header.key == HEADER_BATCH).unwrap();
        assert_eq!(batch.value, Some(&b"j/s:7:1:2"[..]));
    }

    #[test]
    fn what_is_there_already_is_left_out() {
        let events: Vec<Numbered> =
            (0..4).map(|offset| Numbered { offset, event: Arc::new(event("{}")) }).collect();
        let mut records = Records::default();
        records.fill(&events, Format::Native, 4000, |offset| offset >= 2);
        assert_eq!(indexes(&records), [2, 3]);
        records.fill(&events, Format::Native, 4000, |_| false);
        assert_eq!(records.count(), 0);
    }
}
