//! Why a journal could not be opened. What can go wrong later is [`super::JournalError`].

/// Why a journal could not be opened; each has the process's exit code.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process holds the directory.
    #[error("{0} is in use by another process (is postern already running?)")]
    InUse(String),
    /// The directory holds another journal than this installation wrote, or none where there was one:
    /// most often a volume that is not mounted.
    #[error(
        "{directory} does not hold the journal of this installation: expected journal {expected}, found {found} (is the right volume mounted? to begin a new journal on purpose, remove {id_file})"
    )]
    Mismatch {
        /// The journal's directory.
        directory: String,
        /// The id that was noted when the journal was created.
        expected: String,
        /// The id that is there, or `none`.
        found: String,
        /// Where the expected id is noted.
        id_file: String,
    },
    /// Something that was made durable later than the journal's end is there, so the end is missing: an old
    /// copy was restored, or the disk lost what it had confirmed.
    #[error(
        "the journal ends at {end}, but {witness} has been at {position}: durable events are missing (an old copy restored? a disk that lost confirmed writes?); see `postern journal verify` and `repair`"
    )]
    Behind {
        /// Who knows better.
        witness: String,
        /// What it knows.
        position: u64,
        /// Where the journal ends.
        end: u64,
    },
    /// A part that is needed to start is damaged. Nothing was changed.
    #[error(
        "{file} is damaged at byte {byte}: {detail}; nothing was changed (see `postern journal verify` and `repair`)"
    )]
    Damaged {
        /// File name.
        file: String,
        /// Where in the file.
        byte: u64,
        /// What is wrong.
        detail: String,
    },
    /// Written by a newer version.
    #[error("{file} has format {found}; this version reads up to {known}")]
    TooNew {
        /// File name.
        file: String,
        /// Its format.
        found: u8,
        /// The newest known here.
        known: u8,
    },
    /// The operating system refused.
    #[error("cannot {action}: {cause}")]
    Io {
        /// What was tried on what.
        action: String,
        /// The operating system's words.
        cause: std::io::Error,
    },
}

impl OpenError {
    /// The exit code of a process that cannot start because of this.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::InUse(_) => 3,
            Self::Damaged { .. } | Self::Io { .. } => 4,
            Self::Mismatch { .. } | Self::Behind { .. } | Self::TooNew { .. } => 5,
        }
    }

    pub(crate) fn io(action: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let action = action.into();
        move |cause| Self::Io { action, cause }
    }
}

/// For reading in general; where it matters which file, the caller says so.
impl From<std::io::Error> for OpenError {
    fn from(cause: std::io::Error) -> Self {
        Self::Io { action: "read the journal".to_owned(), cause }
    }
}
