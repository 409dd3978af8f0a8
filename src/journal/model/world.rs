//! The state behind a model disk: its files, its directory, what is not synced, and what a power cut makes of it.
//! The calls themselves are in `disk`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;

use super::faults::Faults;
use super::inode::{Inode, Tail};
use super::random::Random;

#[derive(Debug, Clone)]
pub(super) enum Entry {
    Set { name: String, inode: usize },
    Rename { from: String, to: String, inode: usize },
    Remove { name: String },
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) inodes: Vec<Inode>,
    /// The bytes of files that were removed of late, by the first word of their names: a new file may get
    /// their place on the disk.
    pub(super) removed: BTreeMap<String, Vec<u8>>,
    /// The directory as calls see it, and as a power cut surely leaves it.
    pub(super) names: BTreeMap<String, usize>,
    pub(super) durable_names: BTreeMap<String, usize>,
    pub(super) unsynced: Vec<Entry>,
    pub(super) forgotten: Vec<Entry>,
    pub(super) faults: Faults,
    pub(super) random: Random,
    pub(super) life: u64,
    pub(super) calls: u64,
    pub(super) crash_at: Option<u64>,
    pub(super) crashed: bool,
    /// The call before which no read or open fails again.
    pub(super) reads_work_until: u64,
    pub(super) hits: BTreeMap<&'static str, u64>,
    pub(super) hash: u64,
    pub(super) trace: Option<String>,
}

impl World {
    pub(super) fn note(&mut self, what: &str, name: &str) {
        for byte in what.bytes().chain(name.bytes()).chain([0xff]) {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        let calls = self.calls;
        if let Some(trace) = &mut self.trace {
            let _ = writeln!(trace, "{calls:>6} {what} {name}");
        }
    }

    pub(super) fn hit(&mut self, fault: &'static str, name: &str) {
        *self.hits.entry(fault).or_default() += 1;
        self.note(fault, name);
    }

    /// Begins a call: counts it, and stops the machine if it is time.
    pub(super) fn call(&mut self, what: &'static str, name: &str) -> io::Result<()> {
        if self.crashed {
            return Err(io::Error::other("the machine has stopped"));
        }
        if self.crash_at == Some(self.calls) || self.random.chance(self.faults.crash) {
            self.crashed = true;
            self.hit("crash", what);
            return Err(io::Error::other("the machine stops here"));
        }
        self.calls += 1;
        self.note(what, name);
        Ok(())
    }

    /// Whether a fault of this rate strikes now.
    pub(super) fn strikes(&mut self, rate: u32, fault: &'static str, name: &str) -> bool {
        let strikes = self.random.chance(rate);
        if strikes {
            self.hit(fault, name);
        }
        strikes
    }

    /// A fault that passes: the next few tries succeed.
    pub(super) fn strikes_once(&mut self, rate: u32, fault: &'static str, name: &str) -> bool {
        let strikes = self.calls > self.reads_work_until && self.strikes(rate, fault, name);
        if strikes {
            self.reads_work_until = self.calls + 8;
        }
        strikes
    }

    pub(super) fn used(&self) -> u64 {
        let length = |inode: &usize| self.inodes.get(*inode).map_or(0, |i| i.cached.len() as u64);
        self.names.values().map(length).sum()
    }

    pub(super) fn lose_power(&mut self, tail: Option<Tail>) {
        let World { inodes, random, names, removed, .. } = self;
        let mut struck = Vec::new();
        for (index, inode) in inodes.iter_mut().enumerate() {
            let name = names.iter().find(|(_, named)| **named == index).map(|(name, _)| name);
            let older = name.and_then(|name| removed.get(first_word(name)));
            let older = older.map(Vec::as_slice).unwrap_or_default();
            let tail = tail.or_else(|| Tail::ALL.get(random.index(Tail::ALL.len())).copied());
            if let Some(tail) = tail.filter(|_| !inode.is_clean()) {
                inode.lose_power(tail, older, random);
                struck.push(tail.as_str());
            }
        }
        let mut entries = std::mem::take(&mut self.forgotten);
        entries.append(&mut self.unsynced);
        let total = entries.len();
        match (tail, self.random.below(4)) {
            (Some(Tail::Lost), _) => entries.clear(),
            (Some(Tail::Kept), _) => {}
            (_, 0) => entries.clear(),
            (_, 1) => entries.retain(|_| self.random.below(2) == 0),
            _ => entries.truncate(self.random.index(total + 1)),
        }
        if entries.len() < total {
            struck.push("directory entry lost");
        }
        for entry in entries {
            match entry {
                Entry::Set { name, inode } => drop(self.durable_names.insert(name, inode)),
                Entry::Remove { name } => drop(self.durable_names.remove(&name)),
                Entry::Rename { from, to, inode } => {
                    self.durable_names.remove(&from);
                    self.durable_names.insert(to, inode);
                }
            }
        }
        self.names.clone_from(&self.durable_names);
        self.hit("power lost", "");
        for fault in struck {
            self.hit(fault, "");
        }
        for (index, inode) in self.inodes.iter_mut().enumerate() {
            if !self.names.values().any(|named| *named == index) {
                *inode = Inode::default();
            }
        }
    }
}

pub(super) fn first_word(name: &str) -> &str {
    name.split('-').next().unwrap_or_default()
}
