//! The side of the journal that readers see: the segments, what is damaged in them, and the events that are still
//! in memory. It never shows anything from beyond the watermark and never writes.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::bug::Planted;
use super::bytes::Take;
use super::codec::{Block, Body};
use super::disk::Disk;
use super::port::{JournalError, Numbered, Offset};
use super::scan::FrameReader;
use super::segment::{IndexEntry, SEGMENT_HEADER, SegmentEnd, SegmentHeader, Trailer};
use super::watermark::Watermark;
use crate::domain::{Event, Ticks};

/// File handles that are kept open for readers.
const HANDLES: usize = 8;
/// Runs of decoded events that are kept for readers that take less than a frame at a time.
const RUNS: usize = 4;

/// A place that cannot be read, and the first offset that is missing because of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Damage {
    pub(crate) byte: u64,
    pub(crate) offset: Offset,
    pub(crate) detail: String,
}

/// A segment as readers know it.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) name: String,
    pub(crate) number: u64,
    pub(crate) first_offset: Offset,
    pub(crate) salt: u64,
    pub(crate) end: SegmentEnd,
    /// Not read yet where `None`.
    pub(crate) index: Option<Arc<Vec<IndexEntry>>>,
    pub(crate) damage: Option<Damage>,
    /// Bytes of the file, as far as it is known.
    pub(crate) bytes: u64,
}

impl Segment {
    pub(crate) fn new(header: &SegmentHeader, end: SegmentEnd, bytes: u64) -> Self {
        Self {
            name: header.name(),
            number: header.number,
            first_offset: header.first_offset,
            salt: header.salt,
            end,
            index: None,
            damage: None,
            bytes,
        }
    }
}

/// Consecutive events from disk, decoded.
#[derive(Debug)]
struct Run {
    events: Vec<Numbered>,
    /// The offset to go on with; beyond the last event's where a hole follows.
    next: Offset,
}

/// Recent durable events, decoded.
#[derive(Debug, Default)]
struct Tail {
    first: Offset,
    events: VecDeque<Arc<Event>>,
    bytes: usize,
}

/// What readers see.
pub(crate) struct View<D: Disk> {
    disk: Arc<D>,
    pub(crate) watermark: Watermark,
    segments: RwLock<Vec<Segment>>,
    tail: Mutex<Tail>,
    tail_limit: usize,
    runs: Mutex<VecDeque<Run>>,
    handles: Mutex<VecDeque<(u64, Arc<D::File>)>>,
    planted: Planted,
}

impl<D: Disk> View<D> {
    pub(crate) fn new(
        disk: Arc<D>,
        segments: Vec<Segment>,
        next: Offset,
        tail_limit: usize,
        planted: Planted,
    ) -> Self {
        Self {
            disk,
            watermark: Watermark::new(next),
            segments: RwLock::new(segments),
            tail: Mutex::new(Tail { first: next, ..Tail::default() }),
            tail_limit,
            runs: Mutex::default(),
            handles: Mutex::default(),
            planted,
        }
    }

    /// The oldest offset that can be asked for.
    pub(crate) fn first(&self) -> Offset {
        self.segments().first().map_or(0, |segment| segment.first_offset)
    }

