//! The KQL that Postern asks with. All of it is made here, and every piece of text that comes from outside goes
//! through [`literal`] or [`entity`], so that it cannot become anything but a value or a name. Pure.

use std::fmt::Write as _;
use std::sync::Arc;

use super::window::{Piece, Window};
use crate::domain::{Table, Ticks};

/// Longest look-back of hunting, as ISO 8601: sent with every query. Left out it would be the same today; with
/// it, what a query sees does not depend on a default.
pub const TIMESPAN: &str = "P30D";

/// The column that every table has.
pub const TIMESTAMP: &str = "Timestamp";

/// How much older than its ingestion a row's `Timestamp` may be, in days, before the guard that spares the far
/// end's processors leaves it out: mail has been measured minutes late.
const MAIL_GUARD_DAYS: i64 = 2;
/// The same for alerts, whose `Timestamp` is that of the activity (28 hours have been measured), and for
/// everything that is not known better: as far as hunting looks back.
const WIDE_GUARD_DAYS: i64 = 30;

const DAY: i64 = 86_400;

/// Which time a window is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TimeColumn {
    /// When the far end took the row in: what arrives later is later, so nothing comes in behind it.
    Ingestion,
    /// A column: `Timestamp`, or the one that goes with somebody's own query.
    Column(Arc<str>),
}

impl TimeColumn {
    /// The column that every table has.
    #[must_use]
    pub fn timestamp() -> Self {
        Self::Column(TIMESTAMP.into())
    }

    fn text(&self) -> String {
        match self {
            Self::Ingestion => "ingestion_time()".to_owned(),
            Self::Column(name) => entity(name),
        }
    }
}

/// What is asked about: a table or somebody's own query, by which time, and whether all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The table that its rows are of.
    pub table: Table,
    /// Which time its windows are about.
    pub time: TimeColumn,
    /// Text that yields the rows.
    rows: Arc<str>,
    /// Columns that can be hashed, in the order in which they are used.
    shards: Vec<Arc<str>>,
    /// Only rows with an override.
    overrides_only: bool,
}

impl Subject {
    /// A table, whole.
    #[must_use]
    pub fn of(table: Table, time: TimeColumn) -> Self {
        let shards: &[&str] = match table {
            Table::EmailEvents
            | Table::EmailPostDeliveryEvents
            | Table::EmailAttachmentInfo
            | Table::EmailUrlInfo => &["NetworkMessageId", "ReportId"],
            Table::UrlClickEvents => &["ReportId"],
            Table::AlertInfo => &["AlertId"],
            Table::AlertEvidence => &["AlertId", "AdditionalFields"],
            Table::Other(_) => &[],
        };
        Self {
            rows: entity(table.name()).into(),
            shards: shards.iter().map(|name| (*name).into()).collect(),
            table,
            time,
            overrides_only: false,
        }
    }

    /// Somebody's own query, whose rows are put under `name`. `split` is the column to shard by.
    #[must_use]
    pub fn own(name: &str, kql: &str, time_column: &str, split: Option<&str>) -> Self {
        let kql = kql.trim_end_matches(|c: char| c == ';' || c.is_whitespace());
        Self {
            table: Table::from_name(name),
            time: TimeColumn::Column(time_column.into()),
            rows: kql.into(),
            shards: split.into_iter().map(Into::into).collect(),
            overrides_only: false,
        }
    }

    /// The same, but only rows in which an override had a say. `None` if this table does not tell.
    #[must_use]
    pub fn with_overrides_only(mut self) -> Option<Self> {
        self.overrides_only = self.table == Table::EmailEvents;
        self.overrides_only.then_some(self)
    }

    /// The same by another time.
    #[must_use]
    pub fn by(mut self, time: TimeColumn) -> Self {
        self.time = time;
        self
    }

    /// How many columns can be hashed.
    #[must_use]
    pub fn shard_columns(&self) -> usize {
        self.shards.len()
    }

