//! The cursor of one partition, and what it proves: whether the log behind it is still the one that was read.
//! Pure: no connection, no clock.
//!
//! Offsets alone prove nothing. A topic that is deleted and created anew counts from 0 again, and once its new
//! log has grown past our offset, reading on from there would skip everything before it without any error.
//! So a cursor also holds the topic's id (where the cluster has ids) and a fingerprint of the last message that
//! was taken: reading begins again *at* that message, and only if it is the same one does it go on behind it.

use serde::{Deserialize, Serialize};

use crate::domain::{Gap, GapCause};

/// How far a partition is read; the cursor's text is this as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Offset of the next message.
    pub offset: i64,
    /// The topic's id, where the cluster told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic_id: Option<String>,
    /// How many times the topic has been created anew under us.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lineage: u32,
    /// The message before [`Place::offset`], if any was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Fingerprint>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Tells one message from another at the same offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Its offset.
    pub offset: i64,
    /// Its timestamp in milliseconds; -1 without one.
    pub time: i64,
    /// CRC-32C of its payload.
    pub crc: u32,
}

impl Fingerprint {
    /// Of a message.
    #[must_use]
    pub fn of(offset: i64, time: Option<i64>, payload: &[u8]) -> Self {
        Self { offset, time: time.unwrap_or(-1), crc: crc32c::crc32c(payload) }
    }
}

/// What the far end says about a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermarks {
    /// Oldest offset there is.
    pub low: i64,
    /// Offset of the next message to be written.
    pub high: i64,
}

/// Where to begin reading, and what to tell first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// The place from now on.
    pub place: Place,
    /// If there is one: begin with this message, and it must be the same.
    pub prove: Option<Fingerprint>,
    /// What is missing.
    pub gap: Option<Gap>,
}

impl Place {
    /// A partition that is read for the first time.
    #[must_use]
    pub const fn new(offset: i64, topic_id: Option<String>) -> Self {
        Self { offset, topic_id, lineage: 0, last: None }
    }

    /// Compares this place with what is there. `another_log` says that it is known to be another log already.
    #[must_use]
    pub fn settle(
        &self,
        at: &Partition<'_>,
        marks: Watermarks,
        topic_id: Option<&str>,
        another_log: bool,
    ) -> Settled {
        let other_id = matches!((&self.topic_id, topic_id), (Some(old), Some(new)) if old != new);
        // An end before our offset: a log never shrinks, except when a broker lost its tail, which is met in
        // the same way: reading all of it again costs only work, the dedup set knows what was there.
        if another_log || other_id || marks.high < self.offset {
            return self.recreated(at, marks, topic_id);
        }
        let mut place = self.clone();
        if topic_id.is_some() {
            place.topic_id = topic_id.map(str::to_owned);
        }
        if self.offset < marks.low {
            let gap = Gap {
                source: at.source.into(),
                what: at.to_string().into(),
                from: self.name(self.offset),
                to: self.name(marks.low),
                count: u64::try_from(marks.low.saturating_sub(self.offset)).ok(),
                cause: GapCause::RetentionPassed,
                detail: "the hub kept these messages no longer than its retention; they were deleted before \
                         they were read"
                    .into(),
            };
            place.offset = marks.low;
            place.last = None;
            return Settled { place, prove: None, gap: Some(gap) };
        }
        let prove = self.last.filter(|last| last.offset >= marks.low);
        Settled { place, prove, gap: None }
    }

    fn recreated(&self, at: &Partition<'_>, marks: Watermarks, topic_id: Option<&str>) -> Settled {
        let place = Self {
            offset: marks.low,
            topic_id: topic_id.map(str::to_owned).or_else(|| self.topic_id.clone()),
            lineage: self.lineage.saturating_add(1),
            last: None,
        };
        let gap = Gap {
            source: at.source.into(),
            what: at.to_string().into(),
            from: self.name(self.offset),
            to: place.name(place.offset),
            // How long the old log was is not known any more.
            count: None,
            cause: GapCause::TopicRecreated,
            detail: "the topic was deleted and created anew; what the old one held from here on is gone, the \
                     new one is read from its beginning"
                .into(),
        };
        Settled { place, prove: None, gap: Some(gap) }
    }

    /// An offset as a gap names it. Another log's offsets are other places.
    fn name(&self, offset: i64) -> Box<str> {
        match self.lineage {
            0 => offset.to_string().into(),
            lineage => format!("{offset} (log {})", lineage.saturating_add(1)).into(),
        }
    }
}

/// Names a partition in messages: `hub[3]`.
#[derive(Debug, Clone, Copy)]
pub struct Partition<'a> {
    /// The source's name.
    pub source: &'a str,
    /// The hub.
    pub topic: &'a str,
    /// The partition.
    pub id: i32,
}

impl std::fmt::Display for Partition<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}[{}]", self.topic, self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Partition<'_> = Partition { source: "hubs", topic: "mail", id: 3 };

    fn read_to(offset: i64) -> Place {
        let last = Some(Fingerprint { offset: offset - 1, time: 7, crc: 9 });
        Place { offset, topic_id: Some("A".to_owned()), lineage: 0, last }
    }

    #[track_caller]
    fn settle(place: &Place, low: i64, high: i64, id: Option<&str>) -> Settled {
        place.settle(&AT, Watermarks { low, high }, id, false)
    }

    #[test]
    fn reading_goes_on_at_the_last_message_to_prove_that_it_is_the_same_log() {
        let settled = settle(&read_to(10), 0, 50, Some("A"));
        assert_eq!(settled.prove, read_to(10).last);
        assert_eq!((settled.place, settled.gap), (read_to(10), None));
    }

    // Reliability D2.
    #[test]
    fn what_retention_took_is_a_gap_with_exact_ends() {
        let settled = settle(&read_to(10), 25, 50, None);
        let gap = settled.gap.unwrap();
        assert_eq!((&*gap.what, &*gap.from, &*gap.to), ("mail[3]", "10", "25"));
        assert_eq!((gap.count, gap.cause), (Some(15), GapCause::RetentionPassed));
        assert_eq!((settled.place.offset, settled.prove), (25, None));
    }

    #[test]
    fn when_only_the_last_message_read_has_expired_nothing_is_missing() {
        let settled = settle(&read_to(10), 10, 50, None);
        assert_eq!((settled.gap, settled.prove, settled.place.offset), (None, None, 10));
    }

    // Reliability D3.
    #[test]
    fn a_log_that_ends_before_our_offset_or_has_another_id_is_read_from_its_beginning() {
        for (high, id) in [(4, None), (50, Some("B"))] {
            let settled = settle(&read_to(10), 2, high, id);
            assert_eq!(settled.gap.unwrap().cause, GapCause::TopicRecreated);
            assert_eq!((settled.place.offset, settled.place.lineage), (2, 1));
            assert_eq!(settled.prove, None);
        }
    }

    #[test]
    fn a_second_new_log_is_another_gap_than_the_first() {
        let first = settle(&read_to(3), 0, 1, None);
        let again = Place { offset: 3, ..first.place };
        let second = settle(&again, 0, 1, None).gap.unwrap();
        assert_ne!((first.gap.as_ref().unwrap().from.clone()), second.from);
    }

    #[test]
    fn a_cursor_survives_its_text_and_an_older_one_is_understood() {
        let place = read_to(10);
        let text = serde_json::to_string(&place).unwrap();
        assert_eq!(serde_json::from_str::<Place>(&text).unwrap(), place);
        assert_eq!(serde_json::from_str::<Place>(r#"{"offset":5}"#).unwrap(), Place::new(5, None));
    }
}
