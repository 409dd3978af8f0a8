//! The demo's other transports: the simulated cloud beside the hubs, the sources that read it, and what must
//! have arrived over them.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::Context as _;

use crate::journal::Clock;
use crate::simulator::cloud::{AppConfig, Cloud, CloudConfig, Script};
use crate::simulator::feed::Beside;
use crate::simulator::random::Random;
use crate::simulator::truth::Truth;

/// The script of the demo's faults: now and then each far end has a bad moment.
const FAULTS: &str = include_str!("faults.toml");

/// The cloud's files in the demo's folder.
const AUTHORITY: &str = "cloud-ca.pem";
const SECRET: &str = "cloud.secret";

/// Of a thousand mails, how many the hubs never get: only another transport brings them.
const WITHHELD_PER_MILLE: u64 = 20;

/// A transport beside the hubs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transport {
    /// The source's type, and its name in the demo.
    pub source: &'static str,
    /// The kind of thing that it alone brings; none where it brings rows.
    pub thing: Option<&'static str>,
    keys: &'static str,
}

/// All that Postern has a source for.
pub fn transports() -> impl Iterator<Item = &'static Transport> {
    TRANSPORTS.iter().filter(|transport| crate::source::TYPES.contains(&transport.source))
}

const TRANSPORTS: [Transport; 5] = [
    Transport { source: "incidents", thing: Some("incident"), keys: "poll_seconds = 1\n" },
    Transport { source: "alerts", thing: Some("alert"), keys: "poll_seconds = 1\n" },
    Transport {
        source: "hunting",
        thing: None,
        keys: "interval_seconds = 2\nsettle_seconds = 1\noverlap_seconds = 5\nstart_hours_back = 1\n",
    },
    Transport { source: "activity", thing: Some("activity"), keys: "poll_seconds = 1\n" },
    Transport {
        source: "storage",
        thing: None,
        keys: "auth = \"tenant\"\npoll_seconds = 1\ntables = [\"EmailEvents\", \"EmailPostDeliveryEvents\", \"EmailUrlInfo\", \
               \"EmailAttachmentInfo\", \"UrlClickEvents\", \"AlertInfo\", \"AlertEvidence\", \"CampaignInfo\"]\n",
    },
];

/// Starts the cloud, with its files in `folder`.
pub async fn start(
    folder: &Path,
    seed: u64,
    random: &mut Random,
    clock: Arc<dyn Clock>,
    truth: Arc<Mutex<Truth>>,
) -> anyhow::Result<Cloud> {
    let app = AppConfig::with_secret(&random.hex(40));
    let faults = Script::read(FAULTS).map_err(anyhow::Error::msg)?;
    let config =
        CloudConfig { seed, app, faults: Script { seed, ..faults }, ..CloudConfig::default() };
    let cloud = Cloud::start(config, clock, Some(truth)).await?;
    let secret = &cloud.world().config().app.secret;
    super::scene::write_private(&folder.join(SECRET), secret.as_bytes())?;
    let authority = folder.join(AUTHORITY);
    fs::write(&authority, cloud.authority())
        .with_context(|| format!("cannot write {}", authority.display()))?;
    Ok(cloud)
}

/// The part of the tenant's section that leads to the cloud.
pub fn tenant(cloud: &Cloud, folder: &Path) -> String {
    if transports().next().is_none() {
        return "\n".to_owned();
    }
    let quoted = |name: &str| format!("{:?}", folder.join(name).display().to_string());
    let origin = cloud.origin();
    format!(
        "credential = {{ client_secret = {{ client_id = \"{client}\", secret = {{ file = {secret} }} }} }}\n\
         endpoints = {{ authority = \"{origin}\", graph = \"{origin}\", activity = \"{origin}\" }}\n\
         http = {{ ca_file = {authority} }}\n\
         budgets = {{ graph_per_minute = 6000, hunting_per_minute = 6000, activity_per_minute = 6000 }}\n\n",
        client = cloud.world().config().app.client_id,
        secret = quoted(SECRET),
        authority = quoted(AUTHORITY),
    )
}

/// The sources' sections.
pub fn sources(cloud: &Cloud) -> String {
    let section = |transport: &Transport| {
        let Transport { source, keys, .. } = transport;
        let account = match *source {
            "storage" => format!("account = \"{}\"\n", cloud.account()),
            _ => String::new(),
        };
        format!("[source.{source}]\ntype = \"{source}\"\ntenant = \"contoso\"\n{account}{keys}\n")
    };
    transports().map(section).collect()
}

/// Hands each record to the cloud, and keeps some from the hubs.
pub fn beside(cloud: &Cloud) -> Beside {
    let world = Arc::clone(cloud.world());
    // Storage has every table, so nothing is lost by it.
    let is_elsewhere = transports().any(|transport| transport.source == "storage");
    let withheld = if is_elsewhere { WITHHELD_PER_MILLE } else { 0 };
    Arc::new(move |record| {
        world.store().take(record);
        record.lane % 1000 >= withheld
    })
}
