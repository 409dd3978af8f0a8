//! What the filter found: classes of threat, how sure it was of phish, and whether the spam filter ran at
//! all. At delivery and, where the record tells the two apart, now. What became of the mail is `outcome`'s
//! business.

use serde_json::Value;

use crate::domain::{Outcome, Verdict};
use crate::normalize::scan::Scanner;
use crate::normalize::words::{self, ThreatClass};
use crate::normalize::{Column, Row};

/// SCL from which on mail is spam.
const SPAM_LEVEL: i64 = 5;

/// SCL of mail that the spam filter did not look at.
pub const FILTER_SKIPPED: i64 = -1;

/// The classes of threat found in one mail; several may apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Classes {
    /// Malware.
    pub malware: bool,
    /// Phish.
    pub phish: Option<Tier>,
    /// Spam or bulk.
    pub spam: bool,
}

/// How sure the filter was of phish. What is not said to be high is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// High confidence.
    High,
    /// Normal, low, medium or unknown confidence.
    Normal,
}

impl Classes {
    /// Nothing was found.
    #[must_use]
    pub fn is_clean(self) -> bool {
        self == Self::default()
    }

    /// Phish or malware.
    #[must_use]
    pub const fn is_malicious(self) -> bool {
        self.malware || self.phish.is_some()
    }

    /// The classes as verdicts, the worst one first.
    pub fn each(self) -> impl Iterator<Item = Verdict> {
        let phish = self.phish.map(|tier| match tier {
            Tier::High => Verdict::HcPhish,
            Tier::Normal => Verdict::Phish,
        });
        self.malware.then_some(Verdict::Malware).into_iter().chain(phish).chain(
            // Spam goes last: it is the least of what may be wrong with a mail.
            self.spam.then_some(Verdict::Spam),
        )
    }

    /// The one verdict that stands for all of them.
    #[must_use]
    pub fn worst(self) -> Verdict {
        self.each().next().unwrap_or(Verdict::Clean)
    }

    pub(super) fn add(&mut self, class: ThreatClass, tier: Tier) {
        match class {
            ThreatClass::Malware => self.malware = true,
            ThreatClass::Phish => self.phish = Some(tier),
            ThreatClass::Spam => self.spam = true,
        }
    }
}

/// What one set of verdict columns says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Found {
    /// The classes.
    pub classes: Classes,
    /// Whether they come from somewhere else than the threat types.
    pub inferred: bool,
    /// The spam confidence level.
    pub scl: Option<i64>,
}

/// A set of verdict columns: threat types, detection methods, confidence.
pub type VerdictColumns = [Column; 3];

/// The latest verdict; the one at delivery too where a row has no other.
pub const PLAIN: VerdictColumns =
    [Column::ThreatTypes, Column::DetectionMethods, Column::ConfidenceLevel];

/// The verdict at delivery, in rows that tell it apart.
pub const ORIGINAL: VerdictColumns = [
    Column::OriginalThreatTypes,
    Column::OriginalDetectionMethods,
    Column::OriginalConfidenceLevel,
];

/// The verdicts of a row of `EmailEvents`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdicts {
    /// At delivery.
    pub at_delivery: Found,
    /// The columns that it comes from.
    pub columns: VerdictColumns,
    /// Now, where the row tells it apart.
    pub latest: Option<Found>,
}

/// Reads the verdicts of a row whose mail had this outcome.
#[must_use]
pub fn of_row(row: &Row<'_>, outcome: Outcome) -> Verdicts {
    let plain = found(row, PLAIN);
    if !ORIGINAL.iter().any(|column| row.has(*column)) {
        return Verdicts { at_delivery: plain, columns: PLAIN, latest: None };
    }
    // A mail that was kept out had a reason; without one the columns have not been filled.
    let unfilled = ORIGINAL.iter().all(|column| is_nothing(row, *column));
    if unfilled && matches!(outcome, Outcome::Blocked | Outcome::Junk) {
        return Verdicts { at_delivery: plain, columns: PLAIN, latest: None };
    }
    Verdicts { at_delivery: found(row, ORIGINAL), columns: ORIGINAL, latest: Some(plain) }
}

/// What one set of verdict columns of `row` says.
#[must_use]
pub fn found(row: &Row<'_>, [threats, methods, confidence]: VerdictColumns) -> Found {
    let sure = Confidence::of_column(row, confidence);
    let tier = if sure.phish_high { Tier::High } else { Tier::Normal };
    let mut classes = Classes::default();
    if let Some(text) = row.text(threats) {
        for class in words::threat_words(&text).filter_map(words::threat_class) {
            classes.add(class, tier);
        }
    }
    let mut inferred = false;
    if classes.is_clean() {
        if let Some(Value::Object(methods)) = row.json(methods) {
            for (class, _) in methods.iter().filter(|(_, names)| !is_empty(names)) {
                if let Some(class) = words::threat_class(class) {
                    classes.add(class, tier);
                }
            }
        }
        if classes.is_clean() {
            if sure.phish_high {
                classes.phish = Some(Tier::High);
            } else if sure.scl.is_some_and(|scl| scl >= SPAM_LEVEL) {
                classes.spam = true;
            }
        }
        inferred = !classes.is_clean();
    }
    Found { classes, inferred, scl: sure.scl }
}

/// The two levels that a confidence column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Confidence {
    phish_high: bool,
    scl: Option<i64>,
}

