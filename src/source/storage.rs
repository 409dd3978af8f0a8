//! The Streaming API over a storage account: append blobs, one an hour and table, that grow while they are read and
//! hours later. It knows blobs, bytes and lines; what a record means is `normalize`'s business.
//!
//! Guarantee: every whole line of every blob that is within the look-back is handed over at least once after a crash
//! and once otherwise. The cursor is the byte offset per blob, never a time. Bytes are read up to the length that
//! the listing named and no further than the last line break; half a line waits. A blob that shrank or holds other
//! bytes before the offset is read from its beginning (what was seen is recognised downstream). A blob that is
//! deleted before it was read becomes a gap. Nothing is ever deleted or written there.
//!
//! Every look lists the days of the look-back only, and all days since the last look that was completed, so an outage
//! of any length is caught up with. A container that does not exist has nothing yet: Defender makes it with its first
//! record.

mod door;
mod look;
mod read;
mod sas;
mod shelf;
mod trouble;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use azure_storage_blob::BlobContainerClient;
use serde::Deserialize;

use crate::cloud::secret::Secret;
use crate::cloud::tenant::TenantAccess;
use crate::domain::{Cursor, CursorKey, Cursors, Failure, Table};
use crate::journal::Clock;
use crate::pipeline::port::{AdapterError, Page, Source};

use door::Door;
use look::Work;
use read::Reading;
use shelf::Shelf;

/// Least days of the look-back: hours grow long after they have passed.
const LEAST_LOOKBACK_DAYS: u32 = 2;

/// How to log in to the account.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum StorageAuth {
    /// A token of the tenant's credential, which needs the role Storage Blob Data Reader on the account.
    Tenant,
    /// A key of the account. From it Postern makes signatures for reading and listing that last an hour.
    AccountKey(Secret),
    /// A URL with a shared access signature (or its query alone) that allows reading and listing.
    SasUrl(Secret),
}

/// `[source.<name>] type = "storage"`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StorageConfig {
    /// The account's name, or the address of its blobs (`https://<account>.blob.core.windows.net`).
    pub account: String,
    /// How to log in: `"tenant"`, `{ account_key = SECRET }` or `{ sas_url = SECRET }`.
    pub auth: StorageAuth,
    /// Tables to read, each a container. Default: the seven of mail and alerts.
    #[serde(default = "default_tables")]
    pub tables: Vec<String>,
    /// What a container's name has before the table in lower case. Default: `insights-logs-advancedhunting-`.
    #[serde(default = "default_container_prefix")]
    pub container_prefix: String,
    /// What blob names have before the date. Default: `tenantId=<the tenant's id>/`, as Defender writes them.
    #[serde(default)]
    pub prefix: Option<String>,
    /// Days back that are looked at every time, at least 2. Default: 3.
    #[serde(default = "default_lookback_days")]
    pub lookback_days: u32,
    /// Seconds between looks; each costs a listing per table and day. Default: 120.
    #[serde(default = "default_poll_seconds")]
    pub poll_seconds: u64,
    /// Most bytes in a page. Default: 2 MiB.
    #[serde(default = "default_page_bytes")]
    pub page_bytes: usize,
}

fn default_tables() -> Vec<String> {
    Table::TYPED.iter().map(|table| table.name().to_owned()).collect()
}

fn default_container_prefix() -> String {
    "insights-logs-advancedhunting-".to_owned()
}

const fn default_lookback_days() -> u32 {
    3
}

const fn default_poll_seconds() -> u64 {
    120
}

const fn default_page_bytes() -> usize {
    2 << 20
}

impl StorageConfig {
    /// An account with every default.
    #[must_use]
    pub fn of(account: &str, auth: StorageAuth) -> Self {
        Self {
            account: account.to_owned(),
            auth,
            tables: default_tables(),
            container_prefix: default_container_prefix(),
            prefix: None,
            lookback_days: default_lookback_days(),
            poll_seconds: default_poll_seconds(),
            page_bytes: default_page_bytes(),
        }
    }
}

/// A container and what is known about its blobs.
struct Container {
    name: Arc<str>,
    client: BlobContainerClient,
    key: CursorKey,
    shelf: Shelf,
    changed: bool,
}

/// See the module.
pub struct Storage {
    name: Arc<str>,
    config: StorageConfig,
    /// What blob names have before the date.
    prefix: String,
    door: Arc<Door>,
    containers: Vec<Container>,
    /// Whether the shelves are those of the cursors.
    loaded: bool,
    work: VecDeque<Work>,
    backlog: u64,
    /// What was wrong since the last look, and what the log was told last.
    troubles: Vec<AdapterError>,
    told: Option<String>,
}

