//! `postern simulate`: the simulated cloud alone, over TLS on loopback, for anybody's collector. It starts the
//! model tenant behind the APIs, says how to reach them, and sums up at the end. Postern itself has no part in it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, anyhow};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::app::Exit;
use crate::journal::{Clock as _, SystemClock};
use crate::simulator::cloud::{AppConfig, Cloud, CloudConfig, Script, World, drive};
use crate::simulator::envelope::TABLES;
use crate::simulator::kql::Table;
use crate::simulator::random::Random;
use crate::simulator::tenant::Settings;
use crate::simulator::truth::Truth;

/// Run a simulated Microsoft cloud over TLS, for any collector: Entra tokens, Graph, Activity API, Blob storage
///
/// A model tenant gets mail, and its records become visible as Microsoft shows them: incidents and alerts that
/// change and merge, hunting tables, audit content, hour blobs that grow. It listens on 127.0.0.1 only, with a
/// certificate authority of its own that is written to a file, and prints what a collector needs. Ctrl-C ends it.
#[derive(Debug, clap::Args)]
pub struct SimulateArgs {
    /// The port of 127.0.0.1 to listen on; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    port: u16,
    /// Which tenant: the same number gives the same mail
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Mails per second, 0.1 to 10000; each makes five or six records
    #[arg(long, value_name = "R", default_value_t = 2.0, value_parser = super::demo::rate)]
    mails_per_second: f64,
    /// How much faster than in life records become visible and alerts change; 1 is Microsoft's own pace
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    haste: u32,
    /// Seconds of mail that have passed at the start
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    past: u64,
    /// How the cloud misbehaves: a script of faults (TOML)
    #[arg(long, value_name = "FILE")]
    faults: Option<PathBuf>,
    /// Write everything that becomes visible, with its time, to this file (NDJSON)
    #[arg(long, value_name = "FILE")]
    truth: Option<PathBuf>,
    /// Where to write the certificate authority (PEM) [default: a file among the temporary ones]
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// The client secret that works [default: a new one]
    #[arg(long, value_name = "TEXT")]
    secret: Option<String>,
    /// A permission that is granted; may be given several times [default: all that the APIs need]
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// Give the storage account a hierarchical namespace
    #[arg(long)]
    hierarchical: bool,
}

/// `postern simulate`.
#[must_use]
pub fn run(arguments: &SimulateArgs) -> Exit {
    let script = match script(arguments.faults.as_deref()) {
        Ok(script) => script,
        Err(error) => {
            eprintln!("{error:#}");
            return Exit::Usage;
        }
    };
    let simulated = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the threads")
        .and_then(|runtime| runtime.block_on(simulate(arguments, script)));
    match simulated {
        Ok(()) => Exit::Ok,
        Err(error) => {
            eprintln!("the simulated cloud could not be run: {error:#}");
            Exit::Usage
        }
    }
}

fn script(file: Option<&Path>) -> anyhow::Result<Script> {
    let Some(file) = file else { return Ok(Script::default()) };
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    Script::read(&text).map_err(|why| anyhow!("{} is no script of faults: {why}", file.display()))
}

async fn simulate(arguments: &SimulateArgs, faults: Script) -> anyhow::Result<()> {
    let clock = Arc::new(SystemClock::default());
    let unforeseen = clock.now().0.unsigned_abs() ^ u64::from(std::process::id()).rotate_left(32);
    let secret = arguments.secret.clone().unwrap_or_else(|| Random::new(unforeseen).hex(40));
    let mut app = AppConfig::with_secret(&secret);
    if !arguments.roles.is_empty() {
        app.roles.clone_from(&arguments.roles);
    }
    let truth = match &arguments.truth {
        Some(file) => {
            let truth =
                Truth::create(file).with_context(|| format!("cannot write {}", file.display()))?;
            Some(Arc::new(Mutex::new(truth)))
        }
        None => None,
    };
    let config = CloudConfig {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, arguments.port)),
        seed: arguments.seed,
        haste: arguments.haste,
        app,
        hierarchical: arguments.hierarchical,
        faults,
        ..CloudConfig::default()
    };
    let settings = Settings {
        seed: arguments.seed,
        mails_per_second: arguments.mails_per_second,
        haste: arguments.haste,
        ..Settings::default()
    };
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen to signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen to signals")?;
    let cloud = Cloud::start(config, clock, truth.clone()).await?;
    let authority = Authority::write(arguments.ca_file.as_deref(), cloud.authority())?;
    let (stop, stopped) = watch::channel(false);
    let living = tokio::spawn(drive(Arc::clone(cloud.world()), settings, arguments.past, stopped));
    println!("{}", introduction(&cloud, &authority.path, arguments));
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    stop.send_replace(true);
    let mails = living.await.context("the tenant broke off")?;
    if let Some(truth) = &truth {
        let mut truth = truth.lock().unwrap_or_else(PoisonError::into_inner);
        truth.finish().context("cannot write the truth file")?;
    }
    println!("{}", summary(cloud.world(), mails));
    Ok(())
}

