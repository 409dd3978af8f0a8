//! What one seed turns on: a random subset of faults with random rates. Everything on at once finds less than
//! a few things at a time.

use postern::journal::JournalConfig;
use postern::journal::OnFull;
use postern::journal::model::{Faults, Random};

use crate::sink::Delivery;
use crate::source::Style;

#[derive(Debug, Clone)]
pub struct Plan {
    pub faults: Faults,
    pub config: JournalConfig,
    pub sources: Vec<Style>,
    pub records_per_source: u64,
    pub readers: Vec<(Delivery, OnFull)>,
    pub steps: u64,
    /// Per million: a record is one that was shown before.
    pub repeats: u32,
    /// Per million and step: the process is killed, the power goes, an orderly restart.
    pub kill: u32,
    pub power_loss: u32,
    pub restart: u32,
    /// Per million: a crash inside a call is a power loss, not a kill.
    pub crash_is_power_loss: u32,
    /// Per million: the machine stops at one of the next calls when maintenance, a commit or a start begins.
    pub crash_soon: u32,
    /// Per million and step: a reader stops or goes on.
    pub stall: u32,
    /// Per million and step: the disk is filled up by somebody else, or space returns.
    pub squeeze: u32,
    /// Per million and step: the wall clock jumps.
    pub clock_jump: u32,
    /// Most bytes of a record.
    pub record_bytes: u64,
}

impl Plan {
    pub fn of(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x706c_616e);
        let mut rate = |often: u32| {
            if random.below(3) == 0 {
                (often >> random.below(5)).max(1) + u32::try_from(random.below(100)).unwrap()
            } else {
                0
            }
        };
        let faults = Faults {
            short_write: rate(300_000),
            interrupted: rate(200_000),
            append_full: rate(100_000),
            sync_error: rate(60_000),
            directory_sync_error: rate(30_000),
            read_error: rate(30_000),
            create_error: rate(100_000),
            open_error: rate(20_000),
            rename_error: rate(30_000),
            remove_error: rate(30_000),
            truncate_error: rate(500_000),
            crash: rate(20_000),
            capacity: u64::MAX,
        };
        let (repeats, kill, power_loss, restart) =
            (rate(400_000), rate(15_000), rate(30_000), rate(8_000));
        let (stall, squeeze, clock_jump) = (rate(60_000), rate(20_000), rate(20_000));
        let crash_soon = rate(400_000);
        let segment_bytes = random.between(1, 12) * 1_024;
        let quota_segments = if random.below(3) == 0 { random.between(8, 16) } else { 10_000 };
        let config = JournalConfig {
            segment_bytes,
            quota_bytes: segment_bytes * quota_segments + 96 * 1_024,
            retention_days: if random.below(2) == 0 { 0 } else { 7 },
            reserve_bytes: if random.below(2) == 0 { 0 } else { 4_096 },
            dedup_memory_bytes: if random.below(2) == 0 { 4_096 } else { 1 << 20 },
            dedup_days: 3_650,
            cache_bytes: if random.below(2) == 0 { 0 } else { 64 * 1_024 },
            compression_level: i32::from(random.below(2) == 0),
            dead_letter_days: 36_500,
            ticket_days: 36_500,
            ..JournalConfig::default()
        };
        let sources = (0..random.between(1, 3))
            .map(|_| if random.below(2) == 0 { Style::Log } else { Style::Window })
            .collect();
        let readers = (0..random.between(1, 3))
            .map(|_| {
                let on_full =
                    if random.below(5) == 0 { OnFull::DropBacklog } else { OnFull::PauseSources };
                let delivery = if random.below(2) == 0 {
                    Delivery::Transactional
                } else {
                    Delivery::AtLeastOnce
                };
                (delivery, on_full)
            })
            .collect();
        Self {
            faults,
            config,
            sources,
            records_per_source: random.between(10, 120),
            readers,
            steps: random.between(100, 500),
            repeats,
            kill,
            power_loss,
            restart,
            crash_is_power_loss: [0, 500_000, 1_000_000][random.index(3)],
            crash_soon,
            stall,
            squeeze,
            clock_jump,
            record_bytes: [40, 400, 1_500][random.index(3)],
        }
    }
}
