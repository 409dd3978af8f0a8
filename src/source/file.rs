//! Files and folders as a source: exports of the portal and of hunting, saved API answers, lines that something
//! else appends, users' reports from a third-party tool. Which bytes are which record is cut here only as far as
//! pages must stay small; what a record means is `normalize`'s business.
//!
//! Guarantee: every whole line or document of every file is handed over at least once after a crash and once
//! otherwise, while the file stays as it is. A file that is replaced, cut or written anew is read from its
//! beginning (what was seen is recognised downstream). What vanishes before it was read, and what cannot be read
//! (a cut archive, one that swells beyond the caps), becomes a gap. A file that cannot be opened is
//! told and tried again while its neighbours are read.
//!
//! Plain lines are read as they grow; everything else (JSON over several lines, CSV, compressed files) once it has
//! been still for a moment. Folders are not searched below their first level, and names are compared, never
//! followed: a link out of the folder is refused.

mod book;
mod csv;
mod documents;
mod folder;
mod input;
mod lines;
mod reader;
mod reports;
mod session;
mod sniff;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;

use crate::domain::{Cursors, Failure};
use crate::journal::Clock;
use crate::pipeline::port::{AdapterError, Page, Source};

use reader::Reader;

/// How the records of a file are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileFormat {
    /// What the file begins like.
    #[default]
    Auto,
    /// One JSON object a line.
    Ndjson,
    /// One JSON document or several: an array, an API's answer, objects over several lines.
    Json,
    /// Columns named in the first line.
    Csv,
}

/// What the records of a file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// What the first record looks like; rows of an unknown table where it does not tell.
    #[default]
    Auto,
    /// Records of the Streaming API, as Event Hubs and Storage carry them.
    Streaming,
    /// Bare rows of a table.
    Rows,
    /// Answers of advanced hunting, Graph's or the older API's.
    Hunting,
    /// Pages of Graph's `/security/incidents`.
    GraphIncidents,
    /// Pages of Graph's `/security/alerts_v2`.
    GraphAlerts,
    /// Content of the Management Activity API.
    Activity,
    /// Users' reports from a third-party tool.
    Submissions,
}

/// `[source.<name>] type = "file"`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSourceConfig {
    /// A file, or a folder whose files are read.
    pub path: PathBuf,
    /// Only files of a folder whose names end so. Default: all whose names do not begin with a dot.
    #[serde(default)]
    pub suffixes: Vec<String>,
    /// `auto` (default), `ndjson`, `json` or `csv`. Gzip and zstd are known by their first bytes, whatever the name.
    #[serde(default)]
    pub format: FileFormat,
    /// `auto` (default), `streaming`, `rows`, `hunting`, `graph_incidents`, `graph_alerts`, `activity` or
    /// `submissions`.
    #[serde(default)]
    pub content: Content,
    /// The table of rows and hunting answers. Default: what their columns tell.
    #[serde(default)]
    pub table: Option<String>,
    /// For `submissions`: what the tool calls the columns `message_id`, `network_message_id`, `reporter`,
    /// `recipient`, `subject`, `sender`, `reported_at` and `category`. Default: by these names.
    #[serde(default)]
    pub columns: BTreeMap<String, String>,
    /// Whether plain lines are read as they are appended. If not, they too are read once the file is still.
    /// Default: true.
    #[serde(default = "yes")]
    pub follow: bool,
    /// Seconds between looks at the folder. Default: 30.
    #[serde(default = "default_poll_seconds")]
    pub poll_seconds: u64,
    /// Seconds that a file must not change before it counts as still. Default: 10.
    #[serde(default = "default_settle_seconds")]
    pub settle_seconds: u64,
    /// Most bytes in a page. Default: 2 MiB.
    #[serde(default = "default_page_bytes")]
    pub page_bytes: usize,
    /// Bytes that are taken of one compressed file, after decompression. Default: 4 GiB.
    #[serde(default = "default_max_file_bytes")]
    pub max_file_bytes: u64,
    /// How many times larger than compressed a file may become. Default: 200; JSON of logs reaches 30.
    #[serde(default = "default_max_ratio")]
    pub max_ratio: u64,
}

const fn yes() -> bool {
    true
}

