//! The reckoning at the end of a demo: what the tenant says it sent against what the journal, the file and
//! the ticket system have. Records are told apart by their own columns; Postern's ids are not believed.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::domain::Kind;
use crate::journal::Journal;
use crate::simulator::judge::{Judge, Judged};
use crate::simulator::truth::{Totals, Truth};

use super::board::grouped;
use super::receiver::Tickets;
use super::screen::Screen;

/// Raw bytes that one read of the journal brings.
const READ_BYTES: usize = 1 << 20;

/// What the demo has proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// All is as it should be.
    Right,
    /// Something is not.
    Wrong,
    /// Nothing: the user wanted no more before everything had arrived.
    None,
}

/// What was compared.
#[derive(Debug, Default)]
pub struct Reckoning {
    /// What was sent.
    pub sent: Totals,
    /// Kinds of things that were to arrive beside rows, and how many of each there are.
    pub things: Vec<(&'static str, u64)>,
    /// Rows that the cloud has shown over other transports than the hubs.
    pub shown: Vec<(&'static str, u64)>,
    /// The journal against it.
    pub journal: Judged,
    /// The file against it.
    pub file: Judged,
    /// Records that could not be read, as the journal has them.
    pub dead_letters: u64,
    /// Events that a sink refused.
    pub refused: u64,
    /// Gap records.
    pub gaps: u64,
    /// Tickets that were opened.
    pub tickets: u64,
    /// Messages that should have a ticket and have none; tickets for other messages; second tickets.
    pub ticket_faults: (u64, u64, u64),
    /// Requests with a wrong signature.
    pub forged: u64,
    /// Whether the user wanted no more before everything had arrived.
    pub interrupted: bool,
    /// What kept it from being complete, in a sentence.
    pub trouble: Vec<String>,
}

/// What a journal holds, against `truth`.
pub async fn of_journal(
    journal: &dyn Journal,
    truth: &Truth,
    reckoning: &mut Reckoning,
) -> anyhow::Result<()> {
    let mut comparison = Judge::new(truth, &reckoning.kinds());
    let mut from = journal.stat().first;
    loop {
        let events = journal.read(from, READ_BYTES).await.context("cannot read the journal")?;
        let Some(last) = events.last() else { break };
        from = last.offset + 1;
        for numbered in &events {
            let event = &numbered.event;
            match event.kind {
                Kind::Gap => reckoning.gaps += 1,
                Kind::MailState => {}
                _ => {
                    let tags: Vec<&str> = event.decision.tags.words().collect();
                    let row = String::from_utf8_lossy(event.row_bytes());
                    comparison.arrived(event.table.name(), &row, &tags);
                }
            }
        }
    }
    reckoning.journal = comparison.verdict();
    let letters = journal.dead_letters();
    reckoning.refused = letters.iter().filter(|letter| !letter.sink.is_empty()).count() as u64;
    reckoning.dead_letters = letters.len() as u64 - reckoning.refused;
    Ok(())
}

/// What the files of a directory hold, against `truth`.
pub fn of_files(directory: &Path, truth: &Truth, reckoning: &mut Reckoning) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct Line<'a> {
        kind: &'a str,
        #[serde(default)]
        table: &'a str,
        #[serde(default)]
        tags: Vec<String>,
        #[serde(borrow)]
        raw: &'a RawValue,
    }
    let mut comparison = Judge::new(truth, &reckoning.kinds());
    let entries = fs::read_dir(directory)
        .with_context(|| format!("cannot read the file sink's folder {}", directory.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "ndjson") {
            continue;
        }
        for line in BufReader::new(File::open(&path)?).lines() {
            let line = line?;
            let event: Line<'_> = serde_json::from_str(&line)
                .with_context(|| format!("{} has a line that is no event", path.display()))?;
            if event.kind == Kind::Gap.as_str() || event.kind == Kind::MailState.as_str() {
                continue;
            }
            let tags: Vec<&str> = event.tags.iter().map(|tag| &**tag).collect();
            comparison.arrived(event.table, event.raw.get(), &tags);
        }
    }
    reckoning.file = comparison.verdict();
    Ok(())
}

/// What the ticket system has, against `truth`.
pub fn of_tickets(tickets: &Tickets, truth: &Truth, reckoning: &mut Reckoning) {
    reckoning.tickets = tickets.opened.len() as u64;
    reckoning.forged = tickets.refused;
    reckoning.ticket_faults =
        truth.compare_tickets(tickets.opened.values().map(|ticket| &*ticket.message));
}

