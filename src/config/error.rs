//! What is wrong in a configuration, said so that a person can mend it: file, line, key, what was found and
//! what was expected. Nothing here decides what is wrong.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In a file, at a line counted from 1.
    File(Arc<Path>, usize),
    /// In this environment variable.
    Variable(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => f.write_str(name),
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfigError {
    /// Where, if it is written anywhere (a required key that nobody wrote has no place).
    pub place: Option<Place>,
    /// Which key, with dots: `sink.siem.linger_ms`. Empty for the document as a whole.
    pub key: String,
    /// What was found and what was expected. Never the value of a secret.
    pub problem: String,
    /// What to do, where that can be said.
    pub hint: Option<String>,
}

impl ConfigError {
    /// A problem at `key`, wherever that is written.
    #[must_use]
    pub fn new(place: Option<Place>, key: &str, problem: impl Into<String>) -> Self {
        Self { place, key: key.to_owned(), problem: problem.into(), hint: None }
    }

    /// The same with advice.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.problem)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ConfigError {}

/// Everything that is wrong, in the order of the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl ConfigErrors {
    /// A file that cannot be read at all.
    #[must_use]
    pub fn unreadable(path: &Path, cause: &std::io::Error) -> ConfigError {
        let hint = match cause.kind() {
            std::io::ErrorKind::NotFound => {
                "name a file with --config, or see config/minimal.toml for one to start with"
            }
            std::io::ErrorKind::PermissionDenied => {
                "the user that Postern runs as must be able to read it"
            }
            _ => "is it a file?",
        };
        let problem = format!("cannot read the configuration file {}: {cause}", path.display());
        ConfigError::new(None, "", problem).hint(hint)
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// The candidate that `word` was probably meant to be.
#[must_use]
pub fn did_you_mean<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

/// A path for errors, shared by all of one file.
#[must_use]
pub fn shared(path: &Path) -> Arc<Path> {
    PathBuf::from(path).into()
}
