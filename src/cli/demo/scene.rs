//! What the demo sets up around Postern: a folder, a secret, the hubs, the ticket system, and the
//! configuration that a user would write for them.

use std::fs::{self, DirBuilder};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, bail};

use crate::journal::Clock;
use crate::simulator::broker::Broker;
use crate::simulator::cloud::Cloud;
use crate::simulator::envelope::Hubs;
use crate::simulator::random::Random;
use crate::simulator::tenant::DEMO_TENANT;
use crate::simulator::truth::Truth;

use super::beside;
use super::receiver::Receiver;

/// Partitions of each hub.
pub const PARTITIONS: i32 = 2;
/// Names in the demo's configuration.
pub const SOURCE: &str = "hubs";
/// The file sink.
pub const FILE_SINK: &str = "siem";
/// The ticket sink.
pub const TICKET_SINK: &str = "tickets";

/// The demo's folder.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    removed_at_end: bool,
}

impl Folder {
    /// The folder that the user named, which must be new or empty, or a new one that goes away at the end.
    pub fn open(named: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = named else { return Self::temporary() };
        match fs::read_dir(path) {
            Ok(mut entries) => {
                if entries.next().is_some() {
                    bail!(
                        "{} is not empty; the demo compares what arrives with what its tenant sends, so it \
                         needs a folder of its own",
                        path.display()
                    );
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                private(path).with_context(|| format!("cannot make {}", path.display()))?;
            }
            Err(error) => bail!("cannot read {}: {error}", path.display()),
        }
        let path =
            path.canonicalize().with_context(|| format!("cannot find {}", path.display()))?;
        Ok(Self { path, removed_at_end: false })
    }

    fn temporary() -> anyhow::Result<Self> {
        let parent = std::env::temp_dir();
        for attempt in 0..100 {
            let path = parent.join(format!("postern-demo-{}-{attempt}", std::process::id()));
            match private(&path) {
                Ok(()) => return Ok(Self { path, removed_at_end: true }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => bail!("cannot make {}: {error}", path.display()),
            }
        }
        bail!("cannot make a folder in {}", parent.display())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it goes away at the end.
    pub const fn is_removed_at_end(&self) -> bool {
        self.removed_at_end
    }

    /// Keeps it: something in it is worth a look.
    pub const fn keep(&mut self) {
        self.removed_at_end = false;
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.removed_at_end
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            eprintln!("cannot remove {}: {error}", self.path.display());
        }
    }
}

fn private(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

/// Writes a new file that nobody else may read.
pub fn write_private(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(content))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Everything around Postern, running.
pub struct Scene {
    /// The hubs' broker.
    pub broker: Broker,
    /// The hubs' names.
    pub hubs: Hubs,
    /// The cloud beside the hubs.
    pub cloud: Cloud,
    /// The ticket system.
    pub receiver: Receiver,
    /// The configuration's text.
    pub config: String,
    /// Its file.
    pub config_file: PathBuf,
}

impl Scene {
    /// Starts it in `folder`.
    pub async fn start(
        folder: &Path,
        seed: u64,
        random: &mut Random,
        clock: Arc<dyn Clock>,
        truth: Arc<Mutex<Truth>>,
    ) -> anyhow::Result<Self> {
        let hubs = Hubs::PerTable { prefix: String::new() };
        let broker = Broker::start(&hubs.all(), PARTITIONS)?;
        // Hex digits are base64 digits too; 48 of them make 36 bytes.
        let secret = format!("whsec_{}", random.hex(48));
        let secret_file = folder.join("webhook.secret");
        write_private(&secret_file, secret.as_bytes())?;
        let receiver =
            Receiver::start(&secret).await.context("cannot start the demo's ticket system")?;
        let cloud = beside::start(folder, seed, random, clock, truth).await?;
        let config =
            config(folder, broker.bootstrap(), &hubs, &cloud, &receiver.url(), &secret_file);
        let config_file = folder.join("postern.toml");
        fs::write(&config_file, &config)
            .with_context(|| format!("cannot write {}", config_file.display()))?;
        Ok(Self { broker, hubs, cloud, receiver, config, config_file })
    }
}

fn config(
    folder: &Path,
    bootstrap: &str,
    hubs: &Hubs,
    cloud: &Cloud,
    url: &str,
    secret: &Path,
) -> String {
    let quoted = |path: &Path| format!("{:?}", path.display().to_string());
    let hubs: Vec<String> = hubs.all().iter().map(|hub| format!("    {hub:?},\n")).collect();
    format!(
        "# What `postern demo` ran with. The broker, the cloud and the ticket system ended with it.\n\
         data_dir = {journal}\n\
         \n\
         [ops]\n\
         listen = \"127.0.0.1:0\"\n\
         \n\
         [tenant.contoso]\n\
         id = \"{DEMO_TENANT}\"\n\
         {tenant}\
         [source.{SOURCE}]\n\
         type = \"event_hubs\"\n\
         tenant = \"contoso\"\n\
         bootstrap = \"{bootstrap}\"\n\
         auth = \"none\"\n\
         hubs = [\n{hubs}]\n\
         \n\
         {sources}\
         [sink.{FILE_SINK}]\n\
         type = \"file\"\n\
         format = \"native\"\n\
         start = \"beginning\"\n\
         directory = {events}\n\
         \n\
         [sink.{TICKET_SINK}]\n\
         type = \"ticket\"\n\
         start = \"beginning\"\n\
         filter = {{ tags = [\"allowed.hc_phish\"], kinds = [\"email\"] }}\n\
         far_end = {{ webhook = {{ url = \"{url}\", secrets = [{{ file = {secret} }}] }} }}\n",
        journal = quoted(&folder.join("journal")),
        events = quoted(&folder.join("events")),
        secret = quoted(secret),
        hubs = hubs.concat(),
        tenant = beside::tenant(cloud, folder),
        sources = beside::sources(cloud),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_our_own_goes_away_unless_it_is_kept() {
        let folder = Folder::open(None).unwrap();
        let path = folder.path().to_owned();
        fs::write(path.join("x"), "x").unwrap();
        drop(folder);
        assert!(!path.exists());

        let mut folder = Folder::open(None).unwrap();
        let path = folder.path().to_owned();
        folder.keep();
        drop(folder);
        assert!(path.exists());
        fs::remove_dir(path).unwrap();
    }

    #[test]
    fn a_folder_with_something_in_it_is_refused_and_an_empty_one_is_kept() {
        let parent = tempfile::tempdir().unwrap();
        let named = parent.path().join("demo");
        drop(Folder::open(Some(&named)).unwrap());
        assert!(named.exists());
        drop(Folder::open(Some(&named)).unwrap());
        fs::write(named.join("journal"), "").unwrap();
        let error = Folder::open(Some(&named)).unwrap_err().to_string();
        assert!(error.contains("is not empty"), "{error}");
    }
}
