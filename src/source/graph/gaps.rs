//! What a collection as a whole does not give any more, as gap records. Single incidents are `owed`'s.

use super::cursor::Saved;
use super::reader::Reader;
use crate::domain::{Gap, GapCause, Ticks};
use crate::pipeline::Page;

/// How long Defender keeps incidents and alerts.
const KEPT_SECONDS: i64 = 180 * 86_400;

impl Reader {
    /// Rows with one and the same stamp that the far end does not show.
    pub(super) fn tie_gap(&self, at: Ticks, count: Option<u64>) -> Gap {
        let noun = self.client.collection.noun;
        let detail = format!(
            "more {noun} have one and the same lastUpdateDateTime than Graph shows of them"
        );
        Gap {
            source: self.name.as_str().into(),
            what: noun.into(),
            from: at.to_string().into(),
            to: Ticks(at.0.saturating_add(1)).to_string().into(),
            count,
            cause: GapCause::RemoteFailed,
            detail: detail.into(),
        }
    }

    /// Says once that Defender no longer has what the mark is at.
    pub(super) fn retention(&self, saved: &mut Saved, out: &mut Page, date: Option<Ticks>) {
        let Some(kept) = date.map(|date| date.plus_seconds(-KEPT_SECONDS)) else { return };
        let told = saved.retention_told == Some(saved.high);
        if saved.high >= kept || saved.first_until.is_some() || told {
            return;
        }
        saved.retention_told = Some(saved.high);
        out.gaps.push(Gap {
            source: self.name.as_str().into(),
            what: self.client.collection.noun.into(),
            from: saved.high.to_string().into(),
            to: kept.to_string().into(),
            count: None,
            cause: GapCause::RetentionPassed,
            detail: "Defender keeps incidents and alerts for 180 days".into(),
        });
    }
}
