//! What the source knows about one table or own query: how it stands, how far it is read, which walk it is on.
//! Decides windows; asks nobody.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::client::{Limits, Walk};
use super::query::{Subject, TimeColumn};
use super::window::Window;
use crate::domain::{Cursor, CursorKey, Cursors, Gap, GapCause, Ticks};

/// How long hunting keeps rows, in seconds, less an hour so that the edge is not missed while asking.
const RETENTION: i64 = 30 * 86_400 - 3_600;

/// The shortest step that is learnt, in seconds.
const SHORTEST_STEP: i64 = 60;

/// How a table stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nobody has looked yet.
    Unknown,
    /// It can be read. `sure` is false while it has had no row to tell its time by; then it is looked at again.
    Ready { sure: bool, looked: Duration },
    /// It is not there; it is looked for again at this time.
    Missing { again: Duration },
    /// It cannot be read as configured; it is tried again at this time.
    Held { why: String, again: Duration },
}

/// How far a table is read: the cursor's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// Everything before this is read.
    pub(super) to: Ticks,
    /// By time of ingestion (else by the event's own time).
    pub(super) ingestion: bool,
}

/// The second readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sweep {
    Hourly,
    Daily,
}

impl Sweep {
    pub(super) const ALL: [Self; 2] = [Self::Hourly, Self::Daily];

    const fn word(self) -> &'static str {
        match self {
            Self::Hourly => "hourly",
            Self::Daily => "daily",
        }
    }

    const fn period_seconds(self) -> i64 {
        match self {
            Self::Hourly => 3_600,
            Self::Daily => 86_400,
        }
    }
}

/// Spans that are the same for all tables, in seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spans {
    pub(super) settle: i64,
    pub(super) overlap: i64,
    pub(super) start_back: i64,
    pub(super) step: i64,
    pub(super) hourly: i64,
    pub(super) daily: i64,
}

/// One table or own query.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) subject: Subject,
    pub(super) own: bool,
    pub(super) standing: Standing,
    /// The work in hand: what is new.
    pub(super) walk: Option<Walk>,
    /// The work in hand when nothing is new: a second reading, and the far end's time when it began.
    pub(super) sweep: Option<(Sweep, Walk, Ticks)>,
    /// What goes with the next page: a gap, cursors.
    pub(super) gaps: Vec<Gap>,
    pub(super) cursors: Vec<(CursorKey, Cursor)>,
    key: CursorKey,
    source: String,
    lateness: i64,
    /// Seconds that one query asks about, as learnt.
    step: i64,
}

impl Desk {
    pub(super) fn new(source: &str, subject: Subject, lateness: i64, own: bool, step: i64) -> Self {
        Self {
            key: if own {
                format!("{source}/query/{}", subject.table.name()).into()
            } else {
                format!("{source}/{}", subject.table.name()).into()
            },
            source: source.to_owned(),
            // A query of one's own is not looked at beforehand: its first question tells.
            standing: if own {
                Standing::Ready { sure: true, looked: Duration::ZERO }
            } else {
                Standing::Unknown
            },
            subject,
            own,
            walk: None,
            sweep: None,
            gaps: Vec::new(),
            cursors: Vec::new(),
            lateness,
            step,
        }
    }

    pub(super) fn name(&self) -> &str {
        self.subject.table.name()
    }

    pub(super) const fn is_ready(&self) -> bool {
        matches!(self.standing, Standing::Ready { .. })
    }

    /// How far it is read, if it has been.
    pub(super) fn mark(&self, cursors: &Cursors) -> Option<Mark> {
        serde_json::from_str(cursors.get(&self.key)?).ok()
    }

    /// The cursor for `to`, unless it would say nothing new.
    pub(super) fn marked(&self, cursors: &Cursors, to: Ticks) -> Option<(CursorKey, Cursor)> {
        let mark = Mark { to, ingestion: self.subject.time == TimeColumn::Ingestion };
        // Reading again what lies before it does not take a cursor back.
        let news =
            self.mark(cursors).is_none_or(|old| to > old.to || (to == old.to && old != mark));
        news.then(|| (self.key.clone(), text(&mark)))
    }

    /// Sets out to read what is new by `now`, the far end's present.
    pub(super) fn set_out(&mut self, cursors: &Cursors, now: Ticks, spans: Spans, limits: Limits) {
        // What an earlier start left behind without a page is found out anew.
        self.gaps.clear();
        self.cursors.clear();
        let to = now.plus_seconds(-spans.settle);
        let floor = now.plus_seconds(-RETENTION);
        let back = match self.subject.time {
            TimeColumn::Ingestion => spans.overlap,
            TimeColumn::Column(_) => self.lateness,
        };
        let from = match self.mark(cursors) {
            // The far end's clock has gone back: wait until it is there again.
            Some(mark) if mark.to >= to => return,
            Some(mark) if mark.to < floor => {
                self.gaps.push(self.gap(mark.to, floor));
                self.cursors.extend(self.marked(cursors, floor));
                floor
            }
            Some(mark) => mark.to.plus_seconds(-back).max(floor),
            None => {
                for sweep in Sweep::ALL {
                    self.cursors.push((self.sweep_key(sweep), text(&now)));
                }
                to.plus_seconds(-spans.start_back).max(floor)
            }
        };
        let walk = Walk::new(self.subject.clone(), Window::new(from, to), self.step, limits);
        self.walk = (!walk.is_done()).then_some(walk);
    }