impl Confidence {
    /// From a column. Nearly every value is null or a flat object, which is read without building values.
    fn of_column(row: &Row<'_>, column: Column) -> Self {
        let Some(text) = row.text(column) else { return Self::default() };
        Self::of_flat(&text)
            .or_else(|| row.json(column).map(|value| Self::of(&value)))
            .unwrap_or_default()
    }

    /// From an object whose members are plain texts and numbers; `None` for anything else.
    fn of_flat(text: &str) -> Option<Self> {
        let mut sure = Self::default();
        let mut scanner = Scanner::new(text.as_bytes());
        scanner.expect(b'{').ok()?;
        let mut more = !scanner.take(b'}').ok()?;
        while more {
            let key = scanner.key().ok()?;
            let value = scanner.value(0).ok()?;
            if key.escaped || value.escaped {
                return None;
            }
            let value = text.get(value.start..value.end)?;
            sure.pair(text.get(key.start..key.end)?, value.trim_matches('"'));
            more = scanner.more(b'}').ok()?;
        }
        scanner.at_end().then_some(sure)
    }

    /// From an object with `Phish` and `Spam`, an array or text of words, or a bare word or number.
    fn of(value: &Value) -> Self {
        let mut sure = Self::default();
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    match member {
                        Value::Array(values) => {
                            values.iter().for_each(|value| sure.pair(name, &scalar(value)));
                        }
                        member => sure.pair(name, &scalar(member)),
                    }
                }
            }
            Value::Array(values) => values.iter().for_each(|value| sure.words(&scalar(value))),
            other => sure.words(&scalar(other)),
        }
        sure
    }

    fn words(&mut self, text: &str) {
        for part in text.split([',', ';']) {
            match part.split_once(':') {
                Some((name, value)) => self.pair(name, value),
                None => {
                    self.phish(part);
                    self.spam(part);
                }
            }
        }
    }

    fn pair(&mut self, name: &str, value: &str) {
        match words::threat_class(name) {
            Some(ThreatClass::Phish) => self.phish(value),
            Some(ThreatClass::Spam) => self.spam(value),
            _ => {}
        }
    }

    fn phish(&mut self, word: &str) {
        self.phish_high |= word.trim().eq_ignore_ascii_case("high");
    }

    fn spam(&mut self, level: &str) {
        self.scl = level.trim().parse().ok().or(self.scl);
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => words::is_nothing(text.trim()),
        Value::Array(values) => values.iter().all(is_empty),
        Value::Object(members) => members.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

fn is_nothing(row: &Row<'_>, column: Column) -> bool {
    row.text(column).is_none_or(|text| words::is_nothing(&text))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(row: &Value) -> Found {
        found(&Row::parse(row.to_string().as_bytes()).unwrap(), PLAIN)
    }

    #[track_caller]
    fn check(confidence: Value, phish: Tier, scl: Option<i64>) {
        let found = read(&json!({"ThreatTypes": "Phish", "ConfidenceLevel": confidence}));
        assert_eq!((found.classes.phish, found.scl), (Some(phish), scl), "{confidence}");
    }

    #[test]
    fn confidence_is_read_in_every_form_and_only_high_is_high() {
        check(json!("{\"Phish\":\"High\",\"Spam\":\"9\"}"), Tier::High, Some(9));
        check(json!({"phish": " HIGH ", "Spam": -1}), Tier::High, Some(-1));
        check(json!("\"{\\\"Phish\\\":\\\"High\\\"}\""), Tier::High, None);
        check(json!("[\"High\"]"), Tier::High, None);
        check(json!({"Phish": ["High"]}), Tier::High, None);
        check(json!("Phish: High; Spam: 9"), Tier::High, Some(9));
        check(json!("High"), Tier::High, None);
        check(json!("5"), Tier::Normal, Some(5));
        check(json!(5), Tier::Normal, Some(5));
        for normal in ["Normal", "Low", "Medium", "None", "Unknown", "Highest", "Very high", ""] {
            check(json!({"Phish": normal}), Tier::Normal, None);
            check(json!(normal), Tier::Normal, None);
        }
        check(json!({"Spam": "High"}), Tier::Normal, None);
        check(json!("{\"Phish\":\"High\""), Tier::Normal, None);
        check(json!(null), Tier::Normal, None);
    }

    #[test]
    fn without_threat_types_methods_then_phish_confidence_then_scl_tell_the_class() {
        let inferred = |row: Value| {
            let found = read(&row);
            (found.classes.each().collect::<Vec<_>>(), found.inferred)
        };
        assert_eq!(
            inferred(
                json!({"DetectionMethods": {"Malware": ["File detonation"], "Spam": ["Bulk"]}})
            ),
            (vec![Verdict::Malware, Verdict::Spam], true)
        );
        assert_eq!(inferred(json!({"DetectionMethods": "{}"})), (vec![], false));
        assert_eq!(inferred(json!({"DetectionMethods": {"Phish": []}})), (vec![], false));
        assert_eq!(inferred(json!({"DetectionMethods": "Advanced filter"})), (vec![], false));
        let high = json!({"ConfidenceLevel": {"Phish": "High", "Spam": "9"}});
        assert_eq!(inferred(high), (vec![Verdict::HcPhish], true));
        assert_eq!(
            inferred(json!({"ConfidenceLevel": {"Spam": "6"}})),
            (vec![Verdict::Spam], true)
        );
        assert_eq!(inferred(json!({"ConfidenceLevel": {"Spam": "4"}})), (vec![], false));
        assert_eq!(inferred(json!({"ThreatTypes": "Phish"})), (vec![Verdict::Phish], false));
    }
}