    /// Whether [`keys_query`] counts identities; otherwise it can only count rows.
    #[must_use]
    pub fn has_keys(&self) -> bool {
        !matches!(self.table, Table::Other(_))
    }

    /// The rows of a piece, without a limit.
    fn piece(&self, piece: &Piece) -> String {
        // On a line of its own: the text before may end in a comment.
        let mut kql = format!("{}\n", self.rows);
        let (from, to) = (datetime(piece.window.from), datetime(piece.window.to));
        let time = self.time.text();
        if self.time == TimeColumn::Ingestion {
            let guard = piece.window.from.plus_seconds(-guard_days(&self.table) * DAY);
            let _ = writeln!(kql, "| where {TIMESTAMP} >= {}", datetime(guard));
        }
        let _ = writeln!(kql, "| where {time} >= {from} and {time} < {to}");
        if self.overrides_only {
            let any = ["OrgLevelAction", "OrgLevelPolicy", "UserLevelAction", "UserLevelPolicy"]
                .map(|column| format!("isnotempty({column})"));
            let _ = writeln!(kql, "| where {}", any.join(" or "));
        }
        for (shard, column) in piece.shards.iter().zip(&self.shards) {
            let column = match self.table {
                // A dynamic value cannot be hashed everywhere, its text can.
                Table::AlertEvidence => format!("tostring({})", entity(column)),
                _ => entity(column),
            };
            let _ = writeln!(kql, "| where hash({column}, {}) == {}", shard.of, shard.index);
        }
        kql
    }
}

/// Asks for the rows of a piece, at most `take`.
#[must_use]
pub fn rows_query(subject: &Subject, piece: &Piece, take: usize) -> String {
    format!("{}| take {take}", subject.piece(piece))
}

/// Asks how many rows a piece has: the proof that an answer was whole.
#[must_use]
pub fn row_count_query(subject: &Subject, piece: &Piece) -> String {
    format!("{}| count", subject.piece(piece))
}

/// Asks how many different identities a window has, a row's revision left aside, so that a lost row and a
/// doubled one do not cancel out. Rows where the table's identity is not known (see [`Subject::has_keys`]).
#[must_use]
pub fn keys_query(subject: &Subject, window: Window) -> String {
    let rows = subject.piece(&Piece::all(window));
    match keys(&subject.table) {
        Some(keys) => format!("{rows}| summarize by {keys}\n| count"),
        None => format!("{rows}| count"),
    }
}

/// Asks how many rows there are in each hour of a window: for an estimate. Columns `Hour` and `Rows`.
#[must_use]
pub fn hours_query(subject: &Subject, window: Window) -> String {
    let rows = subject.piece(&Piece::all(window));
    format!("{rows}| summarize Rows = count() by Hour = bin({}, 1h)", subject.time.text())
}

/// Asks for one row's time of ingestion. Column `IngestionTime`; no row if the table is empty.
#[must_use]
pub fn ingestion_query(table: &Table) -> String {
    format!("{}\n| take 1\n| project IngestionTime = ingestion_time()", entity(table.name()))
}

/// Asks the far end's own time, by way of something that can be asked. Column `Now`.
#[must_use]
pub fn clock_query(subject: &Subject) -> String {
    format!("{}\n| take 1\n| count\n| project Now = now()", subject.rows)
}

const fn guard_days(table: &Table) -> i64 {
    match table {
        Table::EmailEvents
        | Table::EmailPostDeliveryEvents
        | Table::EmailUrlInfo
        | Table::EmailAttachmentInfo
        | Table::UrlClickEvents => MAIL_GUARD_DAYS,
        Table::AlertInfo | Table::AlertEvidence | Table::Other(_) => WIDE_GUARD_DAYS,
    }
}

