//! Incidents that are fetched one by one: those whose alerts a whole page could not be had with, those that failed
//! even alone, and those that another one was merged into. What is owed is in the cursor, so that a restart
//! remembers it; after many tries in vain it becomes a gap.

use std::time::Duration;

use super::client::too_heavy;
use super::cursor::{Owed, Saved, Why};
use super::page::{self, Row};
use super::reader::Reader;
use crate::domain::{Gap, GapCause};
use crate::pipeline::{AdapterError, Page};

/// How many of them one poll asks for.
pub(super) const DETAILS: usize = 10;
/// Tries in vain until an incident is given up: with the waits between them, about seven hours.
const TRIES: u32 = 12;
/// The first wait, which doubles, and the longest.
const WAIT: Duration = Duration::from_secs(60);
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// Redirects that are followed: five incidents can be merged at a time.
const REDIRECTS: u32 = 10;
/// Incidents that may be owed at a time; they are in every cursor.
const MOST: usize = 500;

/// What became of asking for one incident.
enum One {
    /// Here it is, with the question in words.
    Here(Box<Row>, String),
    /// There is none.
    Gone,
    /// The far end failed over it.
    Failed(String),
}

impl Reader {
    /// Fetches the alerts of rows that came without them, from the `next`-th on: some of them. Rows that fail are
    /// handed over as they are, and owed. The answer is where to go on.
    ///
    /// # Errors
    /// If the far end cannot be asked at all and nothing was fetched.
    pub(super) async fn expand_rows(
        &mut self,
        rows: &[Row],
        words: &str,
        next: usize,
        saved: &mut Saved,
        out: &mut Page,
    ) -> Result<usize, AdapterError> {
        let mut asked = 0;
        for (at, row) in rows.iter().enumerate().skip(next) {
            if !self.is_new(row) {
                continue;
            }
            if asked == DETAILS {
                return Ok(at);
            }
            asked += 1;
            match self.fetch(&row.key, true).await {
                Ok(One::Here(whole, words)) => {
                    let chunk = self.chunk(whole.raw, &words);
                    out.chunks.push(chunk);
                }
                Ok(One::Gone) => self.hand_over_bare(row, words, "it is gone", saved, out),
                Ok(One::Failed(why)) => self.hand_over_bare(row, words, &why, saved, out),
                Err(error) if out.chunks.is_empty() => return Err(error),
                Err(_) => return Ok(at),
            }
        }
        Ok(rows.len())
    }

    fn hand_over_bare(
        &mut self,
        row: &Row,
        words: &str,
        why: &str,
        saved: &mut Saved,
        out: &mut Page,
    ) {
        tracing::warn!(
            source = self.name,
            incident = row.key,
            error = why,
            "an incident is handed over without its alerts; they will be asked for again"
        );
        out.chunks.push(self.chunk(row.raw.compact(), words));
        let stamp = row.stamp.unwrap_or(saved.high);
        let tries = saved.owed.get(&row.key).map_or(0, |owed| owed.tries) + 1;
        let owed = Owed { stamp, why: Why::Alerts, tries, redirects: 0 };
        self.not_before.insert(row.key.clone(), self.clock.monotonic() + wait(tries));
        self.owe(row.key.clone(), owed, saved, out);
    }

    /// If the row was merged into another one, that one is owed.
    pub(super) fn owe_redirect(
        &mut self,
        row: &Row,
        redirects: u32,
        saved: &mut Saved,
        out: &mut Page,
    ) {
        let Some(target) = row.redirect.as_ref().filter(|_| self.client.collection.incidents)
        else {
            return;
        };
        let stamp = row.stamp.unwrap_or(saved.high);
        if redirects == 0 && !self.is_new(row) {
            return;
        }
        let owed = Owed { stamp, why: Why::Merged, tries: 0, redirects };
        if redirects >= REDIRECTS {
            let why = format!("more than {REDIRECTS} redirects lead to it, one after another");
            out.gaps.push(self.gap(target, &owed, GapCause::RemoteFailed, &why));
            return;
        }
        if !saved.owed.contains_key(target) {
            self.owe(target.clone(), owed, saved, out);
        }
    }

    fn owe(&mut self, id: String, owed: Owed, saved: &mut Saved, out: &mut Page) {
        if saved.owed.len() >= MOST && !saved.owed.contains_key(&id) {
            let why = format!("more than {MOST} incidents are being asked for again already");
            out.gaps.push(self.gap(&id, &owed, GapCause::RemoteFailed, &why));
        } else {
            saved.owed.insert(id, owed);
        }
    }

    /// Those that may be tried now.
    pub(super) fn due<'s>(&'s self, saved: &'s Saved) -> impl Iterator<Item = &'s String> {
        let now = self.clock.monotonic();
        let may = move |id: &&String| self.not_before.get(*id).is_none_or(|at| *at <= now);
        saved.owed.keys().filter(may)
    }

