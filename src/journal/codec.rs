//! How one unit becomes bytes and back: the *record* format, inside a frame. What a frame is, `frame` says;
//! nothing here knows of files or checksums.
//!
//! A unit is one **block**: a header of 16 bytes, then the body, compressed with zstd where that helps.
//!
//! ```text
//! block  = flags u8 (1: zstd) · 3 × 0 · stored length u32 · body length u32 · events u32 · stored bytes
//! body   = record version u8 · sections
//! section= tag u8 · length u32 · bytes
//! tags   : 1 ids of the events, 16 bytes each
//!          2 strings that many events share (tenant, source)       postcard list
//!          3 what is known and was decided of each event           postcard, one after the other
//!          4 the events' raw bytes, one after the other
//!          5 mails seen, 16 bytes each
//!          6 cursors        7 dead letters        9 tickets        postcard lists
//!          8 dead letters resolved, 16 bytes each
//! ```
//!
//! Empty sections are left out. Numbers are little-endian. Enumerations go by their place in the list, so
//! values are only ever added at the end (a test holds the lists); fields are only added with a new record
//! version. Version N reads N-1 and refuses N+1 by name.
//!
//! How it can be broken: it cannot, short of a defect here, because a frame's checksum covers every byte. A body
//! that does not decode is therefore reported as damage of its frame, and the reader stops there.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::bytes::{Take, length32, postcard_into, size};
use super::port::Unit;
use crate::domain::{
    Arrival, Cursor, CursorKey, DeadLetter, Decision, Event, EventId, Issue, Kind, Raw, Table,
    TicketRecord, Ticks,
};

/// Version of the record format that this build writes.
pub(crate) const RECORD_VERSION: u8 = 1;
/// Length of a block's header.
pub(crate) const BLOCK_HEADER: usize = 16;
/// Largest body that is written or accepted: a hostile length must not make us allocate without limit.
/// Far above any page of any source.
pub(crate) const MAX_BODY: usize = 1 << 30;
/// Below this many bytes compression is not worth its call.
const COMPRESS_FROM: usize = 512;

const FLAG_ZSTD: u8 = 1;

const IDS: u8 = 1;
const STRINGS: u8 = 2;
const METAS: u8 = 3;
const RAWS: u8 = 4;
const MAILS_SEEN: u8 = 5;
const CURSORS: u8 = 6;
const DEAD_LETTERS: u8 = 7;
const RESOLVED: u8 = 8;
const TICKETS: u8 = 9;

/// What a unit changes besides adding events.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Effects {
    pub(crate) ids: Vec<EventId>,
    pub(crate) mails_seen: Vec<EventId>,
    pub(crate) dead_letters: Vec<DeadLetter>,
    pub(crate) resolved: Vec<EventId>,
    pub(crate) cursors: Vec<(CursorKey, Cursor)>,
    pub(crate) tickets: Vec<TicketRecord>,
}

/// A unit ready to be written: its block, and what to do once it is durable.
#[derive(Debug, Clone)]
pub struct EncodedUnit {
    pub(crate) block: Vec<u8>,
    pub(crate) events: Vec<Arc<Event>>,
    pub(crate) effects: Effects,
}

impl EncodedUnit {
    /// Whether nothing that is not durable yet can matter to it: it holds no events, no keys and no cursors, only
    /// tickets and dead letters. Such a unit may overtake others and is written past the quota, because the
    /// readers that will free room depend on it.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        self.events.is_empty()
            && self.effects.mails_seen.is_empty()
            && self.effects.cursors.is_empty()
    }

    /// Bytes that the unit will take in the file.
    #[must_use]
    pub fn stored_bytes(&self) -> usize {
        self.block.len()
    }
}

/// Turns units into blocks. Keeps its buffers and the compressor, so it is worth keeping.
pub struct Encoder {
    compressor: Option<zstd::bulk::Compressor<'static>>,
    body: Vec<u8>,
    compressed: Vec<u8>,
    strings: Vec<Arc<str>>,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Encoder")
    }
}

/// The unit cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge(pub usize);