impl Reckoning {
    fn kinds(&self) -> Vec<&'static str> {
        self.things.iter().map(|(kind, _)| *kind).collect()
    }

    /// What it comes to.
    pub fn proof(&self) -> Proof {
        match (self.interrupted, self.is_right()) {
            (true, _) => Proof::None,
            (false, true) => Proof::Right,
            (false, false) => Proof::Wrong,
        }
    }

    fn is_right(&self) -> bool {
        self.trouble.is_empty()
            && self.journal.is_right()
            && self.file.is_right()
            && self.dead_letters == self.sent.poison
            && (self.refused, self.gaps, self.forged) == (0, 0, 0)
            && self.ticket_faults == (0, 0, 0)
    }

    /// Records that the hubs never got.
    const fn only_elsewhere(&self) -> u64 {
        let hubs = self.sent.sent.saturating_sub(self.sent.again);
        self.sent.records.saturating_sub(hubs)
    }

    /// In words.
    pub fn lines(&self, screen: &Screen) -> Vec<String> {
        let row = |label: &str, sent: Option<u64>, journal: u64, file: u64| {
            let sent = sent.map(grouped).unwrap_or_default();
            format!("    {label:<34}{sent:>10}{:>10}{:>10}", grouped(journal), grouped(file))
        };
        let (journal, file) = (&self.journal, &self.file);
        let head = format!("    {:<34}{:>10}{:>10}{:>10}", "", "sent", "journal", "file");
        let (missing, strangers, twice) = self.ticket_faults;
        let mut lines = vec![
            screen.bold("  The reckoning: what the tenant sent, and what has arrived"),
            String::new(),
            head,
            row(
                "different records",
                Some(self.sent.records),
                journal.rows.arrived,
                file.rows.arrived,
            ),
        ];
        for (kind, count) in &self.things {
            let label = match *kind {
                "alert" => "alerts, in all revisions seen",
                "incident" => "incidents, in all revisions seen",
                _ => "audit records",
            };
            lines.push(row(label, Some(*count), journal.arrived(kind), file.arrived(kind)));
        }
        lines.extend([
            row("  lost", None, journal.lost(), file.lost()),
            row("  twice", None, journal.twice(), file.twice()),
            row("  never sent", None, journal.strangers(), file.strangers()),
            row(
                "allowed high-confidence phish",
                Some(self.sent.allowed),
                journal.rows.allowed,
                file.rows.allowed,
            ),
            row("  other tags than the model's", None, journal.rows.mistagged, file.rows.mistagged),
            String::new(),
            format!(
                "    sent so that nobody can read it: {}, kept as dead letters: {}",
                grouped(self.sent.poison),
                grouped(self.dead_letters)
            ),
            format!(
                "    phish messages let in: {}, tickets opened: {} ({missing} missing, {twice} twice, {strangers} \
                 for no reason)",
                grouped(self.sent.allowed_messages),
                grouped(self.tickets),
            ),
        ]);
        let shown: Vec<String> = self
            .shown
            .iter()
            .map(|(transport, rows)| format!("{} over {transport}", grouped(*rows)))
            .collect();
        if !shown.is_empty() {
            lines.push(format!(
                "    shown besides: {}; over those alone, not the hubs: {} records",
                shown.join(", "),
                grouped(self.only_elsewhere()),
            ));
        }
        let others = [
            (self.gaps, "gap records, though nothing is missing at the far end"),
            (self.refused, "events refused by a sink"),
            (self.forged, "requests to the ticket system without a right signature"),
        ];
        for (count, what) in others {
            if count > 0 {
                lines.push(format!("    {} {what}", grouped(count)));
            }
        }
        lines.push(String::new());
        if self.interrupted {
            lines.push(
                "  Interrupted before everything had arrived, so this proves nothing.".to_owned(),
            );
            return lines;
        }
        if self.is_right() {
            let shown: u64 = self.shown.iter().map(|(_, rows)| rows).sum();
            lines.push(screen.good(&format!(
                "  Right: all {} records arrived exactly once, although {} were sent again.",
                grouped(
                    self.sent.records + self.things.iter().map(|(_, count)| count).sum::<u64>()
                ),
                grouped((self.sent.again + shown).saturating_sub(self.only_elsewhere())),
            )));
            return lines;
        }
        lines.push(
            screen.bad("  Wrong: this is a defect, please report it with the folder named below."),
        );
        lines.extend(self.trouble.iter().map(|trouble| format!("    {trouble}")));
        for (place, verdict) in [("journal", journal), ("file", file)] {
            lines.extend(verdict.examples().map(|example| format!("    {place}: {example}")));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost_one() -> crate::simulator::truth::Verdict {
        crate::simulator::truth::Verdict { lost: 1, ..Default::default() }
    }

    fn right() -> Reckoning {
        let sent = Totals { records: 10, sent: 12, poison: 2, ..Totals::default() };
        Reckoning { sent, dead_letters: 2, ..Reckoning::default() }
    }

    #[test]
    fn an_interrupted_demo_proves_nothing_and_blames_nobody() {
        let mut reckoning = right();
        reckoning.interrupted = true;
        reckoning.journal.rows.lost = 3;
        assert_eq!(reckoning.proof(), Proof::None);
        let words = reckoning.lines(&Screen::new()).join("\n");
        assert!(words.contains("proves nothing") && !words.contains("defect"), "{words}");
    }

    #[test]
    fn each_single_fault_makes_it_wrong() {
        assert_eq!(right().proof(), Proof::Right);
        let one = |spoil: fn(&mut Reckoning)| {
            let mut reckoning = right();
            spoil(&mut reckoning);
            assert_eq!(reckoning.proof(), Proof::Wrong, "{reckoning:?}");
        };
        one(|reckoning| reckoning.journal.rows.lost = 1);
        one(|reckoning| reckoning.file.rows.twice = 1);
        one(|reckoning| reckoning.file.rows.strangers = 1);
        one(|reckoning| reckoning.journal.things = vec![("alert", lost_one())]);
        one(|reckoning| reckoning.journal.rows.mistagged = 1);
        one(|reckoning| reckoning.dead_letters = 1);
        one(|reckoning| reckoning.dead_letters = 3);
        one(|reckoning| reckoning.refused = 1);
        one(|reckoning| reckoning.gaps = 1);
        one(|reckoning| reckoning.forged = 1);
        one(|reckoning| reckoning.ticket_faults = (1, 0, 0));
        one(|reckoning| reckoning.ticket_faults = (0, 1, 0));
        one(|reckoning| reckoning.ticket_faults = (0, 0, 1));
        one(|reckoning| reckoning.trouble.push("x".into()));
    }
}
