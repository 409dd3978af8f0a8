//! What the writer and everybody else share: the view, the derived state, the readers' positions, and whether the
//! journal is well. Locks are held for moments, never over a sync; the one exception is the positions log, which
//! has a lock of its own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::bug::{Bug, Planted};
use super::config::JournalConfig;
use super::disk::{Disk, DiskFile as _};
use super::durable::{WriteError, append_full, sync_file};
use super::positions::{Positions, PositionsLog, Reader, positions_name};
use super::state::State;
use super::view::{View, lock};
use super::{Health, JournalError, JournalStat, Offset, OnFull, ReaderStart};

/// The file that holds back room for a full disk.
pub(crate) const RESERVE: &str = "reserve";
/// What it is called while it is being written.
pub(crate) const RESERVE_TEMPORARY: &str = "reserve.tmp";

/// Where the readers are, and what of that is durable.
#[derive(Debug, Default)]
pub(crate) struct Readers {
    pub(crate) current: Positions,
    pub(crate) durable: Positions,
    pub(crate) changed: bool,
}

/// Why appends wait.
#[derive(Debug, Default, Clone)]
pub(crate) struct Wellness {
    pub(crate) poison: Option<String>,
    pub(crate) disk_full: Option<String>,
    pub(crate) quota_full: Option<String>,
    /// The reserve has been used up and must be there again before anything is appended.
    pub(crate) reserve_spent: bool,
}

/// See the module.
pub(crate) struct Shared<D: Disk> {
    pub(crate) disk: Arc<D>,
    pub(crate) config: JournalConfig,
    pub(crate) journal_id: String,
    pub(crate) view: View<D>,
    pub(crate) state: Mutex<State<D>>,
    pub(crate) readers: Mutex<Readers>,
    pub(crate) positions: Mutex<PositionsLog<D::File>>,
    pub(crate) wellness: Mutex<Wellness>,
    /// Bytes of all files; counted anew by `maintain`.
    pub(crate) bytes: AtomicU64,
    pub(crate) tails_repaired: u64,
    pub(crate) tail_bytes_cut: u64,
    pub(crate) salts: Mutex<Salts>,
    /// Above the number of every file there is.
    pub(crate) next_number: AtomicU64,
    /// Events staged and not durable, for a planted defect.
    pub(crate) staged_events: AtomicU64,
    pub(crate) planted: Planted,
}

/// Random-looking numbers from one seed (splitmix64).
#[derive(Debug)]
pub(crate) struct Salts(pub(crate) u64);

