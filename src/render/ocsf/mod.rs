//! OCSF 1.8.0. A mail row, and an audit record of a mail, become an Email Activity where they name a sender or a
//! recipient; everything else becomes a Base Event. Nothing is looked up elsewhere and no finding is made up: one row, one document.
//!
//! The row itself is kept under `unmapped.raw`, as the JSON that it is. `raw_data`, the schema's own place,
//! takes a string, and JSON inside a JSON string has every quote escaped: that alone costs a fifth of the time
//! of tagging, and no search reaches into it. A row that is not strict JSON (half a surrogate pair, a number
//! beyond every reader's range) goes to `raw_data` instead, so that the line can always be read.

mod activity;
mod base;
mod email;
mod mailbox;
mod words;

use std::borrow::Cow;

use crate::domain::{Direction, Effect, Event, Issue, Kind, Level, Table, Ticks};
use crate::normalize::{Column, Row, field};
use crate::prepared_key;

use super::json::Writer;
use super::native;

/// Appends `event` as one OCSF document. `row` is the event's row, read.
pub(super) fn write(event: &Event, row: &Row<'_>, out: &mut Vec<u8>) {
    out.reserve(row_bytes_guess(event));
    let mut document = Document::new(event, row, out);
    let is_mail = matches!(
        event.kind,
        Kind::Email | Kind::EmailUrl | Kind::EmailAttachment | Kind::EmailPostDelivery
    );
    let is_written = match event.kind {
        Kind::EmailActivity => activity::write(&mut document),
        _ => is_mail && email::write(&mut document),
    };
    if !is_written {
        base::write(&mut document);
    }
}

/// Room for the row, for what is mapped or unmapped of it, and for the constant parts.
fn row_bytes_guess(event: &Event) -> usize {
    event.row_bytes().len() * 2 + 1536
}

/// Which interface a record comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// A table of the Streaming API or of advanced hunting.
    Table,
    /// Graph's incidents and alerts.
    Graph,
    /// The Management Activity API.
    Activity,
    /// A third-party tool for reporting mail.
    Report,
}

/// A document being written: the row that it is made of, and which of its columns have found their place.
struct Document<'a, 'o> {
    event: &'a Event,
    row: &'a Row<'a>,
    json: Writer<'o>,
    mapped: u128,
    /// Fields that are no columns and have found their place.
    fields: Vec<&'static str>,
}

const _: () = assert!(Column::COUNT <= 128, "one bit for each column");

impl<'a, 'o> Document<'a, 'o> {
    fn new(event: &'a Event, row: &'a Row<'a>, out: &'o mut Vec<u8>) -> Self {
        Self { event, row, json: Writer::new(out), mapped: 0, fields: Vec::new() }
    }

    /// Says that nothing of `column` is lost if it is not repeated under `unmapped`.
    const fn mark(&mut self, column: Column) {
        self.mapped |= 1 << column as u8;
    }

