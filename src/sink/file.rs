//! Sink `file`: NDJSON files in a directory, rotated by size and age. Not a spool for other parts of Postern,
//! and not a log.
//!
//! # What it guarantees
//!
//! Each event is in the files exactly once, in the journal's order, and no file ends with half a line, through
//! process kill, power loss and full disk. A batch is written and synced first; then the position behind it
//! goes to `<name>.position` (new file, sync, rename, sync of the directory); only then is it reported as
//! delivered. At the next start everything after that recorded position is cut off and delivered again. So
//! whoever *follows* a file while it grows may, after a crash, see lines of the last batch a second time.
//!
//! If `<name>.position` is removed, a new file is begun at the position that the journal holds, which may be
//! a second old: at least once. If a file of the directory was changed by others, or the position's file
//! cannot be read, the sink holds rather than guess.

mod position;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;

use self::writer::{FileError, Writer};
use crate::domain::Ticks;
use crate::journal::{Clock, Offset};
use crate::pipeline::{AdapterError, Batch, Limits, Sent, Sink};
use crate::render::{Format, render};

/// Configuration of a `file` sink.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileConfig {
    /// Where the files are: `<name>-<sequence>.ndjson`. Made if only its last part is missing; a missing
    /// parent is an error, since it usually is a volume that is not mounted.
    pub directory: PathBuf,
    /// A new file is begun when the current one would become larger than this. Bytes; default 128 MiB, which
    /// editors and uploads still take.
    #[serde(default = "default_rotate_bytes")]
    pub rotate_bytes: u64,
    /// A new file is begun when the current one is older than this. Minutes; default 1440, one file a day at
    /// least; 0 means never.
    #[serde(default = "default_rotate_minutes")]
    pub rotate_minutes: u64,
    /// How many files are kept, the current one included. Default 0, which means all: the files are the
    /// delivery, and whoever takes them away knows when they may go.
    #[serde(default)]
    pub keep_files: usize,
}

const fn default_rotate_bytes() -> u64 {
    128 << 20
}

const fn default_rotate_minutes() -> u64 {
    24 * 60
}

impl FileConfig {
    /// With the defaults, into `directory`.
    #[must_use]
    pub fn into_directory(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            rotate_bytes: default_rotate_bytes(),
            rotate_minutes: default_rotate_minutes(),
            keep_files: 0,
        }
    }
}

/// The sink. See the module for what it guarantees.
pub struct FileSink {
    name: Arc<str>,
    config: FileConfig,
    format: Format,
    clock: Arc<dyn Clock>,
    /// `None` before `open` and after an error: what is on disk is looked at again before more is written.
    writer: Option<Writer>,
}

impl std::fmt::Debug for FileSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileSink").field("name", &self.name).finish_non_exhaustive()
    }
}

impl FileSink {
    /// Makes it; touches no file.
    #[must_use]
    pub fn new(name: &str, config: FileConfig, format: Format, clock: Arc<dyn Clock>) -> Self {
        Self { name: name.into(), config, format, clock, writer: None }
    }

    /// Lets `act` work on the writer, on a thread that may block. The writer is gone if it fails.
    async fn with_writer(
        &mut self,
        act: impl FnOnce(&mut Writer, Ticks) -> Result<(), FileError> + Send + 'static,
    ) -> Result<(), AdapterError> {
        let Some(mut writer) = self.writer.take() else {
            return Err(AdapterError::new(
                crate::domain::Failure::Retry(None),
                format!("the files of sink {} are not open", self.name),
            ));
        };
        let now = self.clock.now();
        let writer = blocking(move || act(&mut writer, now).map(|()| writer)).await?;
        self.writer = Some(writer);
        Ok(())
    }
}

#[async_trait]
impl Sink for FileSink {
    fn name(&self) -> &str {
        &self.name
    }

    fn limits(&self) -> Limits {
        Limits { events: 2000, bytes: 4 << 20, linger: Duration::from_millis(200) }
    }

    async fn open(&mut self, position: Offset) -> Result<Offset, AdapterError> {
        self.writer = None;
        let (name, config) = (Arc::clone(&self.name), self.config.clone());
        let now = self.clock.now();
        let writer = blocking(move || Writer::open(&name, config, position, now)).await?;
        let position = writer.position();
        self.writer = Some(writer);
        Ok(position)
    }

    async fn deliver(&mut self, batch: &Batch) -> Result<Vec<Sent>, AdapterError> {
        let mut lines = Vec::with_capacity(batch.events.len().saturating_mul(2048));
        for numbered in &batch.events {
            render(self.format, &numbered.event, &mut lines);
            lines.push(b'\n');
        }
        let next = batch.next;
        self.with_writer(move |writer, now| writer.append(&lines, next, now)).await?;
        Ok(vec![Sent::Delivered; batch.events.len()])
    }

    async fn probe(&mut self) -> Result<String, AdapterError> {
        let (name, config) = (Arc::clone(&self.name), self.config.clone());
        blocking(move || Writer::probe(&name, &config)).await
    }

    async fn close(&mut self) -> Result<(), AdapterError> {
        // Filtered events may have moved the position without a batch of their own.
        if self.writer.is_some() {
            self.with_writer(|writer, _| writer.record()).await?;
            self.writer = None;
        }
        Ok(())
    }
}

/// Runs file work on a thread that may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FileError> + Send + 'static,
) -> Result<T, AdapterError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(FileError::sorted),
        Err(error) => Err(AdapterError::because(
            crate::domain::Failure::Retry(None),
            "writing files was interrupted",
            error,
        )),
    }
}
