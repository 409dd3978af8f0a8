//! What `check` says: lines that say what was looked at, what was seen and what to do. It looks at nothing itself.

use std::fmt;

/// How one thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Good,
    Advice,
    Bad,
}

/// One line of the list.
#[derive(Debug)]
struct Finding {
    mark: Mark,
    /// What was looked at.
    what: String,
    /// What was seen.
    seen: String,
    /// What to do.
    todo: Option<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.mark {
            Mark::Good => '✓',
            Mark::Advice => '!',
            Mark::Bad => '✗',
        };
        write!(f, "{mark} {}: {}", self.what, self.seen)?;
        match &self.todo {
            Some(todo) => write!(f, "\n    → {todo}"),
            None => Ok(()),
        }
    }
}

/// Prints findings as they are made and remembers the worst.
#[derive(Debug, Default)]
pub(in crate::app) struct List {
    pub(super) bad: usize,
    pub(super) advice: usize,
    /// What was printed.
    #[cfg(test)]
    pub(super) lines: Vec<String>,
}

impl List {
    pub(super) fn add(
        &mut self,
        mark: Mark,
        what: impl Into<String>,
        seen: impl Into<String>,
        todo: Option<String>,
    ) {
        match mark {
            Mark::Good => {}
            Mark::Advice => self.advice += 1,
            Mark::Bad => self.bad += 1,
        }
        let finding = Finding { mark, what: what.into(), seen: seen.into(), todo };
        println!("{finding}");
        #[cfg(test)]
        self.lines.push(finding.to_string());
    }

    pub(in crate::app) fn good(&mut self, what: impl Into<String>, seen: impl Into<String>) {
        self.add(Mark::Good, what, seen, None);
    }

    pub(in crate::app) fn advice(
        &mut self,
        what: impl Into<String>,
        seen: impl Into<String>,
        todo: impl Into<String>,
    ) {
        self.add(Mark::Advice, what, seen, Some(todo.into()));
    }

    pub(in crate::app) fn bad(
        &mut self,
        what: impl Into<String>,
        seen: impl Into<String>,
        todo: impl Into<String>,
    ) {
        self.add(Mark::Bad, what, seen, Some(todo.into()));
    }
}
