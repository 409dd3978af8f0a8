//! What a record is that is no row of a table: an incident, an alert, an audit record, a user's report. Said by
//! `graph`, `activity` and `submission`; made into an event by `record`.

use std::borrow::Cow;

use crate::domain::{Kind, Table, Ticks};

/// One column of an identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part<'a> {
    /// A text as it stands.
    Text(Cow<'a, str>),
    /// An address: the letter case does not matter.
    Address(Cow<'a, str>),
    /// A point in time; one that cannot be read is its text.
    Time(Cow<'a, str>),
}

impl Part<'_> {
    /// Whether it holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let (Self::Text(text) | Self::Address(text) | Self::Time(text)) = self;
        text.trim().is_empty()
    }
}

/// What one record is.
#[derive(Debug)]
pub(super) struct Item<'a> {
    /// What sort of thing.
    pub(super) kind: Kind,
    /// Where it came from, by the source's own name.
    pub(super) table: Table,
    /// Whether that name is one that is not known here.
    pub(super) unknown_table: bool,
    /// The tenant that the record names; empty where it names none.
    pub(super) tenant: Cow<'a, str>,
    /// The name that goes into the identity, and its columns. If the first one is empty, all columns count.
    pub(super) identity: (&'static str, Vec<Part<'a>>),
    /// What belongs together downstream.
    pub(super) key: Option<Cow<'a, str>>,
    /// The one mailbox that it is about.
    pub(super) recipient: Option<Cow<'a, str>>,
    /// When it happened.
    pub(super) occurred: Option<Ticks>,
    /// When the far end wrote this state of it.
    pub(super) observed: Option<Ticks>,
    /// The field that `occurred` comes from.
    pub(super) time_field: &'static str,
}