impl Encoder {
    /// An encoder for this zstd level; 0 compresses nothing.
    #[must_use]
    pub fn new(level: i32) -> Self {
        let compressor =
            (level != 0).then(|| zstd::bulk::Compressor::new(level.clamp(-7, 19)).ok());
        Self {
            compressor: compressor.flatten(),
            body: Vec::new(),
            compressed: Vec::new(),
            strings: Vec::new(),
        }
    }

    /// Encodes one unit.
    pub fn encode(&mut self, unit: Unit) -> Result<EncodedUnit, TooLarge> {
        let events = unit.events.into_iter().map(Arc::new).collect();
        let effects = Effects {
            ids: Vec::new(),
            mails_seen: unit.mails_seen,
            dead_letters: unit.dead_letters,
            resolved: unit.dead_letters_resolved,
            cursors: unit.cursors,
            tickets: unit.tickets,
        };
        self.encode_parts(events, effects)
    }

    /// Encodes events (whose ids become `effects.ids`) and effects.
    pub(crate) fn encode_parts(
        &mut self,
        events: Vec<Arc<Event>>,
        mut effects: Effects,
    ) -> Result<EncodedUnit, TooLarge> {
        effects.ids = events.iter().map(|event| event.id).collect();
        self.body.clear();
        self.body.push(RECORD_VERSION);
        ids(&mut self.body, IDS, &effects.ids);
        if !events.is_empty() {
            self.events(&events);
        }
        ids(&mut self.body, MAILS_SEEN, &effects.mails_seen);
        list(&mut self.body, CURSORS, &effects.cursors);
        list(&mut self.body, DEAD_LETTERS, &effects.dead_letters);
        ids(&mut self.body, RESOLVED, &effects.resolved);
        list(&mut self.body, TICKETS, &effects.tickets);
        if self.body.len() > MAX_BODY {
            let length = self.body.len();
            self.body = Vec::new();
            return Err(TooLarge(length));
        }
        let block = self.block(length32(events.len()));
        // A huge unit must not leave its buffers behind for ever.
        self.body.shrink_to(8 << 20);
        self.compressed.shrink_to(8 << 20);
        Ok(EncodedUnit { block, events, effects })
    }

    fn events(&mut self, events: &[Arc<Event>]) {
        self.strings.clear();
        for event in events {
            for text in [&event.tenant, &event.source] {
                if !self.strings.contains(text) {
                    self.strings.push(Arc::clone(text));
                }
            }
        }
        list(&mut self.body, STRINGS, &self.strings);
        let strings = &self.strings;
        let place = |text: &Arc<str>| {
            length32(strings.iter().position(|known| known == text).unwrap_or_default())
        };
        section(&mut self.body, METAS, |out| {
            for event in events {
                let meta = MetaOut {
                    kind: event.kind,
                    table: &event.table,
                    tenant: place(&event.tenant),
                    source: place(&event.source),
                    occurred: event.occurred,
                    observed: event.observed,
                    ingested: event.ingested,
                    arrival: event.arrival,
                    key: event.key.as_deref(),
                    recipient: event.recipient.as_deref(),
                    decision: &event.decision,
                    issues: &event.issues,
                    row: event.row,
                    raw_length: length32(event.raw.len()),
                };
                postcard_into(out, &meta);
            }
        });
        section(&mut self.body, RAWS, |out| {
            for event in events {
                out.extend_from_slice(event.raw.as_bytes());
            }
        });
    }

    fn block(&mut self, events: u32) -> Vec<u8> {
        let compressed = self.compress();
        let flags = if compressed { FLAG_ZSTD } else { 0 };
        let bytes = if compressed { &self.compressed } else { &self.body };
        let (stored, body) = (length32(bytes.len()), length32(self.body.len()));
        let mut block = Vec::with_capacity(BLOCK_HEADER + bytes.len());
        block.extend_from_slice(&BlockHeader { flags, stored, body, events }.to_bytes());
        block.extend_from_slice(bytes);
        block
    }

