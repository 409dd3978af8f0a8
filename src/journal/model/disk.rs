//! The model disk: a flat directory of model files, its faults, its power cuts, and a record of what happened.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::faults::{Faults, Outcome};
use super::inode::Inode;
use super::random::Random;
use super::world::{Entry, World, first_word};
use crate::journal::disk::{Disk, DiskFile};

/// See the module. Clones share the disk.
#[derive(Debug, Clone)]
pub struct ModelDisk(Arc<Mutex<World>>);

/// An open file of the model; dead after the life it was opened in.
#[derive(Debug)]
pub struct ModelFile {
    disk: ModelDisk,
    name: String,
    inode: usize,
    life: u64,
    writable: bool,
}

impl ModelDisk {
    /// An empty disk without faults.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(World {
            inodes: Vec::new(),
            removed: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            unsynced: Vec::new(),
            forgotten: Vec::new(),
            faults: Faults::default(),
            random: Random::new(seed),
            life: 0,
            calls: 0,
            crash_at: None,
            crashed: false,
            reads_work_until: 0,
            hits: BTreeMap::new(),
            hash: 0xcbf2_9ce4_8422_2325,
            trace: None,
        })))
    }

    /// Changes what goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.world().faults = faults;
    }

    /// What goes wrong at present.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.world().faults.clone()
    }

    /// The machine stops at the call with this number, counted from the disk's beginning, before the call does
    /// anything. `None`: it does not.
    pub fn crash_at(&self, call: Option<u64>) {
        self.world().crash_at = call;
    }

    /// Calls so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.world().calls
    }

    /// Whether the machine has stopped; then every call fails until [`ModelDisk::restart`].
    #[must_use]
    pub fn crashed(&self) -> bool {
        self.world().crashed
    }

    /// Stops the machine (if it has not) and starts it again. Files opened before are dead.
    pub fn restart(&self, outcome: Outcome) {
        let mut world = self.world();
        world.life += 1;
        world.crashed = false;
        world.crash_at = None;
        if let Outcome::PowerLost(tail) = outcome {
            world.lose_power(tail);
        } else {
            world.note("killed", "");
        }
    }

    /// A disk in the same state that goes its own way from here.
    #[must_use]
    pub fn fork(&self) -> Self {
        let world = self.world();
        Self(Arc::new(Mutex::new(World {
            inodes: world.inodes.clone(),
            removed: world.removed.clone(),
            names: world.names.clone(),
            durable_names: world.durable_names.clone(),
            unsynced: world.unsynced.clone(),
            forgotten: world.forgotten.clone(),
            faults: world.faults.clone(),
            random: world.random.clone(),
            life: world.life + 1,
            calls: world.calls,
            crash_at: None,
            crashed: world.crashed,
            reads_work_until: world.reads_work_until,
            hits: BTreeMap::new(),
            hash: world.hash,
            trace: world.trace.clone(),
        })))
    }

    /// How often each fault has struck.
    #[must_use]
    pub fn hits(&self) -> BTreeMap<&'static str, u64> {
        self.world().hits.clone()
    }

    /// A hash over every call and fault so far.
    #[must_use]
    pub fn trace_hash(&self) -> u64 {
        self.world().hash
    }

    /// Adds a line of the caller's to the trace and its hash.
    pub fn note(&self, line: &str) {
        self.world().note(line, "");
    }

    /// Keeps a readable trace from now on.
    pub fn keep_trace(&self) {
        self.world().trace.get_or_insert_default();
    }

    /// The trace since the last call.
    #[must_use]
    pub fn take_trace(&self) -> String {
        self.world().trace.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The file's bytes as reads see them.
    #[must_use]
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let world = self.world();
        world.names.get(name).and_then(|inode| world.inodes.get(*inode)).map(|i| i.cached.clone())
    }

    /// Damages a byte of a file, for ever.
    pub fn flip(&self, name: &str, at: usize, mask: u8) {
        let mut world = self.world();
        if let Some(inode) = world.names.get(name).copied()
            && let Some(inode) = world.inodes.get_mut(inode)
        {
            inode.flip(at, mask);
        }
    }

    /// Bytes of all files that have a name.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.world().used()
    }

    /// Whether everything is durable.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let world = self.world();
        world.unsynced.is_empty()
            && world.forgotten.is_empty()
            && world
                .names
                .values()
                .all(|inode| world.inodes.get(*inode).is_some_and(Inode::is_clean))
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failed(words: &str) -> io::Error {
    io::Error::other(format!("input/output error ({words})"))
}

impl Disk for ModelDisk {
    type File = ModelFile;

    fn create(&self, name: &str) -> io::Result<ModelFile> {
        let mut world = self.world();
        world.call("create", name)?;
        if world.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let rate = world.faults.create_error;
        if world.strikes(rate, "create fails", name) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let inode = world.inodes.len();
        world.inodes.push(Inode::default());
        world.names.insert(name.to_owned(), inode);
        world.unsynced.push(Entry::Set { name: name.to_owned(), inode });
        let life = world.life;
        Ok(ModelFile { disk: self.clone(), name: name.to_owned(), inode, life, writable: true })
    }

