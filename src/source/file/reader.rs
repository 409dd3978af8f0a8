//! Looks at the folder, decides which file is read next, and fills pages. One thread uses it at a time.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::Duration;

use super::FileSourceConfig;
use super::book::{Book, Entry};
use super::folder::{self, Found, Stamp};
use super::input::{Caps, Packing, Window};
use super::reports::Names;
use super::session::{Opened, Out, Session};
use super::sniff::{self, Format, HEAD, Sniffed};
use crate::domain::{Cursors, Failure, Gap, GapCause};
use crate::journal::Clock;
use crate::pipeline::port::{AdapterError, Page};

/// Most complaints that one error names.
const COMPLAINTS: usize = 3;

/// What was seen of a file in this life.
#[derive(Debug, Clone, Copy)]
struct Seen {
    stamp: Stamp,
    since: Duration,
    /// Whether it was opened as it is, and as still as it is, and there was nothing to be done.
    looked: Option<bool>,
}

/// See the module.
pub(super) struct Reader {
    source: Arc<str>,
    config: Arc<FileSourceConfig>,
    clock: Arc<dyn Clock>,
    names: Arc<Names>,
    book: Option<Book>,
    seen: BTreeMap<Arc<str>, Seen>,
    queue: VecDeque<Found>,
    current: Option<Session>,
    backlog: u64,
    /// What was wrong since the last look, and what the log was told last.
    troubles: Vec<String>,
    told: Option<String>,
}