impl Salts {
    pub(crate) fn next_u128(&mut self) -> u128 {
        (u128::from(self.next()) << 64) | u128::from(self.next())
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

impl<D: Disk> Shared<D> {
    pub(crate) fn salt(&self) -> u64 {
        lock(&self.salts).next()
    }

    pub(crate) fn number(&self) -> u64 {
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }

    /// Fails if a sync has failed in this life.
    pub(crate) fn check(&self) -> Result<(), JournalError> {
        match &lock(&self.wellness).poison {
            Some(reason) => Err(JournalError::Poisoned(reason.clone())),
            None => Ok(()),
        }
    }

    /// Notes that nothing more is accepted, with the first reason.
    pub(crate) fn poison(&self, reason: String) -> JournalError {
        let mut wellness = lock(&self.wellness);
        let reason = wellness.poison.get_or_insert(reason);
        tracing::error!(%reason, "the journal is poisoned");
        JournalError::Poisoned(reason.clone())
    }

    pub(crate) fn health(&self) -> Health {
        let wellness = lock(&self.wellness).clone();
        match wellness {
            Wellness { poison: Some(reason), .. } => Health::Poisoned(reason),
            Wellness { disk_full: Some(reason), .. }
            | Wellness { quota_full: Some(reason), .. } => Health::Full(reason),
            Wellness { .. } => Health::Ready,
        }
    }

    pub(crate) fn register_reader(
        &self,
        name: &str,
        start: ReaderStart,
        on_full: OnFull,
    ) -> Result<Offset, JournalError> {
        self.check()?;
        let known = lock(&self.readers).current.readers.get(name).copied();
        let next = match (known, start) {
            (Some(reader), _) => reader.next.max(self.view.first()),
            (None, ReaderStart::Now) => self.view.watermark.get(),
            (None, ReaderStart::Beginning) => self.view.first(),
            (None, ReaderStart::Time(time)) => self.view.offset_at(time)?,
        };
        let reader = Reader::new(next, on_full);
        {
            let mut readers = lock(&self.readers);
            readers.changed |= known != Some(reader);
            readers.current.readers.insert(name.to_owned(), reader);
        }
        self.flush_positions()?;
        Ok(next)
    }

    pub(crate) fn ack(&self, name: &str, next: Offset) {
        let next = next.min(self.view.watermark.get());
        let mut readers = lock(&self.readers);
        if let Some(reader) = readers.current.readers.get_mut(name)
            && reader.next < next
        {
            reader.next = next;
            readers.changed = true;
        }
    }

    pub(crate) fn forget_reader(&self, name: &str) {
        let mut readers = lock(&self.readers);
        readers.changed |= readers.current.readers.remove(name).is_some();
    }

    /// Makes the positions durable. On a full disk they stay as they are until the next call; that is safe.
    pub(crate) fn flush_positions(&self) -> Result<(), JournalError> {
        self.check()?;
        let mut log = lock(&self.positions);
        let positions = {
            let mut readers = lock(&self.readers);
            if !readers.changed {
                return Ok(());
            }
            readers.changed = false;
            readers.current.serial += 1;
            readers.current.clone()
        };
        let mut written = positions.clone();
        if self.planted.is(Bug::PositionAhead) {
            let staged = self.staged_events.load(Ordering::Relaxed);
            written.readers.values_mut().for_each(|reader| reader.next += staged);
        }
        match self.write_positions(&mut log, &written) {
            Ok(()) => {
                lock(&self.readers).durable = positions;
                Ok(())
            }
            Err(WriteError::Full(_)) => {
                lock(&self.readers).changed = true;
                Ok(())
            }
            Err(WriteError::Poison(reason)) => Err(self.poison(reason)),
        }
    }

    fn write_positions(
        &self,
        log: &mut PositionsLog<D::File>,
        positions: &Positions,
    ) -> Result<(), WriteError> {
        if !log.is_long() {
            return log.append(positions, self.planted);
        }
        let old = positions_name(log.number());
        let number = self.number();
        *log = PositionsLog::create(&*self.disk, number, self.salt(), positions, self.planted)?;
        // A leftover does no harm: its serial numbers are lower.
        let _ = self.disk.remove(&old);
        Ok(())
    }

    /// The offset below which every reader is durably done, and the reader that is furthest behind.
    pub(crate) fn readers_floor(&self) -> Option<(Offset, String)> {
        let readers = lock(&self.readers);
        let durable = &readers.durable.readers;
        let known = readers.current.readers.keys().chain(durable.keys());
        known.map(|name| (durable.get(name).map_or(0, |reader| reader.next), name.clone())).min()
    }

    pub(crate) fn stat(&self) -> JournalStat {
        let (dedup_keys, dedup_memory_bytes, dead_letters) = {
            let state = lock(&self.state);
            (state.dedup.keys(), state.dedup.memory_bytes() as u64, state.dead_letter_count())
        };
        let readers = lock(&self.readers);
        JournalStat {
            journal_id: self.journal_id.clone(),
            first: self.view.first(),
            next: self.view.watermark.get(),
            segments: self.view.with_segments(|segments| segments.len() as u64),
            bytes: self.bytes.load(Ordering::Relaxed),
            quota_bytes: self.config.quota_bytes,
            dedup_keys,
            dedup_memory_bytes,
            dead_letters,
            tails_repaired: self.tails_repaired,
            tail_bytes_cut: self.tail_bytes_cut,
            readers: (readers.current.readers.iter())
                .map(|(name, reader)| (name.clone(), reader.next))
                .collect(),
        }
    }

    /// Writes the reserve, if it is not there and there is room for it and as much again.
    pub(crate) fn fill_reserve(&self) -> Result<(), WriteError> {
        let wanted = self.config.reserve_bytes.min(self.config.quota_bytes / 16);
        if wanted == 0 || self.disk.open(RESERVE).is_ok() {
            return Ok(());
        }
        let free = self.disk.free_bytes().map_err(WriteError::Full)?;
        if free < wanted.saturating_mul(2) {
            return Err(WriteError::Full(std::io::ErrorKind::StorageFull.into()));
        }
        let temporary = RESERVE_TEMPORARY;
        let _ = self.disk.remove(temporary);
        let fill = || -> std::io::Result<()> {
            const PIECE: u64 = 1 << 20;
            let zeros = vec![0; usize::try_from(wanted.min(PIECE)).unwrap_or_default()];
            let mut file = self.disk.create(temporary)?;
            while file.length()? < wanted {
                let left = usize::try_from(wanted - file.length()?).unwrap_or(usize::MAX);
                append_full(&mut file, zeros.get(..left).unwrap_or(&zeros))?;
            }
            // The reserve holds no data: if it cannot be synced nothing is lost, and nothing is poisoned.
            sync_file(&mut file, self.planted)?;
            self.disk.rename(temporary, RESERVE)
        };
        fill().map_err(|error| {
            let _ = self.disk.remove(temporary);
            WriteError::Full(error)
        })?;
        self.disk.sync_directory().map_err(WriteError::poison("sync the directory"))
    }

    /// Gives the reserve back to the file system; whether there was one.
    pub(crate) fn spend_reserve(&self) -> bool {
        let spent = self.disk.remove(RESERVE).is_ok();
        if spent {
            lock(&self.wellness).reserve_spent = true;
        }
        spent
    }
}
