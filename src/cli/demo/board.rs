//! What the demo has seen so far, in a stranger's words. It follows the journal like any reader; it decides
//! nothing and draws nothing.

use std::time::Duration;

use crate::domain::{Decision, Event, Kind, Override, OverrideKind, Tag};
use crate::normalize::{Column, Row};
use crate::simulator::judge::Arrivals;
use crate::simulator::truth::Totals;

/// A line of the summary: what it says, and the tags that count for it.
const ROWS: [(&str, &[Tag]); 7] = [
    ("let in high-confidence phish", &[Tag::AllowedHcPhish]),
    ("let in other phish", &[Tag::AllowedPhish]),
    ("let in spam or bulk mail", &[Tag::AllowedSpam]),
    ("let in mail that was convicted later", &[Tag::LateConvictionUnderOverride]),
    ("let in mail that was clean anyway (not needed)", &[Tag::OverrideUnnecessary]),
    ("lost against the filter or another setting", &[Tag::OverrideIneffective]),
    ("did what they are for (simulations, reports)", &[Tag::OverrideExpected]),
];

/// The summary.
#[derive(Debug, Default)]
pub struct Board {
    /// What has arrived.
    pub arrivals: Arrivals,
    events: u64,
    mails: u64,
    rows: [u64; ROWS.len()],
    newest: Option<Newest>,
    behind_seconds: f64,
}

/// The newest phish that an override let in.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Newest {
    what: String,
    found: String,
    why: String,
}

/// Figures that come from elsewhere.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figures {
    /// Since the start.
    pub elapsed: Duration,
    /// How long it will run.
    pub planned: Option<Duration>,
    /// The seed.
    pub seed: u64,
    /// What the tenant has sent.
    pub sent: Totals,
    /// Events per second, lately.
    pub rate: f64,
    /// Events that the file has.
    pub delivered: u64,
    /// Tickets opened.
    pub tickets: u64,
    /// Dead letters.
    pub dead_letters: u64,
}

impl Board {
    /// Takes in an event.
    pub fn take(&mut self, event: &Event) {
        self.events += 1;
        if !matches!(event.kind, Kind::Gap | Kind::MailState) {
            self.arrivals.take(event.table.name(), &String::from_utf8_lossy(event.row_bytes()));
        }
        if let (Some(ingested), Some(observed)) = (event.ingested, event.observed) {
            self.behind_seconds = ingested.seconds_since(observed).max(0.0);
        }
        if event.kind != Kind::Email {
            return;
        }
        let tags = &event.decision.tags;
        self.mails += u64::from(!tags.contains(Tag::ReVerdict));
        for (count, (_, row)) in self.rows.iter_mut().zip(ROWS) {
            *count += u64::from(row.iter().any(|tag| tags.contains(*tag)));
        }
        if tags.contains(Tag::AllowedHcPhish) {
            self.newest = Newest::of(event).or_else(|| self.newest.take());
        }
    }

    /// Events so far.
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// One line, for terminals that cannot be redrawn.
    pub fn line(&self, figures: &Figures) -> String {
        let [allowed, ..] = self.rows;
        format!(
            "{}  {} mails, {} events in the journal ({:.0}/s), {} in the file, {} allowed high-confidence \
             phish, {} tickets, {} dead letters, {:.1} s behind",
            clock(figures.elapsed),
            grouped(self.mails),
            grouped(self.events),
            figures.rate,
            grouped(figures.delivered),
            grouped(allowed),
            grouped(figures.tickets),
            grouped(figures.dead_letters),
            self.behind_seconds,
        )
    }