    /// What is known of the segments, oldest first.
    pub(crate) fn segments(&self) -> Vec<Segment> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn with_segments<T>(&self, change: impl FnOnce(&mut Vec<Segment>) -> T) -> T {
        change(&mut self.segments.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts durable events where they are found without decoding; the watermark is moved afterwards.
    pub(crate) fn remember(&self, first: Offset, events: impl Iterator<Item = Arc<Event>>) {
        let mut tail = lock(&self.tail);
        if tail.first + tail.events.len() as u64 != first {
            *tail = Tail { first, ..Tail::default() };
        }
        for event in events {
            tail.bytes += weight(&event);
            tail.events.push_back(event);
        }
        while tail.bytes > self.tail_limit {
            let Some(event) = tail.events.pop_front() else { break };
            tail.bytes -= weight(&event);
            tail.first += 1;
        }
    }

    /// See [`super::Journal::read`].
    pub(crate) fn read(&self, from: Offset, limit: usize) -> Result<Vec<Numbered>, JournalError> {
        let end = self.watermark.get();
        let mut found = Found { events: Vec::new(), bytes: 0, limit };
        let mut at = from;
        while at < end && !found.full() {
            let next = self.read_some(at, end, &mut found)?;
            if next <= at {
                break;
            }
            at = next;
        }
        Ok(found.events)
    }

    /// The part of [`View::read`] that needs no disk; empty where the events are not in memory.
    pub(crate) fn read_recent(&self, from: Offset, limit: usize) -> Vec<Numbered> {
        let mut found = Found { events: Vec::new(), bytes: 0, limit };
        self.take_recent(from, &mut found);
        found.events
    }

    /// Adds events from `at` on, from wherever they are; returns where to go on.
    fn read_some(&self, at: Offset, end: Offset, to: &mut Found) -> Result<Offset, JournalError> {
        if let Some(next) = self.take_recent(at, to) {
            return Ok(next);
        }
        if let Some(next) = from_run(&mut lock(&self.runs), at, to) {
            return Ok(next);
        }
        let run = match self.load(at, end, to.limit - to.bytes.min(to.limit)) {
            Ok(run) => run,
            // The readers before it have been served; this one meets the damage when it asks again.
            Err(_) if !to.events.is_empty() => {
                to.limit = 0;
                return Ok(at);
            }
            Err(error) => return Err(error),
        };
        let next = to.take(&run.events).unwrap_or(run.next);
        if next < run.next {
            let mut runs = lock(&self.runs);
            runs.push_front(run);
            runs.truncate(RUNS);
        }
        Ok(next)
    }

    fn take_recent(&self, at: Offset, to: &mut Found) -> Option<Offset> {
        let tail = lock(&self.tail);
        let skip = usize::try_from(at.checked_sub(tail.first)?).ok()?;
        let mut next = at;
        for event in tail.events.range(skip.min(tail.events.len())..) {
            if !to.push(Numbered { offset: next, event: Arc::clone(event) }) {
                break;
            }
            next += 1;
        }
        (next > at).then_some(next)
    }

    /// Reads and decodes whole units from the one that holds `at`, until `want` bytes are there.
    fn load(&self, at: Offset, end: Offset, want: usize) -> Result<Run, JournalError> {
        let Some(segment) = self.segment_of(at)? else {
            return Err(JournalError::Damaged {
                segment: "a missing segment".to_owned(),
                byte: 0,
                offset: at,
                detail: "the file that held this offset is not there".to_owned(),
            });
        };
        if let Some(damage) = &segment.damage {
            return Err(damaged(&segment.name, damage));
        }
        self.load_from(&segment, at, end, want).map_err(|error| match error {
            Unreadable::Io(cause) if cause.kind() == io::ErrorKind::NotFound => {
                JournalError::Truncated { asked: at, first: self.first() }
            }
            Unreadable::Io(cause) => {
                JournalError::Io { segment: segment.name.clone(), detail: cause.to_string() }
            }
            Unreadable::Damage(damage) => damaged(&segment.name, &damage),
        })
    }

    fn segment_of(&self, at: Offset) -> Result<Option<Segment>, JournalError> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let first = segments.first().map_or(0, |segment| segment.first_offset);
        if at < first {
            return Err(JournalError::Truncated { asked: at, first });
        }
        Ok(segments
            .iter()
            .rev()
            .find(|segment| segment.first_offset <= at)
            .filter(|segment| segment.end.next_offset > at)
            .cloned())
    }

    fn load_from(
        &self,
        segment: &Segment,
        at: Offset,
        end: Offset,
        want: usize,
    ) -> Result<Run, Unreadable> {
        let file = self.handle(segment)?;
        let start = self.start_near(segment, &*file, at)?;
        let (mut position, mut expected) = (start.position, start.offset);
        let mut reader = FrameReader::new(&*file, segment.salt, self.planted)?;
        let mut run = Run { events: Vec::new(), next: at };
        let mut bytes = 0;
        while position < segment.end.frames_end && run.next < end && (bytes <= want || bytes == 0) {
            let damage = |detail: &str| {
                let detail = detail.to_owned();
                Unreadable::Damage(Damage { byte: position, offset: expected, detail })
            };
            let found = reader.frame_at(position)?.map(|found| found.header);
            let header = match found {
                Ok(header) if header.first_offset == expected => header,
                // What was read before is served; the reader meets the damage when it asks again.
                _ if !run.events.is_empty() => break,
                Ok(_) => return Err(damage("offsets are missing in front of the frame")),
                Err(detail) => {
                    // What this reader does not need may be damaged: it begins behind it.
                    let next = reader.next_valid(position + 1)?;
                    let next = match next {
                        Some(next) => reader.frame_at(next)?.ok().map(|found| found.header),
                        None => None,
                    };
                    match (next, reader.position()) {
                        (Some(next), at_byte) if next.first_offset <= at => {
                            (position, expected) = (at_byte, next.first_offset);
                            continue;
                        }
                        _ => return Err(damage(detail)),
                    }
                }
            };
            let here = position;
            let damage = |detail: &str| {
                let detail = detail.to_owned();
                let offset = header.first_offset;
                Unreadable::Damage(Damage { byte: here, offset, detail })
            };
            expected = header.next_offset();
            position = here + header.frame_length();
            if header.next_offset() <= at || header.events == 0 {
                continue;
            }
            if header.is_hole() {
                run.next = header.next_offset();
                if run.events.is_empty() {
                    continue;
                }
                break;
            }
            let mut payload = Take(reader.payload());
            let mut offset = header.first_offset;
            while !payload.0.is_empty() {
                let block = Block::take(&mut payload).map_err(|detail| damage(&detail))?;
                let next = offset + u64::from(block.events());
                if next > at && block.events() > 0 {
                    let events = decode(&block).map_err(|detail| damage(&detail))?;
                    bytes += block.body_length();
                    let numbered = events.into_iter().zip(offset..);
                    run.events.extend(numbered.map(|(event, offset)| Numbered { offset, event }));
                }
                offset = next;
            }
            if offset != header.next_offset() {
                return Err(damage("the blocks do not hold as many events as the frame says"));
            }
            run.next = offset;
        }
        run.events.retain(|numbered| numbered.offset >= at && numbered.offset < end);
        if run.next <= at {
            // The file ends before the offset that it should hold.
            let detail = "the segment ends before this offset".to_owned();
            return Err(Unreadable::Damage(Damage { byte: position, offset: at, detail }));
        }
        Ok(run)
    }

    /// A position at or before the frame that holds `at`.
    fn start_near(&self, segment: &Segment, file: &D::File, at: Offset) -> io::Result<IndexEntry> {
        let index = match &segment.index {
            Some(index) => Arc::clone(index),
            None => {
                let trailer = Trailer::read(file, segment.salt)?;
                let index = match trailer {
                    Some(trailer) => trailer.read_index(file)?.unwrap_or_default(),
                    None => Vec::new(),
                };
                let index = Arc::new(index);
                self.change_segment(segment.number, |known| known.index = Some(Arc::clone(&index)));
                index
            }
        };
        let after = index.partition_point(|entry| entry.offset <= at);
        let entry = after.checked_sub(1).and_then(|place| index.get(place));
        let front = IndexEntry { offset: segment.first_offset, position: SEGMENT_HEADER as u64 };
        Ok(entry.copied().unwrap_or(front))
    }

    fn handle(&self, segment: &Segment) -> io::Result<Arc<D::File>> {
        let mut handles = lock(&self.handles);
        if let Some((_, file)) = handles.iter().find(|(number, _)| *number == segment.number) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(self.disk.open(&segment.name)?);
        handles.push_front((segment.number, Arc::clone(&file)));
        handles.truncate(HANDLES);
        Ok(file)
    }

    /// Forgets handles and decoded runs of segments that are gone.
    pub(crate) fn forget(&self, number: u64) {
        lock(&self.handles).retain(|(known, _)| *known != number);
    }

    pub(crate) fn change_segment(&self, number: u64, change: impl FnOnce(&mut Segment)) {
        self.with_segments(|segments| {
            if let Some(segment) = segments.iter_mut().find(|segment| segment.number == number) {
                change(segment);
            }
        });
    }

    /// The first offset whose event was ingested at or after `time`.
    pub(crate) fn offset_at(&self, time: Ticks) -> Result<Offset, JournalError> {
        const STEP: usize = 1 << 20;
        let mut at = self.first();
        for segment in self.segments() {
            if segment.end.last_at < time && segment.end.next_offset < self.watermark.get() {
                at = at.max(segment.end.next_offset);
            } else {
                break;
            }
        }
        loop {
            let events = self.read(at, STEP)?;
            let Some(last) = events.last() else { return Ok(at) };
            if let Some(found) =
                events.iter().find(|found| found.event.ingested.is_none_or(|when| when >= time))
            {
                return Ok(found.offset);
            }
            at = last.offset + 1;
        }
    }
}

/// Decodes a block's events.
pub(crate) fn decode(block: &Block<'_>) -> Result<Vec<Arc<Event>>, String> {
    let body = block.body()?;
    let events = Body::parse(&body)?.events(&body, block.events())?;
    Ok(events.into_iter().map(Arc::new).collect())
}

fn damaged(name: &str, damage: &Damage) -> JournalError {
    JournalError::Damaged {
        segment: name.to_owned(),
        byte: damage.byte,
        offset: damage.offset,
        detail: damage.detail.clone(),
    }
}

fn from_run(runs: &mut VecDeque<Run>, at: Offset, to: &mut Found) -> Option<Offset> {
    let holds =
        |run: &Run| run.events.first().is_some_and(|first| first.offset <= at) && run.next > at;
    let place = runs.iter().position(holds)?;
    let run = runs.get(place)?;
    let start = run.events.partition_point(|numbered| numbered.offset < at);
    let rest = run.events.get(start..).unwrap_or_default();
    let next = to.take(rest).unwrap_or(run.next);
    if next >= run.next {
        runs.remove(place);
    }
    Some(next)
}

/// What a read has so far.
struct Found {
    events: Vec<Numbered>,
    bytes: usize,
    limit: usize,
}

impl Found {
    fn full(&self) -> bool {
        !self.events.is_empty() && self.bytes >= self.limit
    }

    /// Adds an event if it fits; the first always does.
    fn push(&mut self, numbered: Numbered) -> bool {
        let bytes = self.bytes + numbered.event.raw.len();
        if bytes > self.limit && !self.events.is_empty() {
            self.limit = 0;
            return false;
        }
        self.bytes = bytes;
        self.events.push(numbered);
        true
    }

    /// Adds events while they fit; the offset of the first that did not.
    fn take(&mut self, events: &[Numbered]) -> Option<Offset> {
        events.iter().find(|numbered| !self.push((*numbered).clone())).map(|left| left.offset)
    }
}

enum Unreadable {
    Io(io::Error),
    Damage(Damage),
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn weight(event: &Event) -> usize {
    event.raw.len() + 512
}

/// A panic elsewhere cannot have left these half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