    /// Asks for some of those that are due.
    ///
    /// # Errors
    /// If the far end cannot be asked at all and nothing was fetched. The walks go on all the same.
    pub(super) async fn settle_owed(
        &mut self,
        saved: &mut Saved,
        out: &mut Page,
    ) -> Result<(), AdapterError> {
        let due: Vec<String> = self.due(saved).take(DETAILS).cloned().collect();
        for id in due {
            let Some(owed) = saved.owed.get(&id).cloned() else { continue };
            let seen = self.seen.get(&id).is_some_and(|seen| *seen >= owed.stamp);
            if owed.why == Why::Merged && seen {
                saved.owed.remove(&id);
                continue;
            }
            let one = match self.fetch(&id, self.rungs.is_some()).await {
                Ok(one) => one,
                Err(error) if out.is_empty() => return Err(error),
                Err(_) => break,
            };
            match one {
                One::Here(row, words) => self.settled(&id, &owed, &row, &words, saved, out),
                One::Gone => {
                    saved.owed.remove(&id);
                    self.not_before.remove(&id);
                    let why = "Graph does not have it any more";
                    out.gaps.push(self.gap(&id, &owed, GapCause::RemoteGone, why));
                }
                One::Failed(why) => self.failed(&id, owed, &why, saved, out).await,
            }
        }
        self.rest_or_owe(saved, out);
        Ok(())
    }

    fn settled(
        &mut self,
        id: &str,
        owed: &Owed,
        row: &Row,
        words: &str,
        saved: &mut Saved,
        out: &mut Page,
    ) {
        saved.owed.remove(id);
        self.not_before.remove(id);
        out.chunks.push(self.chunk(row.raw.clone(), words));
        self.owe_redirect(row, owed.redirects + 1, saved, out);
        self.seen.insert(id.to_owned(), row.stamp.unwrap_or(owed.stamp));
    }

    async fn failed(
        &mut self,
        id: &str,
        mut owed: Owed,
        why: &str,
        saved: &mut Saved,
        out: &mut Page,
    ) {
        owed.tries += 1;
        // Better without its alerts than not at all.
        if owed.why == Why::Merged
            && self.rungs.is_some()
            && let Ok(One::Here(row, words)) = self.fetch(id, false).await
        {
            self.settled(id, &owed, &row, &words, saved, out);
            owed.why = Why::Alerts;
        }
        if owed.tries >= TRIES {
            saved.owed.remove(id);
            self.not_before.remove(id);
            let why = format!("Graph failed {TRIES} times to give it: {why}");
            out.gaps.push(self.gap(id, &owed, GapCause::RemoteFailed, &why));
            return;
        }
        self.not_before.insert(id.to_owned(), self.clock.monotonic() + wait(owed.tries));
        saved.owed.insert(id.to_owned(), owed);
    }

    /// Asks for one incident.
    async fn fetch(&self, id: &str, expand: bool) -> Result<One, AdapterError> {
        let wanted = self.client.one(id, expand)?;
        match self.client.send(&wanted).await {
            Ok(answer) => Ok(match page::single(answer.body) {
                Ok(row) => One::Here(Box::new(row), wanted.words),
                Err(why) => One::Failed(format!("the answer is no incident: {why}")),
            }),
            Err(error) if matches!(error.status(), Some(404 | 410)) => Ok(One::Gone),
            Err(error) if too_heavy(&error) || error.status() == Some(400) => {
                Ok(One::Failed(error.to_string()))
            }
            Err(error) => Err(self.client.sorted(error)),
        }
    }

    fn gap(&self, id: &str, owed: &Owed, cause: GapCause, why: &str) -> Gap {
        let (what, detail) = match owed.why {
            Why::Alerts => (format!("alerts of incident {id}"), format!("the alerts: {why}")),
            Why::Merged => {
                (format!("incident {id}"), format!("another one was merged into it: {why}"))
            }
        };
        let at = owed.stamp.to_string();
        Gap {
            source: self.name.as_str().into(),
            what: what.into(),
            from: at.as_str().into(),
            to: at.into(),
            count: Some(1),
            cause,
            detail: detail.into(),
        }
    }

    /// What is wrong, for people, while something is owed that was tried in vain.
    pub(super) fn trouble(saved: &Saved) -> Option<String> {
        let failing = saved.owed.values().filter(|owed| owed.tries > 0).count();
        (failing > 0).then(|| format!("Graph fails to give {failing} incidents with their alerts"))
    }
}

/// How long to wait after so many tries.
fn wait(tries: u32) -> Duration {
    WAIT.saturating_mul(1 << tries.min(10)).min(LONGEST_WAIT)
}