    fn open(&self, name: &str) -> io::Result<ModelFile> {
        let mut world = self.world();
        world.call("open", name)?;
        let inode = *world.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        let rate = world.faults.open_error;
        if world.strikes_once(rate, "open fails", name) {
            return Err(failed("open"));
        }
        let life = world.life;
        Ok(ModelFile { disk: self.clone(), name: name.to_owned(), inode, life, writable: false })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut world = self.world();
        world.call("rename", to)?;
        let inode = *world.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        let rate = world.faults.rename_error;
        if world.strikes(rate, "rename fails", to) {
            return Err(failed("rename"));
        }
        world.names.remove(from);
        world.names.insert(to.to_owned(), inode);
        world.unsynced.push(Entry::Rename { from: from.to_owned(), to: to.to_owned(), inode });
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut world = self.world();
        world.call("remove", name)?;
        if !world.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let rate = world.faults.remove_error;
        if world.strikes(rate, "remove fails", name) {
            return Err(failed("remove"));
        }
        if let Some(inode) = world.names.remove(name) {
            let bytes = world.inodes.get(inode).map(|inode| inode.cached.clone());
            world.removed.insert(first_word(name).to_owned(), bytes.unwrap_or_default());
        }
        world.unsynced.push(Entry::Remove { name: name.to_owned() });
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let mut world = self.world();
        world.call("list", "")?;
        let length = |inode: &usize| world.inodes.get(*inode).map_or(0, |i| i.cached.len() as u64);
        // "In any order": a fixed one would hide that somebody relies on it.
        let mut files: Vec<_> =
            world.names.iter().map(|(name, inode)| (name.clone(), length(inode))).collect();
        for place in (1..files.len()).rev() {
            let other = world.random.index(place + 1);
            files.swap(place, other);
        }
        Ok(files)
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut world = self.world();
        world.call("sync directory", "")?;
        let rate = world.faults.directory_sync_error;
        let mut entries = std::mem::take(&mut world.unsynced);
        if world.strikes(rate, "directory sync fails", "") {
            world.forgotten.append(&mut entries);
            return Err(failed("directory sync"));
        }
        for entry in entries {
            match entry {
                Entry::Set { name, inode } => drop(world.durable_names.insert(name, inode)),
                Entry::Remove { name } => drop(world.durable_names.remove(&name)),
                Entry::Rename { from, to, inode } => {
                    world.durable_names.remove(&from);
                    world.durable_names.insert(to, inode);
                }
            }
        }
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let mut world = self.world();
        world.call("free bytes", "")?;
        Ok(world.faults.capacity.saturating_sub(world.used()))
    }
}

impl ModelFile {
    fn world(&self) -> io::Result<MutexGuard<'_, World>> {
        let world = self.disk.world();
        if world.life == self.life { Ok(world) } else { Err(failed("a handle of a life before")) }
    }
}

impl DiskFile for ModelFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut world = self.world()?;
        world.call("append", &self.name)?;
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let (interrupted, full, short) =
            (world.faults.interrupted, world.faults.append_full, world.faults.short_write);
        if world.strikes(interrupted, "interrupted", &self.name) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let room = world.faults.capacity.saturating_sub(world.used());
        let mut length = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        if (length == 0 && !bytes.is_empty())
            || world.strikes(full, "append finds no space", &self.name)
        {
            if length == 0 {
                world.hit("disk full", &self.name);
            }
            return Err(io::ErrorKind::StorageFull.into());
        }
        if length > 1 && world.strikes(short, "short write", &self.name) {
            length = 1 + world.random.index(length - 1);
        }
        let inode = self.inode;
        if let Some(inode) = world.inodes.get_mut(inode) {
            inode.append(bytes.get(..length).unwrap_or_default());
        }
        Ok(length)
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        let mut world = self.world()?;
        world.call("truncate", &self.name)?;
        let rate = world.faults.truncate_error;
        if world.strikes(rate, "truncate fails", &self.name) {
            return Err(failed("truncate"));
        }
        let inode = self.inode;
        if let Some(inode) = world.inodes.get_mut(inode) {
            inode.truncate(usize::try_from(length).unwrap_or(usize::MAX));
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut world = self.world()?;
        world.call("sync", &self.name)?;
        let rate = world.faults.sync_error;
        let fails = world.strikes(rate, "sync fails", &self.name);
        let World { inodes, random, .. } = &mut *world;
        match inodes.get_mut(self.inode) {
            Some(inode) if fails => {
                inode.fail_sync(random);
                Err(failed("sync"))
            }
            Some(inode) => {
                inode.sync();
                Ok(())
            }
            None => Err(failed("sync")),
        }
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut world = self.world()?;
        world.call("read", &self.name)?;
        let (interrupted, error, short) =
            (world.faults.interrupted, world.faults.read_error, world.faults.short_write);
        if world.strikes(interrupted, "interrupted", &self.name) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if world.strikes_once(error, "read fails", &self.name) {
            return Err(failed("read"));
        }
        let short = buffer.len() > 1 && world.strikes(short, "short read", &self.name);
        let World { inodes, random, .. } = &mut *world;
        let cached = inodes.get(self.inode).map(|i| i.cached.as_slice()).unwrap_or_default();
        let rest = usize::try_from(offset).ok().and_then(|at| cached.get(at..)).unwrap_or_default();
        let mut length = buffer.len().min(rest.len());
        if short && length > 1 {
            length = 1 + random.index(length - 1);
        }
        for (to, from) in buffer.iter_mut().zip(rest.iter().take(length)) {
            *to = *from;
        }
        Ok(length)
    }

    fn length(&self) -> io::Result<u64> {
        let world = self.world()?;
        if world.crashed {
            return Err(failed("length"));
        }
        Ok(world.inodes.get(self.inode).map_or(0, |inode| inode.cached.len() as u64))
    }
}