impl Reader {
    pub(super) fn new(
        source: Arc<str>,
        config: Arc<FileSourceConfig>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            names: Arc::new(Names::new(&config.columns)),
            source,
            config,
            clock,
            book: None,
            seen: BTreeMap::new(),
            queue: VecDeque::new(),
            current: None,
            backlog: 0,
            troubles: Vec::new(),
            told: None,
        }
    }

    pub(super) fn probe(&self) -> Result<String, AdapterError> {
        let listing = folder::list(&self.config).map_err(|error| self.away(error))?;
        if let Some(trouble) = self.trouble(&listing.troubles) {
            return Err(trouble);
        }
        let bytes: u64 = listing.files.iter().map(|found| found.stamp.size).sum();
        for found in &listing.files {
            folder::open(found).map_err(|error| {
                AdapterError::new(
                    Failure::Hold,
                    format!("{} cannot be opened: {error}", found.name),
                )
            })?;
        }
        let (count, path) = (listing.files.len(), self.config.path.display());
        Ok(format!("{path} can be read: {count} files, {bytes} bytes"))
    }

    /// The next page.
    pub(super) fn page(&mut self, cursors: &Cursors) -> Result<Page, AdapterError> {
        let page = self.next_page(cursors);
        if page.is_err() {
            // The cursors decide from where it goes on.
            (self.book, self.current) = (None, None);
            self.queue.clear();
        }
        page
    }

    fn next_page(&mut self, cursors: &Cursors) -> Result<Page, AdapterError> {
        let mut book = match self.book.take() {
            Some(book) => book,
            None => Book::read(&self.source, cursors),
        };
        let limit = self.config.page_bytes;
        let mut out = Out::default();
        let (mut looked, mut unsettled) = (false, false);
        while out.bytes() < limit {
            if let Some(session) = &mut self.current {
                match session.fill(&mut out, limit) {
                    Ok(ended) => {
                        if session.changed {
                            // Once more from the beginning, when it is still.
                            book.remove(&session.found.name);
                        } else {
                            book.set(&session.found.name, session.entry.clone());
                        }
                        if ended {
                            self.current = None;
                        }
                    }
                    Err(error) => {
                        let name = &session.found.name;
                        self.troubles.push(format!("{name} cannot be read: {error}"));
                        self.current = None;
                    }
                }
            } else if let Some(found) = self.queue.pop_front() {
                match self.begin(&found, &mut book, &mut out) {
                    Ok(Begun::Session(session)) => self.current = Some(*session),
                    Ok(Begun::NotYet) => unsettled = true,
                    Ok(Begun::Nothing) => {}
                    Err(error) => {
                        self.troubles.push(format!("{} cannot be read: {error}", found.name));
                    }
                }
            } else if looked || !out.chunks.is_empty() {
                break;
            } else {
                looked = true;
                unsettled |= self.look(&mut book, &mut out)?;
            }
        }
        for gap in &mut out.gaps {
            gap.source = (&*self.source).into();
        }
        let more = self.current.is_some() || !self.queue.is_empty() || !out.chunks.is_empty();
        let poll = Duration::from_secs(self.config.poll_seconds);
        let settle =
            Duration::from_secs(self.config.settle_seconds).max(Duration::from_millis(100));
        let page = Page {
            cursors: book.cursors(),
            chunks: out.chunks,
            gaps: out.gaps,
            pause: (!more).then_some(if unsettled { poll.min(settle) } else { poll }),
            backlog: Some(self.backlog),
            trouble: self.trouble(&self.troubles).map(|trouble| trouble.message),
        };
        if page.trouble != self.told {
            if let Some(trouble) = &page.trouble {
                tracing::warn!(source = &*self.source, "{trouble}");
            }
            self.told.clone_from(&page.trouble);
        }
        self.book = Some(book);
        Ok(page)
    }

    /// Looks at the folder: what is gone is dropped, what may have something new is queued. Whether a file is
    /// not still yet.
    fn look(&mut self, book: &mut Book, out: &mut Out) -> Result<bool, AdapterError> {
        let listing = folder::list(&self.config).map_err(|error| self.away(error))?;
        let there =
            |name: &str| listing.files.binary_search_by(|found| (*found.name).cmp(name)).is_ok();
        if listing.troubles.is_empty() {
            for (name, entry) in book.drop_others(there) {
                lost(&name, &entry, "is no longer there", out);
            }
            self.seen.retain(|name, _| there(name));
        }
        self.troubles.clone_from(&listing.troubles);
        self.backlog = 0;
        let mut unsettled = false;
        for found in listing.files {
            let still = self.still(&found);
            let entry = book.get(&found.name);
            if entry.is_some_and(|entry| entry.done && entry.stamp() == found.stamp) {
                continue;
            }
            let read = entry.filter(|entry| entry.growing).map_or(0, |entry| entry.offset);
            self.backlog += found.stamp.size.saturating_sub(read);
            if self.seen.get(&found.name).is_some_and(|seen| seen.looked == Some(still)) {
                unsettled |= !still;
                continue;
            }
            self.queue.push_back(found);
        }
        Ok(unsettled)
    }

    /// Whether a file has not changed for long enough.
    fn still(&mut self, found: &Found) -> bool {
        let now = self.clock.monotonic();
        let new = Seen { stamp: found.stamp, since: now, looked: None };
        let seen = self.seen.entry(Arc::clone(&found.name)).or_insert(new);
        if seen.stamp != found.stamp {
            *seen = new;
        }
        now.saturating_sub(seen.since) >= Duration::from_secs(self.config.settle_seconds)
    }

    fn begin(&mut self, found: &Found, book: &mut Book, out: &mut Out) -> io::Result<Begun> {
        let still = self.still(found);
        let (file, stamp) = match folder::open(found) {
            // Deleted since the folder was looked at: the next look says so.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Begun::Nothing),
            opened => opened?,
        };
        let still = still && stamp == found.stamp;
        let mut entry = Entry::default();
        if let Some(known) = book.get(&found.name) {
            if known.knows(&file, stamp) {
                entry = known.clone();
            } else {
                lost(&found.name, known, "was replaced", out);
                book.remove(&found.name);
            }
        }
        let mut head = vec![0; HEAD];
        let count = read_at(&file, &mut head)?;
        head.truncate(count);
        let packing = Packing::of(&head);
        let caps = Caps { bytes: self.config.max_file_bytes, ratio: self.config.max_ratio };
        if packing != Packing::Plain {
            let mut window = Window::new(file.try_clone()?, packing, 0, stamp.size, caps)?;
            while window.rest().len() < HEAD && window.fill()? {}
            head = window.rest().to_vec();
            head.truncate(HEAD);
            if head.is_empty() && window.fault().is_none() {
                return Ok(self.nothing(found, still));
            }
        }
        let all = still && (packing != Packing::Plain || head.len() as u64 == stamp.size);
        let (format, holds) = match sniff::sniff(&head, all, &self.config) {
            Sniffed::Known(format, holds) => (format, holds),
            Sniffed::NotYet if head.is_empty() && packing != Packing::Plain => {
                // Not even its beginning can be decompressed: reading it says so.
                (Format::Lines, sniff::Holds::Streaming)
            }
            Sniffed::NotYet => return Ok(self.nothing(found, still)),
            Sniffed::Unreadable(_) if !still => return Ok(self.nothing(found, still)),
            Sniffed::Unreadable(why) => {
                let mut entry = Entry::default();
                entry.done = true;
                entry.note(&file, stamp)?;
                book.set(&found.name, entry);
                let detail = format!("{} was not read: {why}", found.name);
                out.gaps.push(gap(&found.name, 0, "the end", GapCause::Unreadable, detail));
                return Ok(Begun::Nothing);
            }
        };
        entry.growing = self.config.follow && packing == Packing::Plain && format == Format::Lines;
        if !entry.growing && !still {
            return Ok(self.nothing(found, still));
        }
        // Only lines are read on from where they end; an open one there is looked at once more when still.
        if entry.growing
            && entry.offset >= stamp.size
            && book.get(&found.name).is_some_and(|known| known.offset == entry.offset)
        {
            return Ok(self.nothing(found, still));
        }
        if let Some(seen) = self.seen.get_mut(&found.name) {
            seen.looked = (stamp == found.stamp && entry.growing).then_some(still);
        }
        let from = if entry.growing { entry.offset } else { 0 };
        let window = Window::new(file.try_clone()?, packing, from, stamp.size, caps)?;
        let found = found.clone();
        let opened = Opened { found, entry, file, stamp, window, format, holds, still };
        Ok(Begun::Session(Box::new(Session::new(opened, Arc::clone(&self.names)))))
    }

    /// There is nothing to be read of a file until it changes or becomes still.
    fn nothing(&mut self, found: &Found, still: bool) -> Begun {
        if let Some(seen) = self.seen.get_mut(&found.name) {
            seen.looked = Some(still);
        }
        if still { Begun::Nothing } else { Begun::NotYet }
    }

    fn away(&self, error: io::Error) -> AdapterError {
        let path = self.config.path.display();
        AdapterError::because(Failure::Hold, format!("cannot look at {path}"), error)
    }

    fn trouble(&self, troubles: &[String]) -> Option<AdapterError> {
        let first = troubles.get(..troubles.len().min(COMPLAINTS)).unwrap_or_default().join("; ");
        let more = troubles.len().saturating_sub(COMPLAINTS);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        let path = self.config.path.display();
        let message = || format!("in {path}: {first}{more}");
        (!troubles.is_empty()).then(|| AdapterError::new(Failure::Hold, message()))
    }
}

enum Begun {
    Session(Box<Session>),
    /// Something will have to be read once it is still.
    NotYet,
    Nothing,
}

/// Says what was not read of a file that is no more what it was.
fn lost(name: &str, entry: &Entry, what: &str, out: &mut Out) {
    if entry.done || (entry.growing && entry.offset >= entry.size) || entry.size == 0 {
        return;
    }
    let detail = format!("{name} {what} before it was read to its end");
    let to = if entry.growing { format!("byte {}", entry.size) } else { "the end".to_owned() };
    out.gaps.push(gap(name, entry.offset, &to, GapCause::RemoteGone, detail));
}

fn gap(name: &str, from: u64, to: &str, cause: GapCause, detail: String) -> Gap {
    Gap {
        source: "".into(),
        what: name.into(),
        from: format!("byte {from}").into(),
        to: to.into(),
        count: None,
        cause,
        detail: detail.into(),
    }
}

fn read_at(file: &std::fs::File, room: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = room.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