    /// Compresses the body into a buffer that is kept; whether that was worth it.
    fn compress(&mut self) -> bool {
        let body = &self.body;
        let Some(compressor) = self.compressor.as_mut().filter(|_| body.len() >= COMPRESS_FROM)
        else {
            return false;
        };
        self.compressed.clear();
        self.compressed.reserve(zstd::zstd_safe::compress_bound(body.len()));
        let done = compressor.compress_to_buffer(body, &mut self.compressed);
        done.is_ok_and(|length| length < body.len() - body.len() / 16)
    }
}

#[derive(Debug, Clone, Copy)]
struct BlockHeader {
    flags: u8,
    stored: u32,
    body: u32,
    events: u32,
}

impl BlockHeader {
    fn to_bytes(self) -> [u8; BLOCK_HEADER] {
        let mut out = [0; BLOCK_HEADER];
        let fields = [u32::from(self.flags), self.stored, self.body, self.events];
        for (place, field) in out.chunks_exact_mut(4).zip(fields) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        out
    }
}

/// A block as it lies in a frame.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block<'a> {
    header: BlockHeader,
    stored: &'a [u8],
}

/// Why a block does not decode; a defect of ours or a newer version.
pub(crate) type Undecodable = String;

impl<'a> Block<'a> {
    /// Takes the next block off a frame's payload.
    pub(crate) fn take(payload: &mut Take<'a>) -> Result<Self, Undecodable> {
        let mut fields = || {
            let flags = payload.u32()?;
            let stored = payload.u32()?;
            let body = payload.u32()?;
            let events = payload.u32()?;
            let bytes = payload.bytes(size(stored))?;
            let flags = u8::try_from(flags).ok().filter(|flags| flags & !FLAG_ZSTD == 0)?;
            Some((BlockHeader { flags, stored, body, events }, bytes))
        };
        let (header, stored) = fields().ok_or("a block's header is not valid")?;
        if size(header.body) > MAX_BODY {
            return Err(format!("a block says that it holds {} bytes", header.body));
        }
        Ok(Self { header, stored })
    }

    /// How many events it holds.
    pub(crate) const fn events(&self) -> u32 {
        self.header.events
    }

    /// Bytes of its body.
    pub(crate) const fn body_length(&self) -> usize {
        size(self.header.body)
    }

    /// The body, decompressed.
    pub(crate) fn body(&self) -> Result<std::borrow::Cow<'a, [u8]>, Undecodable> {
        let body: std::borrow::Cow<'a, [u8]> = if self.header.flags & FLAG_ZSTD == 0 {
            self.stored.into()
        } else {
            zstd::bulk::decompress(self.stored, self.body_length())
                .map_err(|error| format!("a block does not decompress: {error}"))?
                .into()
        };
        if body.len() != self.body_length() {
            return Err("a block is shorter than it says".to_owned());
        }
        Ok(body)
    }
}

/// A decompressed body, cut into its sections.
#[derive(Debug, Default)]
pub(crate) struct Body<'a> {
    sections: [&'a [u8]; 10],
    raws_start: usize,
}

impl<'a> Body<'a> {
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, Undecodable> {
        let mut rest = Take(body);
        match rest.u8() {
            Some(RECORD_VERSION) => {}
            Some(newer) => {
                return Err(format!(
                    "record version {newer}; this program reads up to {RECORD_VERSION}"
                ));
            }
            None => return Err("an empty body".to_owned()),
        }
        let mut found = Self::default();
        while !rest.0.is_empty() {
            let mut section = || {
                let tag = rest.u8()?;
                let length = rest.u32()?;
                let start = body.len() - rest.0.len();
                let bytes = rest.bytes(size(length))?;
                if tag == RAWS {
                    found.raws_start = start;
                }
                *found.sections.get_mut(usize::from(tag))? = bytes;
                Some(())
            };
            section().ok_or("a section is not valid")?;
        }
        Ok(found)
    }