    /// A column's value after a key. Text without escapes is copied as it stands.
    #[expect(
        clippy::ptr_arg,
        reason = "borrowed text came from the row as it stands, owned did not"
    )]
    fn value(&mut self, column: Column, text: &Cow<'_, str>) {
        let json = self.row.json_text(column).unwrap_or_default();
        match text {
            // Borrowed from between two quotes: there is nothing in it to escape.
            Cow::Borrowed(text) if json.starts_with('"') => self.json.plain(text.as_bytes()),
            text => self.json.text(text),
        }
    }

    /// A member from a column, if it holds anything; the column has then found its place.
    fn member(&mut self, key: &'static str, column: Column) -> bool {
        let Some(text) = self.row.text(column) else { return false };
        self.json.prepared_key(key);
        self.value(column, &text);
        self.mark(column);
        true
    }

    fn time(&mut self) {
        let event = self.event;
        // The schema asks for a time. Where the row has none, the nearest that is known stands in, and
        // `original_time` and the row tell the truth.
        let time = event.occurred.or(event.observed).or(event.ingested).unwrap_or_default();
        self.json.int(time.as_millis());
    }

    fn is_alert(&mut self) {
        if words::is_alert(&self.event.decision.tags) {
            self.json.key("is_alert");
            self.json.flag(true);
        }
    }

    /// `authorizations`: who asked for what; and `enrichments`: what came of it.
    fn overrides(&mut self) {
        let overrides = &self.event.decision.overrides;
        if overrides.is_empty() {
            return;
        }
        let json = &mut self.json;
        json.key("authorizations");
        json.open_list();
        for found in overrides {
            json.element();
            json.open();
            match found.direction {
                Direction::Allow => {
                    json.key("decision");
                    json.plain(b"Allow");
                }
                Direction::Block => {
                    json.key("decision");
                    json.plain(b"Block");
                }
                Direction::Unknown => {}
            }
            json.key("policy");
            json.open();
            if !found.policy.is_empty() {
                json.key("name");
                json.text(&found.policy);
            }
            json.key("type");
            json.plain(match found.level {
                Level::Tenant => b"tenant override",
                Level::User => b"user override",
            });
            match found.effect {
                Effect::Effective | Effect::Expected => {
                    json.key("is_applied");
                    json.flag(true);
                }
                Effect::Ineffective => {
                    json.key("is_applied");
                    json.flag(false);
                }
                Effect::Unnecessary
                | Effect::LateConviction
                | Effect::PostDelivery
                | Effect::NotEvaluated
                | Effect::Unknown => {}
            }
            json.close();
            json.close();
        }
        json.close_list();
        json.key("enrichments");
        json.open_list();
        for found in overrides {
            json.element();
            json.open();
            json.key("name");
            json.plain(b"override");
            json.key("value");
            json.plain(found.effect.as_str().as_bytes());
            json.key("data");
            native::write_override(json, found);
            json.close();
        }
        json.close_list();
    }

    /// `metadata`, with the security-control profile where its attributes are used.
    fn metadata(&mut self, security_control: bool) {
        self.json.key("metadata");
        self.json.prepared(b"{\"version\":\"1.8.0\"");
        if security_control {
            self.json.prepared(b",\"profiles\":[\"security_control\"]");
        }
        self.product();
        let event = self.event;
        if !event.tenant.is_empty() {
            self.json.key("tenant_uid");
            self.json.text(&event.tenant);
        }
        self.json.key("uid");
        self.json.plain(&event.id.hex());
        match self.origin() {
            Origin::Table => {
                self.member(prepared_key!("original_event_uid"), Column::ReportId);
                self.member(prepared_key!("original_time"), Column::Timestamp);
            }
            Origin::Graph => self.originals(["id", "createdDateTime"]),
            Origin::Activity => self.originals(["Id", "CreationTime"]),
            Origin::Report => self.originals(["", "reported_at"]),
        }
        self.correlation();
        self.millis("logged_time", event.ingested);
        self.millis("transmit_time", event.observed);
        if !event.decision.tags.is_empty() {
            self.json.key("labels");
            self.json.open_list();
            for word in event.decision.tags.words() {
                self.json.element();
                self.json.text(word);
            }
            self.json.close_list();
        }
        self.json.close();
    }

    /// Where the record is from, as far as it tells itself.
    fn origin(&self) -> Origin {
        match (self.event.kind, &self.event.table) {
            (Kind::Incident, _) => Origin::Graph,
            (Kind::Submission, Table::Other(name)) if &**name == "submissions" => Origin::Report,
            (Kind::Alert, Table::Other(name)) if &**name == "alerts_v2" => Origin::Graph,
            (
                Kind::EmailActivity
                | Kind::Submission
                | Kind::Quarantine
                | Kind::Investigation
                | Kind::Alert
                | Kind::UrlClick,
                Table::Other(_),
            ) => Origin::Activity,
            (Kind::Row, _) if field::json(self.row, "RecordType").is_some() => Origin::Activity,
            _ => Origin::Table,
        }
    }

    /// The record's own id and time, from the fields of these names.
    fn originals(&mut self, [id, time]: [&str; 2]) {
        for (key, name) in [("original_event_uid", id), ("original_time", time)] {
            if let Some(text) = field::text(self.row, name) {
                self.json.key(key);
                self.json.text(&text);
            }
        }
    }

    fn product(&mut self) {
        let origin = self.origin();
        let json = &mut self.json;
        if matches!(self.event.kind, Kind::Gap | Kind::MailState) {
            json.prepared(br#","product":{"name":"Postern"}"#);
            return;
        }
        match &self.event.table {
            // By far the most rows.
            Table::EmailEvents => {
                json.prepared(concat!(
                    r#","product":{"name":"Microsoft Defender for Office 365","vendor_name":"Microsoft"}"#,
                    r#","log_name":"AdvancedHunting-EmailEvents","log_provider":"Microsoft Defender XDR""#,
                ).as_bytes());
                return;
            }
            Table::AlertInfo | Table::AlertEvidence => {
                let service = self.row.text(Column::ServiceSource);
                json.prepared(br#","product":{"name":"#);
                json.text(service.as_deref().unwrap_or("Microsoft Defender XDR"));
            }
            Table::Other(name) if origin != Origin::Table => {
                let (product, provider) = match origin {
                    Origin::Report => ("User reports", "third-party tool"),
                    Origin::Graph => ("Microsoft Defender XDR", "Microsoft Graph"),
                    _ => ("Microsoft 365", "Office 365 Management Activity API"),
                };
                json.prepared(br#","product":{"name":"#);
                json.text(product);
                if origin != Origin::Report {
                    json.prepared(br#","vendor_name":"Microsoft""#);
                }
                json.close();
                if !name.is_empty() {
                    json.key("log_name");
                    json.text(name);
                }
                json.key("log_provider");
                json.text(provider);
                return;
            }
            Table::Other(_) => json.prepared(br#","product":{"name":"Microsoft Defender XDR""#),
            _ => json.prepared(br#","product":{"name":"Microsoft Defender for Office 365""#),
        }
        json.prepared(br#","vendor_name":"Microsoft"}"#);
        let table = self.event.table.name();
        if !table.is_empty() {
            json.key("log_name");
            json.joined(&["AdvancedHunting-", table]);
        }
        json.prepared(br#","log_provider":"Microsoft Defender XDR""#);
    }

    /// What ties this document to others: the message, else the alert.
    fn correlation(&mut self) {
        if self.member(prepared_key!("correlation_uid"), Column::NetworkMessageId) {
            return;
        }
        if self.member(prepared_key!("correlation_uid"), Column::AlertId) {
            return;
        }
        if let Some(key) = &self.event.key {
            self.json.key("correlation_uid");
            self.json.text(key);
        }
    }

    fn millis(&mut self, key: &str, time: Option<Ticks>) {
        if let Some(time) = time {
            self.json.key(key);
            self.json.int(time.as_millis());
        }
    }

    /// `unmapped`: every column that holds something and has found no other place, under its own name, and
    /// the row as `raw`. `extra` is one more member, where part of a column is left over.
    fn unmapped(&mut self, extra: Option<(&str, &str)>) {
        let row = self.event.row_bytes();
        // Rows are on one line, nearly always; then nothing in them need be looked at again.
        let is_one_line = memchr::memchr2(b'\n', b'\r', row).is_none();
        let mut is_strict = true;
        let half_pairs = self.row.issues().iter().any(|it| it.code == Issue::LONE_SURROGATE);
        self.json.prepared_key(prepared_key!("unmapped"));
        self.json.open();
        for (column, name, json) in self.row.entries() {
            let is_mapped = column.is_some_and(|column| self.mapped & (1 << column as u8) != 0);
            if is_mapped || json == "null" || json == "\"\"" || json == "[]" {
                continue;
            }
            match column {
                Some(_) => self.json.key(name),
                None if self.fields.iter().any(|it| it.eq_ignore_ascii_case(name)) => continue,
                None if name == "raw" || extra.is_some_and(|(key, _)| key == name) => continue,
                None => self.json.foreign_key(name),
            }
            match json.as_bytes() {
                json if half_pairs => self.json.splice_repaired(json),
                json if is_one_line && json.first() == Some(&b'"') => self.json.prepared(json),
                json => is_strict &= self.json.splice_readable(json),
            }
        }
        if let Some((key, text)) = extra {
            self.json.key(key);
            self.json.text(text);
        }
        is_strict &= !half_pairs;
        if is_strict && !row.is_empty() {
            self.json.prepared_key(prepared_key!("raw"));
            if is_one_line {
                self.json.prepared(row);
            } else {
                self.json.splice(row);
            }
        }
        self.json.close();
        if !is_strict {
            self.json.prepared_key(prepared_key!("raw_data"));
            self.json.quoted(row);
        }
    }
}
