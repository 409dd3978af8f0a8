//! Opening the engine: recovery, then the shared parts, then a segment to write to.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use super::bug::Planted;
use super::codec::Encoder;
use super::config::JournalConfig;
use super::dedup::Dedup;
use super::disk::Disk;
use super::durable::{WriteError, is_full};
use super::engine::{Engine, hex};
use super::error::OpenError;
use super::positions::PositionsLog;
use super::recovery::{Recovered, recover};
use super::shared::{RESERVE, RESERVE_TEMPORARY, Readers, Salts, Shared, Wellness};
use super::state::{State, dedup_config};
use super::view::View;
use crate::domain::Ticks;

impl<D: Disk> Engine<D> {
    /// Opens the journal in `disk`, recovering whatever a crash left; creates it in an empty directory.
    /// `seed` must differ from life to life: the segments' salts come from it.
    pub fn open(
        disk: Arc<D>,
        config: JournalConfig,
        now: Ticks,
        seed: u64,
    ) -> Result<Self, OpenError> {
        Self::open_planted(disk, config, now, seed, Planted::default())
    }

    /// [`Engine::open`] with a planted defect.
    pub fn open_planted(
        disk: Arc<D>,
        config: JournalConfig,
        now: Ticks,
        seed: u64,
        planted: Planted,
    ) -> Result<Self, OpenError> {
        let mut salts = Salts(seed);
        let mut recovered = recover(&disk, &config, now, &mut salts, planted);
        if matches!(&recovered, Err(OpenError::Io { cause, .. }) if is_full(cause))
            && [RESERVE, RESERVE_TEMPORARY].map(|name| disk.remove(name).is_ok()).contains(&true)
        {
            // That is what the reserve is for: a start on a full disk.
            recovered = recover(&disk, &config, now, &mut salts, planted);
        }
        let recovered = match recovered? {
            Some(recovered) => recovered,
            None => begin(&config, &mut salts),
        };
        Self::start(disk, config, now, salts, recovered, planted)
    }

    fn start(
        disk: Arc<D>,
        config: JournalConfig,
        now: Ticks,
        mut salts: Salts,
        recovered: Recovered<D>,
        planted: Planted,
    ) -> Result<Self, OpenError> {
        let write_failed = |error: WriteError| match error {
            WriteError::Full(cause) => OpenError::io("begin the journal's files")(cause),
            WriteError::Poison(what) => OpenError::io(what)(std::io::ErrorKind::Other.into()),
        };
        let Recovered { journal, next_offset, next_sequence, mut next_number, .. } = recovered;
        let positions = recovered.positions;
        let log = PositionsLog::create(&*disk, next_number, salts.next(), &positions, planted)
            .map_err(write_failed)?;
        remove_old_positions(&*disk, next_number)?;
        next_number += 1;
        let view = View::new(
            Arc::clone(&disk),
            recovered.segments,
            next_offset,
            usize::try_from(config.cache_bytes).unwrap_or(usize::MAX),
            planted,
        );
        let bytes = disk.list().map_err(OpenError::io("list the journal's directory"))?;
        let shared = Shared {
            journal_id: hex(&journal),
            view,
            state: Mutex::new(recovered.state),
            readers: Mutex::new(Readers {
                current: positions.clone(),
                durable: positions,
                changed: false,
            }),
            positions: Mutex::new(log),
            wellness: Mutex::new(Wellness::default()),
            bytes: AtomicU64::new(super::maintain::quota_bytes(&bytes)),
            tails_repaired: u64::from(recovered.tail_cut.is_some()),
            tail_bytes_cut: recovered.tail_cut.unwrap_or_default(),
            salts: Mutex::new(salts),
            next_number: AtomicU64::new(next_number),
            staged_events: AtomicU64::new(0),
            planted,
            disk,
            config,
        };
        if let Some(bytes) = recovered.tail_cut {
            tracing::warn!(bytes, "a torn tail was cut off; nothing in it had been confirmed");
        }
        let mut engine = Self {
            encoder: Encoder::new(shared.config.compression_level),
            shared: Arc::new(shared),
            journal,
            active: recovered.active,
            next_offset,
            next_sequence,
            snapshots: recovered.snapshots,
            snapshot_in_this_life: false,
            bytes_since_snapshot: recovered.replayed_bytes,
            written_bytes: 0,
            staged: Vec::new(),
            urgent: Vec::new(),
            stray: Vec::new(),
            frame: Vec::new(),
            closed: false,
        };
        engine.ensure_active(now).map_err(write_failed)?;
        Ok(engine)
    }
}

/// A journal that has never been.
fn begin<D: Disk>(config: &JournalConfig, salts: &mut Salts) -> Recovered<D> {
    let mut journal = [0; 16];
    for half in journal.chunks_exact_mut(8) {
        half.copy_from_slice(&salts.next().to_le_bytes());
    }
    Recovered {
        journal,
        segments: Vec::new(),
        active: None,
        next_offset: 0,
        next_sequence: 0,
        next_number: 1,
        state: State::new(config, Dedup::new(dedup_config(config), salts.next_u128())),
        positions: Default::default(),
        snapshots: Vec::new(),
        tail_cut: None,
        replayed_bytes: 0,
    }
}

fn remove_old_positions<D: Disk>(disk: &D, newest: u64) -> Result<(), OpenError> {
    let files = disk.list().map_err(OpenError::io("list the journal's directory"))?;
    for (name, _) in files {
        let old = super::positions::parse_positions_name(&name).is_some_and(|n| n < newest);
        // What stays has a lower serial number and is removed another time.
        if old && disk.remove(&name).is_err() {
            tracing::warn!(%name, "cannot remove an old positions file");
        }
    }
    Ok(())
}
