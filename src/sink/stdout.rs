//! Sink `stdout`: NDJSON on standard output, for containers and for a look. At least once: nobody at the other
//! end of a pipe says what arrived, so after a crash the last second may be repeated.

use std::io::{self, ErrorKind, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::domain::Failure;
use crate::journal::Offset;
use crate::pipeline::{AdapterError, Batch, Limits, Sent, Sink};
use crate::render::{Format, render};

/// The sink.
pub struct StdoutSink {
    name: Arc<str>,
    format: Format,
    output: Arc<Mutex<dyn Write + Send>>,
}

impl std::fmt::Debug for StdoutSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StdoutSink").field("name", &self.name).finish_non_exhaustive()
    }
}

impl StdoutSink {
    /// Writes to standard output.
    #[must_use]
    pub fn new(name: &str, format: Format) -> Self {
        Self::writing_to(name, format, io::stdout())
    }

    /// Writes to something else.
    #[must_use]
    pub fn writing_to(name: &str, format: Format, output: impl Write + Send + 'static) -> Self {
        Self { name: name.into(), format, output: Arc::new(Mutex::new(output)) }
    }

    /// Writes on a thread that may block: a pipe whose reader sleeps must not stop other tasks.
    async fn write(&self, lines: Vec<u8>) -> Result<(), AdapterError> {
        let output = Arc::clone(&self.output);
        let written = tokio::task::spawn_blocking(move || {
            let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
            output.write_all(&lines)?;
            output.flush()
        });
        match written.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(sorted(error)),
            Err(error) => Err(AdapterError::because(
                Failure::Retry(None),
                "writing to standard output was interrupted",
                error,
            )),
        }
    }
}

fn sorted(error: io::Error) -> AdapterError {
    let failure = match error.kind() {
        // The reader has gone and cannot come back: a pipe has one life.
        ErrorKind::BrokenPipe => Failure::Fatal,
        // Standard output was closed before we began.
        ErrorKind::PermissionDenied | ErrorKind::InvalidInput => Failure::Hold,
        // Standard output may be a file on a full disk. Half a line may stand before the next try.
        _ => Failure::Retry(None),
    };
    AdapterError::because(failure, "cannot write to standard output", error)
}

#[async_trait]
impl Sink for StdoutSink {
    fn name(&self) -> &str {
        &self.name
    }

    fn limits(&self) -> Limits {
        Limits { events: 500, bytes: 1 << 20, linger: Duration::from_millis(50) }
    }

    async fn open(&mut self, position: Offset) -> Result<Offset, AdapterError> {
        Ok(position)
    }

    async fn deliver(&mut self, batch: &Batch) -> Result<Vec<Sent>, AdapterError> {
        let mut lines = Vec::new();
        for numbered in &batch.events {
            render(self.format, &numbered.event, &mut lines);
            lines.push(b'\n');
        }
        self.write(lines).await?;
        Ok(vec![Sent::Delivered; batch.events.len()])
    }

    async fn probe(&mut self) -> Result<String, AdapterError> {
        self.write(Vec::new()).await?;
        Ok("standard output is open".to_owned())
    }

    async fn close(&mut self) -> Result<(), AdapterError> {
        self.write(Vec::new()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Gone;

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_reader_that_has_gone_ends_the_process() {
        let mut sink = StdoutSink::writing_to("console", Format::Native, Gone);
        let event = crate::journal::Numbered {
            offset: 0,
            event: Arc::new(crate::sink::tests::event("{\"Subject\":\"Rechnung\"}")),
        };
        let batch = Batch { from: 0, next: 1, events: vec![event] };
        let error = sink.deliver(&batch).await.unwrap_err();
        assert_eq!(error.failure, Failure::Fatal);
    }
}