/// The identity columns as expressions to group by.
fn keys(table: &Table) -> Option<String> {
    let recipient = "Recipient = tolower(RecipientEmailAddress)";
    let keys: Vec<String> = match table {
        Table::EmailEvents => {
            ["NetworkMessageId", recipient, "ReportId", "Timestamp"].map(str::to_owned).to_vec()
        }
        Table::EmailPostDeliveryEvents => {
            ["NetworkMessageId", recipient, "Timestamp", "ActionType", "Action", "ReportId"]
                .map(str::to_owned)
                .to_vec()
        }
        Table::EmailUrlInfo => {
            ["NetworkMessageId", "ReportId", "Url", "UrlLocation"].map(str::to_owned).to_vec()
        }
        Table::EmailAttachmentInfo => {
            ["NetworkMessageId", recipient, "ReportId", "SHA256", "FileName"]
                .map(str::to_owned)
                .to_vec()
        }
        Table::UrlClickEvents => [
            "ReportId",
            "Timestamp",
            "Account = tolower(AccountUpn)",
            "ActionType",
            "IsClickedThrough",
            "Url",
        ]
        .map(str::to_owned)
        .to_vec(),
        Table::AlertInfo => [
            "Timestamp",
            "AlertId",
            "Title",
            "Category",
            "Severity",
            "ServiceSource",
            "DetectionSource",
            "AttackTechniques",
        ]
        .map(str::to_owned)
        .to_vec(),
        Table::AlertEvidence => evidence_keys(),
        Table::Other(_) => return None,
    };
    Some(keys.join(", "))
}

/// An entity's own key where it has one; without it, the columns that tell entities apart stand in.
fn evidence_keys() -> Vec<String> {
    let merge = "tostring(parse_json(tostring(AdditionalFields)).MergeByKeyHex)";
    let mut keys = vec!["AlertId".to_owned(), "EntityType".to_owned(), "EvidenceRole".to_owned()];
    keys.push(format!("Merge = {merge}"));
    for column in [
        "Timestamp",
        "AdditionalFields",
        "FileName",
        "SHA1",
        "SHA256",
        "RemoteIP",
        "RemoteUrl",
        "AccountName",
        "AccountUpn",
        "AccountObjectId",
        "DeviceId",
        "NetworkMessageId",
        "EmailSubject",
    ] {
        keys.push(format!("Own{column} = iff(isnotempty({merge}), '', tostring({column}))"));
    }
    keys
}

/// A point in time.
#[must_use]
pub fn datetime(at: Ticks) -> String {
    format!("datetime({at})")
}

