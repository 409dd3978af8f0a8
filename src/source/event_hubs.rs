//! The Streaming API over Event Hubs, read through their Kafka endpoint (or from any Kafka). It hands over
//! whole messages; cutting them into records is `normalize`'s business.
//!
//! Guarantee: every message of every partition is handed over in order, from our own cursors, at least once
//! after a crash and once otherwise. What the hub no longer has becomes a gap with exact ends; a topic that was
//! created anew is noticed and read from its beginning (see [`lineage`]). The one case that cannot be seen is a
//! cluster without topic ids on which a topic is created anew *while we are connected* and grows past our
//! offset before the next look at its watermarks (every [`WATERMARKS_EVERY`]).

mod context;
pub mod lineage;
mod partitions;
mod reader;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;

use crate::cloud::kafka::{Access, Auth, TenantTokens, TokenProvider};
use crate::cloud::tenant::TenantAccess;
use crate::domain::{Cursors, Failure};
use crate::journal::Clock;
use crate::pipeline::port::{AdapterError, Page, Source};

use reader::Reader;
pub use reader::WATERMARKS_EVERY;

/// Where a partition without a cursor begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// With the oldest message there is.
    #[default]
    Beginning,
    /// With the next message that is written. Partitions that appear later still begin at their beginning.
    Now,
}

/// `[source.<name>] type = "event_hubs"`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventHubsConfig {
    /// `<namespace>.servicebus.windows.net:9093`, or brokers of any Kafka with commas. Default: the namespace
    /// in the connection string.
    #[serde(default)]
    pub bootstrap: Option<String>,
    /// The hubs (topics) to read: one that holds all tables, or one per table (Defender then names them
    /// `insights-logs-advancedhunting-<table>`). A hub that does not exist yet is looked for again every
    /// minute, as Defender creates it with its first event; only if none exists the source is held.
    pub hubs: Vec<String>,
    /// How to log in: `{ connection_string = { file = "…" } }`, `{ token = { file = "…" } }`,
    /// `{ plain = { user = "…", password = { file = "…" } } }`, `scram_sha256`, `scram_sha512`, or `"none"`.
    #[serde(default)]
    pub auth: Auth,
    /// Whether to encrypt. Default: yes, unless `auth = "none"`; a login is never sent unencrypted.
    #[serde(default)]
    pub tls: Option<bool>,
    /// The authority that signed the brokers' certificates (PEM file). Default: the system's list.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Our certificate, where brokers ask for one (PEM file).
    #[serde(default)]
    pub client_certificate_file: Option<PathBuf>,
    /// Its key (PEM file).
    #[serde(default)]
    pub client_key_file: Option<PathBuf>,
    /// The Kafka consumer group under which offsets are shown to other tools. Groups span a namespace, so it
    /// must be nobody else's. Default: `postern-<source name>`.
    #[serde(default)]
    pub group: Option<String>,
    /// Whether to store offsets in that group, at most once a second, for lag monitors. Nothing is ever read
    /// back from there. Default: true.
    #[serde(default = "yes")]
    pub commit_group_offsets: bool,
    /// Where a partition without a cursor begins: `beginning` (default, so that nothing is lost at the first
    /// start) or `now`.
    #[serde(default)]
    pub start: Start,
    /// Most bytes in a page. Larger pages make larger journal frames, at this much memory. Default: 2 MiB.
    #[serde(default = "default_page_bytes")]
    pub page_bytes: usize,
    /// Most bytes that are fetched ahead, which bounds memory. Default: 16 MiB.
    #[serde(default = "default_fetch_ahead_bytes")]
    pub fetch_ahead_bytes: usize,
    /// After how many seconds without any message, though the hub has some, the connection is made anew.
    /// Default: 60.
    #[serde(default = "default_stall_seconds")]
    pub stall_seconds: u64,
}

const fn yes() -> bool {
    true
}

const fn default_page_bytes() -> usize {
    2 << 20
}