    /// The whole summary.
    pub fn lines(&self, figures: &Figures) -> Vec<String> {
        let of = figures.planned.map(|planned| format!(" of {}", clock(planned)));
        let repeats = figures.sent.again;
        let mut lines = vec![
            format!(
                "  {}{}   seed {}   Ctrl-C to stop",
                clock(figures.elapsed),
                of.unwrap_or_default(),
                figures.seed
            ),
            String::new(),
            format!(
                "  The tenant sent     {:>8} records in {} messages; {} of them sent again, {} unreadable",
                grouped(figures.sent.sent),
                grouped(figures.sent.messages),
                grouped(repeats),
                grouped(figures.sent.poison),
            ),
            format!(
                "  In the journal      {:>8} events, each once   {:.0}/s   {:.1} s after export",
                grouped(self.events),
                figures.rate,
                self.behind_seconds,
            ),
            format!(
                "  Delivered           {:>8} to the file   {} tickets   {} dead letters",
                grouped(figures.delivered),
                grouped(figures.tickets),
                grouped(figures.dead_letters),
            ),
            String::new(),
            format!(
                "  {} mails, each recipient's copy counted. Of these, overrides …",
                grouped(self.mails)
            ),
        ];
        for ((label, _), count) in ROWS.iter().zip(self.rows) {
            lines.push(format!("    {:>7}  {label}", grouped(count)));
        }
        lines.push(String::new());
        match &self.newest {
            Some(newest) => {
                lines.push("  Newest phish that an override let in".to_owned());
                lines.push(format!("    {}", newest.what));
                lines.push(format!("    {}", newest.found));
                lines.push(format!("    {}", newest.why));
            }
            None => lines.push("  No phish has been let in by an override yet".to_owned()),
        }
        lines
    }
}

impl Newest {
    fn of(event: &Event) -> Option<Self> {
        let row = Row::parse(event.row_bytes()).ok()?;
        let text =
            |column| row.text(column).map(|text| plain(&text)).filter(|text| !text.is_empty());
        let unknown = || "?".to_owned();
        let methods = row
            .json(Column::DetectionMethods)
            .and_then(|methods| {
                let names = methods.get("Phish")?.as_array()?.clone();
                let names: Vec<String> =
                    names.iter().filter_map(serde_json::Value::as_str).map(plain).collect();
                Some(format!(" ({})", names.join(", ")))
            })
            .unwrap_or_default();
        Some(Self {
            what: format!(
                "\"{}\" from {} to {}",
                text(Column::Subject).unwrap_or_default(),
                text(Column::SenderFromAddress).unwrap_or_else(unknown),
                text(Column::RecipientEmailAddress).unwrap_or_else(unknown),
            ),
            found: format!("The filter found phish, high confidence{methods}."),
            why: format!("It was delivered all the same because of {}.", because(&event.decision)),
        })
    }
}

fn because(decision: &Decision) -> String {
    let primary = decision.overrides.iter().find(|one| one.primary);
    match primary.or_else(|| decision.overrides.first()) {
        Some(found) => format!("{} (\"{}\")", in_words(found), plain(&found.policy)),
        None => "an override".to_owned(),
    }
}

fn in_words(found: &Override) -> &'static str {
    match found.kind {
        OverrideKind::TransportRule => "a mail-flow rule",
        OverrideKind::IpList => "the IP allow list",
        OverrideKind::AntispamSenderList => "an allowed sender of the anti-spam policy",
        OverrideKind::AntispamDomainList => "an allowed domain of the anti-spam policy",
        OverrideKind::TablUrl => "an allowed URL on the Tenant Allow/Block List",
        OverrideKind::TablSender => "an allowed sender on the Tenant Allow/Block List",
        OverrideKind::TablFile => "an allowed file on the Tenant Allow/Block List",
        OverrideKind::ThirdPartyFilter => "trust in another vendor's filter",
        OverrideKind::UserSenderList => "the user's own safe senders",
        OverrideKind::UserDomainList => "the user's own safe domains",
        OverrideKind::UserContacts => "the user's trust in their contacts",
        _ => "an override",
    }
}

/// Text out of a mail, harmless for a terminal.
fn plain(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(120).collect()
}

/// Minutes and seconds.
pub fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{:02}:{:02}", seconds / 60, seconds % 60)
}

/// A number with commas between its thousands.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_times_read_like_a_clock() {
        let grouped_all: Vec<String> = [0, 999, 1000, 1_234_567].map(grouped).to_vec();
        assert_eq!(grouped_all, ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(clock(Duration::from_secs(125)), "02:05");
    }

    #[test]
    fn control_characters_out_of_a_mail_never_reach_the_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\nc"), "a[2Jbc");
    }
}