/// A text as a value: quotes, backslashes and everything that could end a line or a literal are escaped.
#[must_use]
pub fn literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            other if other.is_control() || matches!(other, '\u{2028}' | '\u{2029}') => {
                let _ = write!(out, "\\u{:04x}", u32::from(other));
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// A table's or column's name: as it is where it is a plain word, else in brackets as a literal.
#[must_use]
pub fn entity(name: &str) -> String {
    if is_word(name) { name.to_owned() } else { format!("[{}]", literal(name)) }
}

/// Whether `name` is a word that needs no brackets.
#[must_use]
pub fn is_word(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::window::Shard;
    use super::*;

    fn window() -> Window {
        let from = Ticks::parse("2026-08-20T09:00:00Z").unwrap();
        Window::new(from, from.plus_seconds(300))
    }

    #[test]
    fn a_table_is_asked_by_ingestion_time_with_a_guard_on_its_timestamp() {
        let subject = Subject::of(Table::EmailEvents, TimeColumn::Ingestion);
        let shards = vec![Shard { of: 4, index: 3 }, Shard { of: 2, index: 1 }];
        let piece = Piece { window: window(), shards };
        assert_eq!(
            rows_query(&subject, &piece, 5000),
            "EmailEvents\n\
             | where Timestamp >= datetime(2026-08-18T09:00:00Z)\n\
             | where ingestion_time() >= datetime(2026-08-20T09:00:00Z) and ingestion_time() < datetime(2026-08-20T09:05:00Z)\n\
             | where hash(NetworkMessageId, 4) == 3\n\
             | where hash(ReportId, 2) == 1\n\
             | take 5000"
        );
    }

    #[test]
    fn overrides_only_is_pushed_down_and_keys_leave_the_revision_out() {
        let subject = Subject::of(Table::EmailEvents, TimeColumn::timestamp());
        let subject = subject.with_overrides_only().unwrap();
        assert_eq!(
            keys_query(&subject, window()),
            "EmailEvents\n\
             | where Timestamp >= datetime(2026-08-20T09:00:00Z) and Timestamp < datetime(2026-08-20T09:05:00Z)\n\
             | where isnotempty(OrgLevelAction) or isnotempty(OrgLevelPolicy) or isnotempty(UserLevelAction) or isnotempty(UserLevelPolicy)\n\
             | summarize by NetworkMessageId, Recipient = tolower(RecipientEmailAddress), ReportId, Timestamp\n\
             | count"
        );
        let clicks = Subject::of(Table::UrlClickEvents, TimeColumn::timestamp());
        assert_eq!(clicks.with_overrides_only(), None);
    }

    #[test]
    fn somebodys_own_query_keeps_its_lines_and_may_end_in_a_comment() {
        let kql = "let t = 5;\nEmailEvents | where BulkComplaintLevel > t // bulk;  \n";
        let subject = Subject::own("bulk", kql, "Time of day", None);
        assert_eq!(
            rows_query(&subject, &Piece::all(window()), 10),
            "let t = 5;\nEmailEvents | where BulkComplaintLevel > t // bulk\n\
             | where [\"Time of day\"] >= datetime(2026-08-20T09:00:00Z) and [\"Time of day\"] < datetime(2026-08-20T09:05:00Z)\n\
             | take 10"
        );
    }

    /// Reads one literal as KQL does; `None` if it does not end exactly at the end.
    fn read(literal: &str) -> Option<String> {
        let mut characters = literal.strip_prefix('"')?.chars();
        let mut text = String::new();
        loop {
            match characters.next()? {
                '"' => return characters.as_str().is_empty().then_some(text),
                '\n' | '\r' => return None,
                '\\' => match characters.next()? {
                    'n' => text.push('\n'),
                    'r' => text.push('\r'),
                    't' => text.push('\t'),
                    'u' => {
                        let code: String = characters.by_ref().take(4).collect();
                        text.push(char::from_u32(u32::from_str_radix(&code, 16).ok()?)?);
                    }
                    other @ ('"' | '\\') => text.push(other),
                    _ => return None,
                },
                other => text.push(other),
            }
        }
    }

    proptest! {
        /// Row S24 of the security list: whatever text comes in, it stays one value.
        #[test]
        fn any_text_stays_one_value(text in "[\\PC\"'\\\\/|;\n\r\t\u{0}\u{2028}@`(){}\\[\\]]{0,40}") {
            prop_assert_eq!(read(&literal(&text)), Some(text.clone()));
        }

        /// The same for names: either a plain word or one bracketed value.
        #[test]
        fn any_name_stays_one_name(text in "[\\PC\"'\\\\/|; \n]{0,20}") {
            let name = entity(&text);
            if name != text {
                let inner = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
                prop_assert_eq!(inner.and_then(read), Some(text));
            } else {
                prop_assert!(is_word(&text));
            }
        }
    }

    /// Row S24 of the security list.
    #[test]
    fn quotes_comments_and_operators_cannot_leave_a_literal() {
        for text in [
            "\" or 1 == 1 //",
            "\\\" | union *",
            "a\\",
            "x\n| take 100000",
            "'; EmailEvents",
            "@\"",
            "```",
            "/* */ \" */",
        ] {
            assert_eq!(read(&literal(text)).as_deref(), Some(text));
            assert!(!literal(text).contains('\n'));
        }
    }
}