impl Storage {
    /// Checks the settings; connects to nothing.
    ///
    /// # Errors
    /// [`Failure::Hold`] with the setting that is wrong.
    pub fn new(
        name: &str,
        config: StorageConfig,
        tenant: &TenantAccess,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, AdapterError> {
        let wrong = |message: &str| AdapterError::new(Failure::Hold, message);
        if config.lookback_days < LEAST_LOOKBACK_DAYS {
            return Err(wrong(
                "`lookback_days` must be at least 2: hours grow after they have passed",
            ));
        }
        if config.poll_seconds == 0 || config.page_bytes == 0 || config.tables.is_empty() {
            return Err(wrong(
                "`poll_seconds` and `page_bytes` must be over 0, `tables` not empty",
            ));
        }
        let prefix = match &config.prefix {
            Some(prefix) => prefix.clone(),
            None => format!("tenantId={}/", tenant.tenant_id()),
        };
        let door = Arc::new(Door::new(&config, tenant, clock)?);
        let mut containers: Vec<Container> = Vec::new();
        for table in &config.tables {
            let container: Arc<str> =
                format!("{}{}", config.container_prefix, table.trim().to_ascii_lowercase()).into();
            if containers.iter().any(|known| known.name == container) {
                continue;
            }
            containers.push(Container {
                client: Door::container(&door, &container)?,
                key: format!("{name}/{container}").into(),
                name: container,
                shelf: Shelf::default(),
                changed: false,
            });
        }
        Ok(Self {
            name: name.into(),
            config,
            prefix,
            door,
            containers,
            loaded: false,
            work: VecDeque::new(),
            backlog: 0,
            troubles: Vec::new(),
            told: None,
        })
    }

    fn load(&mut self, cursors: &Cursors) {
        for container in &mut self.containers {
            container.changed = false;
            container.shelf = cursors.get(&container.key).map_or_else(Shelf::default, |cursor| {
                Shelf::read(cursor).unwrap_or_else(|error| {
                    tracing::warn!(key = &*container.key, %error, "a cursor cannot be read; its blobs are read again");
                    Shelf::default()
                })
            });
        }
        self.work.clear();
        self.loaded = true;
    }

    fn cursors(&mut self) -> Vec<(CursorKey, Cursor)> {
        let changed = self.containers.iter_mut().filter(|container| container.changed);
        changed
            .map(|container| {
                container.changed = false;
                (Arc::clone(&container.key), container.shelf.text().into())
            })
            .collect()
    }

    async fn fill(&mut self, page: &mut Page) -> Result<(), AdapterError> {
        let mut again = false;
        if self.work.is_empty() {
            self.look(page).await;
        }
        let mut bytes = 0;
        while bytes < self.config.page_bytes
            && let Some(mut work) = self.work.pop_front()
        {
            match self.read(&mut work).await {
                Ok(Reading::Chunk { chunk, more }) => {
                    bytes += chunk.raw.len();
                    page.chunks.push(chunk);
                    if more {
                        self.work.push_front(work);
                    }
                }
                Ok(Reading::Nothing { more }) => {
                    if more {
                        self.work.push_front(work);
                    }
                }
                Ok(Reading::Gone(gap)) => page.gaps.push(gap),
                Ok(Reading::Changed) => again = true,
                Err(error) => {
                    // Should it be the signature: the next one is made of the key as it is then.
                    self.door.forget_signature();
                    self.troubles.push(error);
                }
            }
        }
        page.cursors = self.cursors();
        page.backlog = Some(self.backlog);
        let poll = Duration::from_secs(self.config.poll_seconds);
        if self.work.is_empty() {
            // What changed under our hands is looked at again soon.
            page.pause = Some(if again { poll.min(Duration::from_secs(1)) } else { poll });
        }
        // Neighbours that could be read go first; a source that cannot read at all says so itself.
        if page.is_empty() && !self.troubles.is_empty() && self.work.is_empty() {
            let worst = self.troubles.iter().position(|trouble| trouble.failure == Failure::Hold);
            if self.troubles.len() >= self.containers.len() {
                return Err(self.troubles.swap_remove(worst.unwrap_or_default()));
            }
        }
        page.trouble = self.troubles.first().map(|trouble| crate::pipeline::chain(trouble));
        if page.trouble != self.told {
            if let Some(trouble) = &page.trouble {
                tracing::warn!(source = &*self.name, "{trouble}");
            }
            self.told.clone_from(&page.trouble);
        }
        Ok(())
    }
}

#[async_trait]
impl Source for Storage {
    fn name(&self) -> &str {
        &self.name
    }

    async fn poll(&mut self, cursors: &Cursors) -> Result<Page, AdapterError> {
        if !self.loaded {
            self.load(cursors);
        }
        // Should the page be lost on its way out of here, the cursors decide from where it goes on.
        self.loaded = false;
        let mut page = Page::default();
        self.fill(&mut page).await?;
        self.loaded = true;
        Ok(page)
    }

    /// There is nobody to tell.
    async fn commit(&mut self, _: &Cursors) -> Result<(), AdapterError> {
        Ok(())
    }

    async fn probe(&mut self) -> Result<String, AdapterError> {
        self.look_once().await
    }
}