const fn default_poll_seconds() -> u64 {
    30
}

const fn default_settle_seconds() -> u64 {
    10
}

const fn default_page_bytes() -> usize {
    2 << 20
}

const fn default_max_file_bytes() -> u64 {
    4 << 30
}

const fn default_max_ratio() -> u64 {
    200
}

impl FileSourceConfig {
    /// A path with every default.
    #[must_use]
    pub fn of(path: PathBuf) -> Self {
        Self {
            path,
            suffixes: Vec::new(),
            format: FileFormat::Auto,
            content: Content::Auto,
            table: None,
            columns: BTreeMap::new(),
            follow: true,
            poll_seconds: default_poll_seconds(),
            settle_seconds: default_settle_seconds(),
            page_bytes: default_page_bytes(),
            max_file_bytes: default_max_file_bytes(),
            max_ratio: default_max_ratio(),
        }
    }
}

/// See the module.
pub struct FileSource {
    name: Arc<str>,
    config: Arc<FileSourceConfig>,
    clock: Arc<dyn Clock>,
    /// Away while a blocking thread reads with it.
    reader: Option<Box<Reader>>,
}

impl FileSource {
    /// Checks the settings; opens nothing.
    ///
    /// # Errors
    /// [`Failure::Hold`] with the setting that is wrong.
    pub fn new(
        name: &str,
        config: FileSourceConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, AdapterError> {
        let wrong = |message: String| Err(AdapterError::new(Failure::Hold, message));
        if config.page_bytes == 0 || config.max_file_bytes == 0 || config.max_ratio == 0 {
            return wrong(
                "`page_bytes`, `max_file_bytes` and `max_ratio` must be over 0".to_owned(),
            );
        }
        if config.poll_seconds == 0 {
            return wrong("`poll_seconds` must be at least 1".to_owned());
        }
        if let Some(key) = config.columns.keys().find(|key| !reports::KEYS.contains(&key.as_str()))
        {
            let known = reports::KEYS.join(", ");
            return wrong(format!("`columns` has {key:?}, expected one of: {known}"));
        }
        if !config.columns.is_empty()
            && !matches!(config.content, Content::Auto | Content::Submissions)
        {
            return wrong("`columns` is for content = \"submissions\" only".to_owned());
        }
        let named = config.table.as_deref().is_some_and(|table| !table.trim().is_empty());
        if config.table.is_some()
            && !(named
                && matches!(config.content, Content::Auto | Content::Rows | Content::Hunting))
        {
            return wrong("`table` names the table of \"rows\" or \"hunting\"".to_owned());
        }
        Ok(Self { name: name.into(), config: Arc::new(config), clock, reader: None })
    }

    /// Runs something blocking with the reader, off the runtime's threads.
    async fn blocking<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Reader) -> Result<T, AdapterError> + Send + 'static,
    ) -> Result<T, AdapterError> {
        let mut reader = self.reader.take().unwrap_or_else(|| {
            Box::new(Reader::new(
                Arc::clone(&self.name),
                Arc::clone(&self.config),
                Arc::clone(&self.clock),
            ))
        });
        let done = tokio::task::spawn_blocking(move || {
            let answer = work(&mut reader);
            (reader, answer)
        })
        .await;
        match done {
            Ok((reader, answer)) => {
                self.reader = Some(reader);
                answer
            }
            // It panicked or the runtime ends. The next call begins with a new reader, from the cursors.
            Err(cause) => Err(AdapterError::because(
                Failure::Retry(None),
                format!("the reader of {} stopped", self.name),
                cause,
            )),
        }
    }
}

#[async_trait]
impl Source for FileSource {
    fn name(&self) -> &str {
        &self.name
    }

    async fn poll(&mut self, cursors: &Cursors) -> Result<Page, AdapterError> {
        let cursors = cursors.clone();
        self.blocking(move |reader| reader.page(&cursors)).await
    }

    /// There is nobody to tell.
    async fn commit(&mut self, _: &Cursors) -> Result<(), AdapterError> {
        Ok(())
    }

    async fn probe(&mut self) -> Result<String, AdapterError> {
        self.blocking(|reader| reader.probe()).await
    }
}