    /// Sets out to read a second time what may have come late, if that is due.
    pub(super) fn set_out_again(
        &mut self,
        cursors: &Cursors,
        now: Ticks,
        spans: Spans,
        limits: Limits,
    ) {
        for sweep in Sweep::ALL {
            let (length, time) = match sweep {
                Sweep::Hourly => (spans.hourly, self.subject.time.clone()),
                Sweep::Daily if self.own => (spans.daily, self.subject.time.clone()),
                Sweep::Daily => (spans.daily, TimeColumn::timestamp()),
            };
            let last = cursors.get(&self.sweep_key(sweep));
            let last = last.and_then(|text| serde_json::from_str::<Ticks>(text).ok());
            let due = last.is_some_and(|last| last.plus_seconds(sweep.period_seconds()) <= now);
            if length == 0 || !due {
                continue;
            }
            let to = now.plus_seconds(-spans.settle);
            let window = Window::new(to.plus_seconds(-length), to);
            let subject = self.subject.clone().by(time);
            self.sweep = Some((sweep, Walk::new(subject, window, self.step, limits), now));
            return;
        }
    }

    /// The cursor that says that a second reading is done.
    pub(super) fn swept(&self, sweep: Sweep, began: Ticks) -> (CursorKey, Cursor) {
        (self.sweep_key(sweep), text(&began))
    }

    /// An answer was too much: ask for less from now on.
    pub(super) fn narrow(&mut self) {
        self.step = (self.step / 2).max(SHORTEST_STEP);
    }

    /// An answer had room left: ask for more, up to what is configured.
    pub(super) fn widen(&mut self, most: i64) {
        self.step = self.step.saturating_mul(2).min(most);
    }

    fn sweep_key(&self, sweep: Sweep) -> CursorKey {
        format!("{}/{}", self.key, sweep.word()).into()
    }

    fn gap(&self, from: Ticks, to: Ticks) -> Gap {
        Gap {
            source: self.source.as_str().into(),
            what: self.name().into(),
            from: from.to_string().into(),
            to: to.to_string().into(),
            count: None,
            cause: GapCause::RetentionPassed,
            detail: format!("hunting keeps 30 days; {} was last read up to {from}", self.name())
                .into(),
        }
    }
}

/// A value as a cursor's text.
fn text<T: Serialize>(value: &T) -> Cursor {
    serde_json::to_string(value).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Table;

    const SPANS: Spans = Spans {
        settle: 180,
        overlap: 300,
        start_back: 3_600,
        step: 3_600,
        hourly: 4 * 3_600,
        daily: 86_400,
    };

    fn at(text: &str) -> Ticks {
        Ticks::parse(text).unwrap()
    }

    fn desk(time: TimeColumn) -> Desk {
        Desk::new("hunt", Subject::of(Table::AlertInfo, time), 30 * 3_600, false, 7_200)
    }

    fn cursors(desk: &Desk, to: &str) -> Cursors {
        desk.marked(&Cursors::new(), at(to)).into_iter().collect()
    }

    #[track_caller]
    fn window(desk: &Desk) -> String {
        desk.walk.as_ref().unwrap().ahead().unwrap().to_string()
    }

    #[test]
    fn a_window_ends_before_the_far_ends_present_and_begins_before_the_last_one_ended() {
        let mut desk = desk(TimeColumn::Ingestion);
        let cursors = cursors(&desk, "2026-08-20T09:00:00Z");
        desk.set_out(&cursors, at("2026-08-20T09:08:00Z"), SPANS, Limits::default());
        assert_eq!(window(&desk), "2026-08-20T08:55:00Z/2026-08-20T09:05:00Z");
        assert_eq!(desk.marked(&cursors, at("2026-08-20T08:58:00Z")), None);
    }

    #[test]
    fn by_timestamp_the_whole_lateness_is_read_again() {
        let mut desk = desk(TimeColumn::timestamp());
        let cursors = cursors(&desk, "2026-08-20T09:00:00Z");
        desk.set_out(&cursors, at("2026-08-20T09:08:00Z"), SPANS, Limits::default());
        assert_eq!(window(&desk), "2026-08-19T03:00:00Z/2026-08-19T05:00:00Z");
    }

    #[test]
    fn what_hunting_no_longer_keeps_is_a_gap_and_the_cursor_moves_with_it() {
        let mut desk = desk(TimeColumn::Ingestion);
        let cursors = cursors(&desk, "2026-06-01T00:00:00Z");
        desk.set_out(&cursors, at("2026-08-20T09:08:00Z"), SPANS, Limits::default());
        let gap = &desk.gaps[0];
        assert_eq!((&*gap.from, &*gap.to), ("2026-06-01T00:00:00Z", "2026-07-21T10:08:00Z"));
        assert_eq!(desk.cursors.len(), 1);
    }

    #[test]
    fn a_second_reading_is_due_by_the_far_ends_time_and_a_clock_that_went_back_asks_nothing() {
        let mut desk = desk(TimeColumn::Ingestion);
        let begin = at("2026-08-20T09:00:00Z");
        let mut cursors: Cursors =
            Sweep::ALL.map(|sweep| desk.swept(sweep, begin)).into_iter().collect();
        desk.set_out_again(&cursors, begin.plus_seconds(3_599), SPANS, Limits::default());
        assert!(desk.sweep.is_none());
        desk.set_out_again(&cursors, begin.plus_seconds(3_600), SPANS, Limits::default());
        assert_eq!(desk.sweep.as_ref().unwrap().0, Sweep::Hourly);
        cursors.extend(desk.marked(&Cursors::new(), begin));
        desk.set_out(&cursors, begin, SPANS, Limits::default());
        assert!(desk.walk.is_none());
    }
}