    fn section(&self, tag: u8) -> &'a [u8] {
        self.sections.get(usize::from(tag)).copied().unwrap_or_default()
    }

    /// What the unit changed besides adding events.
    pub(crate) fn effects(&self) -> Result<Effects, Undecodable> {
        Ok(Effects {
            ids: read_ids(self.section(IDS)),
            mails_seen: read_ids(self.section(MAILS_SEEN)),
            dead_letters: read_list(self.section(DEAD_LETTERS))?,
            resolved: read_ids(self.section(RESOLVED)),
            cursors: read_list(self.section(CURSORS))?,
            tickets: read_list(self.section(TICKETS))?,
        })
    }

    /// The unit's events; `body` is what was parsed and becomes the buffer that their raw bytes share.
    pub(crate) fn events(&self, body: &[u8], count: u32) -> Result<Vec<Event>, Undecodable> {
        let ids = read_ids(self.section(IDS));
        if ids.len() != size(count) {
            return Err(format!("{} ids for {count} events", ids.len()));
        }
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let strings: Vec<Arc<str>> = read_list(self.section(STRINGS))?;
        let raws_end = self.raws_start + self.section(RAWS).len();
        let raws = Raw::new(body.get(self.raws_start..raws_end).unwrap_or_default());
        let mut metas = self.section(METAS);
        let mut start = 0;
        let mut events = Vec::with_capacity(ids.len());
        for id in ids {
            let (meta, rest): (MetaIn, _) =
                postcard::take_from_bytes(metas).map_err(|error| format!("an event: {error}"))?;
            metas = rest;
            let end = start + size(meta.raw_length);
            if end > raws.len() {
                return Err("the raw bytes end early".to_owned());
            }
            let shared = |place: u32| {
                strings.get(size(place)).map(Arc::clone).ok_or("a shared string is missing")
            };
            events.push(Event {
                id,
                kind: meta.kind,
                table: meta.table,
                tenant: shared(meta.tenant)?,
                source: shared(meta.source)?,
                occurred: meta.occurred,
                observed: meta.observed,
                ingested: meta.ingested,
                arrival: meta.arrival,
                key: meta.key,
                recipient: meta.recipient,
                decision: meta.decision,
                issues: meta.issues,
                raw: raws.slice(start..end),
                row: meta.row,
            });
            start = end;
        }
        Ok(events)
    }
}

#[derive(Serialize)]
struct MetaOut<'a> {
    kind: Kind,
    table: &'a Table,
    tenant: u32,
    source: u32,
    occurred: Option<Ticks>,
    observed: Option<Ticks>,
    ingested: Option<Ticks>,
    arrival: Option<Arrival>,
    key: Option<&'a str>,
    recipient: Option<&'a str>,
    decision: &'a Decision,
    issues: &'a [Issue],
    row: (u32, u32),
    raw_length: u32,
}

#[derive(Deserialize)]
struct MetaIn {
    kind: Kind,
    table: Table,
    tenant: u32,
    source: u32,
    occurred: Option<Ticks>,
    observed: Option<Ticks>,
    ingested: Option<Ticks>,
    arrival: Option<Arrival>,
    key: Option<Box<str>>,
    recipient: Option<Box<str>>,
    decision: Decision,
    issues: Vec<Issue>,
    row: (u32, u32),
    raw_length: u32,
}

/// Writes a section whose length is known only afterwards.
fn section(out: &mut Vec<u8>, tag: u8, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    let place = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out);
    let length = length32(out.len() - place - 4);
    if let Some(bytes) = out.get_mut(place..place + 4) {
        bytes.copy_from_slice(&length.to_le_bytes());
    }
}

fn ids(out: &mut Vec<u8>, tag: u8, ids: &[EventId]) {
    if !ids.is_empty() {
        section(out, tag, |out| ids.iter().for_each(|id| out.extend_from_slice(&id.0)));
    }
}

fn list<T: Serialize>(out: &mut Vec<u8>, tag: u8, items: &[T]) {
    if !items.is_empty() {
        section(out, tag, |out| postcard_into(out, items));
    }
}

fn read_ids(bytes: &[u8]) -> Vec<EventId> {
    bytes.chunks_exact(16).filter_map(|id| id.try_into().ok().map(EventId)).collect()
}

fn read_list<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<Vec<T>, Undecodable> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    postcard::from_bytes(bytes).map_err(|error| format!("a list: {error}"))
}
