//! What `postern tag` has counted, and how it tells it. Not metrics: nothing here outlives the process.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::domain::{Tag, Tags};

/// How many of what there were.
#[derive(Debug, Clone)]
pub struct Counts {
    /// Records that became events.
    pub events: u64,
    /// Records that did not.
    pub rejected: u64,
    tagged: u64,
    fixed: [u64; Tag::ALL.len()],
    user: BTreeMap<String, u64>,
}

impl Default for Counts {
    fn default() -> Self {
        let fixed = [0; Tag::ALL.len()];
        Self { events: 0, rejected: 0, tagged: 0, fixed, user: BTreeMap::new() }
    }
}

impl Counts {
    /// Counts an event with these tags.
    pub fn event(&mut self, tags: &Tags) {
        self.events += 1;
        if tags.is_empty() {
            return;
        }
        self.tagged += 1;
        let mut fixed = 0;
        for tag in tags.fixed() {
            fixed += 1;
            if let Some(count) = self.fixed.get_mut(tag as usize) {
                *count += 1;
            }
        }
        if tags.len() > fixed {
            for word in tags.words().filter(|word| Tag::from_word(word).is_none()) {
                *self.user.entry(word.to_owned()).or_default() += 1;
            }
        }
    }

    /// Appends the summary for a person: one line, and one for each tag that occurred.
    pub fn summarize(&self, text: &mut String) {
        let Self { events, rejected, tagged, .. } = self;
        let records = events + rejected;
        let _ = writeln!(
            text,
            "{records} records, {events} events, {rejected} rejected, {tagged} with tags"
        );
        let fixed = Tag::ALL.iter().zip(self.fixed).map(|(tag, count)| (tag.as_str(), count));
        let user = self.user.iter().map(|(word, count)| (word.as_str(), *count));
        let mut found: Vec<(&str, u64)> =
            fixed.chain(user).filter(|(_, count)| *count > 0).collect();
        found.sort_unstable();
        for (word, count) in found {
            let _ = writeln!(text, "{count:>9}  {word}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_counts_records_and_names_the_tags_that_occurred() {
        let mut counts = Counts { rejected: 2, ..Counts::default() };
        let mut tags: Tags = [Tag::OverrideAllow, Tag::AllowedPhish].into_iter().collect();
        counts.event(&tags);
        tags.insert_user("vip");
        counts.event(&tags);
        counts.event(&Tags::new());
        let mut text = String::new();
        counts.summarize(&mut text);
        assert_eq!(
            text,
            "5 records, 3 events, 2 rejected, 2 with tags\n        2  allowed.phish\n        2  override.allow\n        1  user.vip\n"
        );
    }
}
