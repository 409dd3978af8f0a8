//! Something that is known to be missing. A gap is journaled as an event of kind `gap`, so that loss is
//! counted and told, never silent.

use serde::{Deserialize, Serialize};

/// Why something is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapCause {
    /// The source no longer keeps it: retention has passed.
    RetentionPassed,
    /// The topic was deleted and created anew.
    TopicRecreated,
    /// An operator ordered a repair that gave records up.
    OperatorRepair,
    /// A sink's backlog was dropped by its `on_full` policy.
    BacklogDropped,
    /// The far end deleted it before it was read.
    RemoteGone,
    /// The data directory holds another journal than the far end's position belongs to.
    JournalReplaced,
    /// It is there, but cannot be read: cut, damaged, or swelling beyond every limit.
    Unreadable,
    /// The far end has it, and failed to give it again and again.
    RemoteFailed,
    /// The far end has it, but it is larger than is taken.
    TooLarge,
}

impl GapCause {
    /// Every cause.
    pub const ALL: [Self; 9] = [
        Self::RetentionPassed,
        Self::TopicRecreated,
        Self::OperatorRepair,
        Self::BacklogDropped,
        Self::RemoteGone,
        Self::JournalReplaced,
        Self::Unreadable,
        Self::RemoteFailed,
        Self::TooLarge,
    ];

    /// The word in the gap event and in metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RetentionPassed => "retention_passed",
            Self::TopicRecreated => "topic_recreated",
            Self::OperatorRepair => "operator_repair",
            Self::BacklogDropped => "backlog_dropped",
            Self::RemoteGone => "remote_gone",
            Self::RemoteFailed => "remote_failed",
            Self::JournalReplaced => "journal_replaced",
            Self::Unreadable => "unreadable",
            Self::TooLarge => "too_large",
        }
    }
}

/// What is missing, from where to where. Its identity columns are source, what, from and to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The source or sink it concerns.
    pub source: Box<str>,
    /// What is missing, as a place: `hub[3]`, a table, a blob.
    pub what: Box<str>,
    /// First position missing.
    pub from: Box<str>,
    /// First position that is there again.
    pub to: Box<str>,
    /// How many things (messages, events) are missing, where it can be counted.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub count: Option<u64>,
    /// Why.
    pub cause: GapCause,
    /// One sentence for a person.
    pub detail: Box<str>,
}
