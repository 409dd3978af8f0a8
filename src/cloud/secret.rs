//! Secrets in configuration: always a reference to a file or an environment variable, never the text itself.
//! Nothing here can print a secret.

use std::path::PathBuf;

use secrecy::SecretString;
use serde::Deserialize;

/// Where a secret is: `{ file = "/run/secrets/x" }` or `{ env = "X" }`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Secret {
    /// The file's content, without a trailing line break. Read again whenever it is needed, so that a rotated
    /// secret is picked up.
    File(PathBuf),
    /// An environment variable.
    Env(String),
}

/// A secret could not be read. Names the place, never the content.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("cannot read the secret file {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// The operating system's words.
        #[source]
        cause: std::io::Error,
    },
    /// The file or variable is empty.
    #[error("the secret in {0} is empty")]
    Empty(String),
    /// The variable is not set, or is not UTF-8.
    #[error("the environment variable {0} is not set (or is not UTF-8)")]
    Env(String),
}

impl Secret {
    /// Reads it.
    ///
    /// # Errors
    /// If it is missing, unreadable or empty.
    pub fn read(&self) -> Result<SecretString, SecretError> {
        let (text, place) = match self {
            Self::File(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|cause| SecretError::File { path: path.clone(), cause })?;
                (text, path.display().to_string())
            }
            Self::Env(name) => {
                let text = std::env::var(name).map_err(|_| SecretError::Env(name.clone()))?;
                (text, name.clone())
            }
        };
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() {
            return Err(SecretError::Empty(place));
        }
        Ok(SecretString::from(text))
    }

    /// Whether the file can be read by its group or by everybody: worth a warning, not a refusal (Kubernetes
    /// mounts secrets so).
    #[must_use]
    pub fn readable_by_others(&self) -> bool {
        use std::os::unix::fs::PermissionsExt as _;
        match self {
            Self::File(path) => std::fs::metadata(path)
                .is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0),
            Self::Env(_) => false,
        }
    }
}