/// The authority's file; one of our own goes away at the end.
struct Authority {
    path: PathBuf,
    is_ours: bool,
}

impl Authority {
    fn write(named: Option<&Path>, pem: &str) -> anyhow::Result<Self> {
        let path = named.map_or_else(
            || std::env::temp_dir().join(format!("postern-simulate-{}.pem", std::process::id())),
            Path::to_path_buf,
        );
        fs::write(&path, pem).with_context(|| format!("cannot write {}", path.display()))?;
        let path = path.canonicalize().unwrap_or(path);
        Ok(Self { path, is_ours: named.is_none() })
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        if self.is_ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn introduction(cloud: &Cloud, authority: &Path, arguments: &SimulateArgs) -> String {
    let config = cloud.world().config();
    let (origin, account, tenant) = (cloud.origin(), cloud.account(), &config.tenant_id);
    let (client, secret) = (&config.app.client_id, &config.app.secret);
    let (authority, signature) = (authority.display(), &config.app.sas_signature);
    let faults = config.faults.faults.len();
    format!(
        "Simulated cloud: seed {}, {} mails/s, {} times as fast as in life, {faults} faults in its script\n\
         \n\
         tenant id        {tenant}\n\
         client id        {client}\n\
         client secret    {secret}\n\
         CA file          {authority}\n\
         token endpoint   {origin}/{tenant}/oauth2/v2.0/token\n\
         Graph            {origin}\n\
         Activity API     {origin}\n\
         storage account  {account}\n\
         SAS              sig={signature}\n\
         \n\
         For Postern:\n\
         \n\
         [tenant.simulated]\n\
         id = \"{tenant}\"\n\
         credential = {{ client_secret = {{ client_id = \"{client}\", secret = {{ env = \"SIMULATED_SECRET\" }} }} }}\n\
         endpoints = {{ authority = \"{origin}\", graph = \"{origin}\", activity = \"{origin}\" }}\n\
         http = {{ ca_file = \"{authority}\" }}\n\
         \n\
         Ctrl-C to stop",
        arguments.seed, arguments.mails_per_second, arguments.haste,
    )
}

fn summary(world: &World, mails: u64) -> String {
    let store = world.store();
    let tables = TABLES.iter().filter_map(|table| store.tables.get(table));
    let rows: usize = tables.map(Table::len).sum();
    let records: usize = store.feeds.blobs.iter().map(|blob| blob.records.len()).sum();
    let mut lines = vec![
        String::new(),
        format!("{mails} mails; {rows} rows to hunt for"),
        format!(
            "{} alerts, {} incidents, {records} audit records in {} blobs",
            store.cases.alerts.len(),
            store.cases.incidents.len(),
            store.feeds.blobs.len(),
        ),
        "Requests:".to_owned(),
    ];
    for ((route, status), count) in world.counts() {
        let status = if status == 0 { "cut off".to_owned() } else { status.to_string() };
        lines.push(format!("  {:<24} {status:>7} {count:>9}", route.as_str()));
    }
    let struck: Vec<String> = world
        .struck()
        .into_iter()
        .map(|(kind, times)| format!("  {kind:?} {times} times"))
        .collect();
    if !struck.is_empty() {
        lines.push("Faults:".to_owned());
        lines.extend(struck);
    }
    lines.join("\n")
}