const fn default_fetch_ahead_bytes() -> usize {
    16 << 20
}

const fn default_stall_seconds() -> u64 {
    60
}

impl EventHubsConfig {
    /// For brokers that need no login: what a test or the demo wants.
    #[must_use]
    pub fn plain(bootstrap: &str, hubs: &[&str]) -> Self {
        Self {
            bootstrap: Some(bootstrap.to_owned()),
            hubs: hubs.iter().map(|hub| (*hub).to_owned()).collect(),
            auth: Auth::None,
            tls: None,
            ca_file: None,
            client_certificate_file: None,
            client_key_file: None,
            group: None,
            commit_group_offsets: true,
            start: Start::Beginning,
            page_bytes: default_page_bytes(),
            fetch_ahead_bytes: default_fetch_ahead_bytes(),
            stall_seconds: default_stall_seconds(),
        }
    }

    /// Address and login.
    #[must_use]
    pub fn access(&self) -> Access {
        Access {
            bootstrap: self.bootstrap.clone(),
            auth: self.auth.clone(),
            tls: self.tls,
            ca_file: self.ca_file.clone(),
            client_certificate_file: self.client_certificate_file.clone(),
            client_key_file: self.client_key_file.clone(),
        }
    }
}

/// See the module.
pub struct EventHubs {
    name: Arc<str>,
    config: Arc<EventHubsConfig>,
    clock: Arc<dyn Clock>,
    /// Where tokens come from, where the tenant's own credential logs in.
    tokens: Option<Arc<dyn TokenProvider>>,
    /// Away while a blocking thread reads with it.
    reader: Option<Box<Reader>>,
    committed: Option<Duration>,
}

/// How often the group's offsets are stored at most: Event Hubs allow four times a second and partition.
const COMMIT_EVERY: Duration = Duration::from_secs(1);

impl EventHubs {
    /// Checks the settings; connects to nothing.
    ///
    /// # Errors
    /// [`Failure::Hold`] with the setting that is wrong.
    pub fn new(
        name: &str,
        config: EventHubsConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, AdapterError> {
        let wrong = |message: &str| AdapterError::new(Failure::Hold, message);
        config.access().check()?;
        if config.hubs.is_empty() {
            return Err(wrong("`hubs` is empty: name the hubs to read"));
        }
        if config.page_bytes == 0 || config.fetch_ahead_bytes < 64 << 10 {
            return Err(wrong(
                "`page_bytes` must be over 0 and `fetch_ahead_bytes` at least 65536",
            ));
        }
        Ok(Self {
            name: name.into(),
            config: Arc::new(config),
            clock,
            tokens: None,
            reader: None,
            committed: None,
        })
    }

    /// With the tenant whose credential logs in where `auth` says so.
    #[must_use]
    pub fn with_tenant(mut self, access: TenantAccess) -> Self {
        if self.config.auth == Auth::Tenant {
            let (scope, clock) = (self.config.access().scope(), Arc::clone(&self.clock));
            self.tokens = Some(Arc::new(TenantTokens { access, scope, clock }));
        }
        self
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
                self.tokens.clone(),
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
impl Source for EventHubs {
    fn name(&self) -> &str {
        &self.name
    }

    async fn poll(&mut self, cursors: &Cursors) -> Result<Page, AdapterError> {
        let cursors = cursors.clone();
        self.blocking(move |reader| reader.page(&cursors)).await
    }

    async fn commit(&mut self, cursors: &Cursors) -> Result<(), AdapterError> {
        let now = self.clock.monotonic();
        let soon = self.committed.is_some_and(|last| now.saturating_sub(last) < COMMIT_EVERY);
        if !self.config.commit_group_offsets || soon {
            return Ok(());
        }
        self.committed = Some(now);
        // Only queues a request.
        self.reader.as_ref().map_or(Ok(()), |reader| reader.commit(cursors))
    }

    async fn probe(&mut self) -> Result<String, AdapterError> {
        self.blocking(Reader::probe).await
    }
}
