//! Floor 3: where events go to. One file per far end, and the one list of them all.

pub mod file;
pub mod kafka;
pub mod stdout;

use std::sync::Arc;

pub use self::file::{FileConfig, FileSink};
pub use self::kafka::{KafkaConfig, KafkaSink};
pub use self::stdout::StdoutSink;
use crate::journal::{Clock, Journal};
use crate::pipeline::{AdapterError, Sink};
use crate::render::Format;
use crate::ticket::{TicketConfig, TicketSink};

/// The list of sinks, each with its own configuration.
#[derive(Debug, Clone)]
pub enum SinkKind {
    /// Rotated files.
    File(FileConfig, Format),
    /// A Kafka topic.
    Kafka(KafkaConfig, Format),
    /// Standard output.
    Stdout(Format),
    /// Tickets.
    Ticket(TicketConfig),
}

/// The words of `type` in `[sink.<name>]`.
pub const TYPES: [&str; 4] = ["file", "kafka", "stdout", "ticket"];

/// Makes the sink `name`. Connects to nothing.
///
/// # Errors
/// If its configuration is wrong in a way that only the adapter can see.
pub fn build(
    name: &str,
    kind: SinkKind,
    journal: &Arc<dyn Journal>,
    clock: &Arc<dyn Clock>,
) -> Result<Box<dyn Sink>, AdapterError> {
    Ok(match kind {
        SinkKind::File(config, format) => {
            Box::new(FileSink::new(name, config, format, Arc::clone(clock)))
        }
        SinkKind::Kafka(config, format) => {
            Box::new(KafkaSink::new(name, config, format, Arc::clone(journal))?)
        }
        SinkKind::Stdout(format) => Box::new(StdoutSink::new(name, format)),
        SinkKind::Ticket(config) => {
            Box::new(TicketSink::new(name, config, Arc::clone(journal), Arc::clone(clock))?)
        }
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use crate::domain::{Arrival, Decision, Event, EventId, Kind, Raw, Table, Ticks};

    /// An event around a row.
    pub(crate) fn event(row: &str) -> Event {
        let hash = blake3::hash(row.as_bytes());
        let mut id = [0; 16];
        id.copy_from_slice(&hash.as_bytes()[..16]);
        Event {
            id: EventId(id),
            kind: Kind::Email,
            table: Table::from_name("EmailEvents"),
            tenant: "9f4c1b1e-7a52-4c0e-8d55-0f1e2d3c4b5a".into(),
            source: "hubs".into(),
            occurred: Ticks::parse("2026-08-20T09:11:04Z"),
            observed: Ticks::parse("2026-08-20T09:13:00Z"),
            ingested: Ticks::parse("2026-08-20T09:14:00Z"),
            arrival: Some(Arrival::Live),
            key: None,
            recipient: None,
            decision: Decision::default(),
            issues: Vec::new(),
            raw: Raw::new(row.as_bytes()),
            row: (0, u32::try_from(row.len()).unwrap()),
        }
    }
}
