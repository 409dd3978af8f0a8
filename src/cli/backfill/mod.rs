//! `postern backfill`: fetches a time that has passed through hunting, into the journal. Here are the arguments,
//! what is asked for beforehand and the words; the way through the windows is in `job`, the estimate in
//! `estimate`.

mod estimate;
mod job;

use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};

use super::ConfigArgs;
use crate::app::Exit;
use crate::app::build::{Accesses, source_settings};
use crate::app::signals::Signals;
use crate::config::{Config, SourceConfig, SourceKind, Tenant};
use crate::domain::{Table, Ticks};
use crate::journal::{Clock, Embedded, Journal, SystemClock};
use crate::normalize;
use crate::pipeline::chain;
use crate::pipeline::intake::SourceSettings;
use crate::source::hunting::query::is_word;
use crate::source::hunting::{HuntingClient, Limits, Subject, TimeColumn};

use estimate::Estimate;
use job::{Job, Outcome, Total};

/// Fetch a time that has passed through advanced hunting, into the journal
///
/// Says first how many rows there are and what that costs of the tenant's hunting quota. What the journal has
/// already is recognised; the rest arrives marked as backfill and goes to the sinks with the next `postern run`.
/// The daemon has to be stopped meanwhile, since one process writes the journal. Stopped half-way (Ctrl-C, a quota
/// that is used up), the same call goes on where it was. Hunting keeps 30 days.
#[derive(Debug, clap::Args)]
pub struct BackfillArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The table; may be given several times
    #[arg(long = "table", value_name = "TABLE", required = true, value_parser = table)]
    tables: Vec<String>,
    /// First instant, of the rows' Timestamp: 2026-08-20 or 2026-08-20T09:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Ticks,
    /// First instant after the last [default: now]
    #[arg(long, value_name = "TIME", value_parser = time)]
    to: Option<Ticks>,
    /// The tenant, where there are several: the name in [tenant.<name>]
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// Only mail in which an override had a say (table EmailEvents): needs a fraction of the quota
    #[arg(long)]
    overrides_only: bool,
    /// Only say what it would take
    #[arg(long)]
    dry_run: bool,
    /// Under which source's name it arrives, with that source's settings [default: the tenant's hunting source]
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
}

fn table(text: &str) -> Result<String, String> {
    if is_word(text) {
        return Ok(Table::from_name(text).name().to_owned());
    }
    Err(format!("{text:?} is no table's name"))
}

fn time(text: &str) -> Result<Ticks, String> {
    Ticks::parse(text)
        .ok_or_else(|| format!("{text:?} is no time; write 2026-08-20 or 2026-08-20T09:00:00Z"))
}

/// `postern backfill`.
#[must_use]
pub fn run(arguments: &BackfillArgs) -> Exit {
    let config = match Config::load(&arguments.config.config) {
        Ok(config) => config,
        Err(errors) => {
            eprintln!("{errors}");
            return Exit::Usage;
        }
    };
    let order = match Order::new(arguments, &config) {
        Ok(order) => order,
        Err(error) => {
            eprintln!("{error:#}");
            return Exit::Usage;
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cannot start the threads: {error}");
            return Exit::Findings;
        }
    };
    runtime.block_on(fill(arguments, &config, &order))
}

/// What was ordered, in the configuration's terms.
struct Order {
    subjects: Vec<Subject>,
    settings: SourceSettings,
    limits: Limits,
    tenant: Arc<Tenant>,
}

impl Order {
    fn new(arguments: &BackfillArgs, config: &Config) -> anyhow::Result<Self> {
        if arguments.to.is_some_and(|to| to <= arguments.from) {
            bail!("--to is not after --from");
        }
        let subjects = arguments.tables.iter().map(|name| {
            let subject = Subject::of(Table::from_name(name), TimeColumn::timestamp());
            if !arguments.overrides_only {
                return Ok(subject);
            }
            subject.with_overrides_only().ok_or_else(|| {
                anyhow!("--overrides-only: {name} does not say what an override did, only EmailEvents does")
            })
        });
        let subjects = subjects.collect::<anyhow::Result<Vec<_>>>()?;
        if let Some(source) = found(arguments, config)? {
            let limits = match &source.kind {
                SourceKind::Hunting(hunting) => hunting.limits(),
                _ => Limits::default(),
            };
            let (settings, tenant) = (source_settings(source), Arc::clone(&source.tenant));
            return Ok(Self { subjects, settings, limits, tenant });
        }
        let tenant = only_tenant(arguments, config)?;
        let settings = SourceSettings {
            name: "backfill".into(),
            tenant: Arc::clone(&tenant.id),
            normal_lag_seconds: 90 * 60,
            size_cap: normalize::SIZE_CAP,
        };
        Ok(Self { subjects, settings, limits: Limits::default(), tenant })
    }
}

/// The source under whose name it arrives; `None` if the tenant has no hunting source.
fn found<'c>(
    arguments: &BackfillArgs,
    config: &'c Config,
) -> anyhow::Result<Option<&'c SourceConfig>> {
    let ours = |source: &&SourceConfig| match &arguments.tenant {
        None => true,
        Some(name) => config.tenants.get(name).is_some_and(|it| it.id == source.tenant.id),
    };
    if let Some(name) = &arguments.source {
        let named = config.sources.iter().filter(ours).find(|source| source.name == *name);
        return Ok(Some(named.with_context(|| {
            format!("--source: no source {name:?} is configured and switched on for this tenant")
        })?));
    }
    let hunting = |source: &&SourceConfig| matches!(source.kind, SourceKind::Hunting(_));
    let all: Vec<&SourceConfig> = config.sources.iter().filter(ours).filter(hunting).collect();
    match all.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        several => {
            let names: Vec<&str> = several.iter().map(|source| source.name.as_str()).collect();
            bail!(
                "there are several hunting sources: name one with --source ({})",
                names.join(", ")
            )
        }
    }
}

fn only_tenant(arguments: &BackfillArgs, config: &Config) -> anyhow::Result<Arc<Tenant>> {
    let names: Vec<&str> = config.tenants.keys().map(String::as_str).collect();
    let names = names.join(", ");
    if let Some(name) = &arguments.tenant {
        let tenant = config.tenants.get(name);
        return tenant
            .cloned()
            .with_context(|| format!("--tenant: found {name:?}, expected one of: {names}"));
    }
    let mut all = config.tenants.values();
    match (all.next(), all.next()) {
        (Some(only), None) => Ok(Arc::clone(only)),
        (None, _) => bail!("no tenant is configured: add [tenant.<name>] with a credential"),
        _ => bail!("there are several tenants: name one with --tenant ({names})"),
    }
}

async fn fill(arguments: &BackfillArgs, config: &Config, order: &Order) -> Exit {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let client = match Accesses::default().of(&order.tenant, &clock) {
        Ok(access) => HuntingClient::new(access, Arc::clone(&clock)),
        Err(error) => {
            eprintln!("{}", chain(&error));
            return Exit::Usage;
        }
    };
    // Before quota is spent on something that cannot be kept.
    let journal = match arguments.dry_run {
        true => None,
        false => match open(config, &clock).await {
            Ok(journal) => Some(journal),
            Err(exit) => return exit,
        },
    };
    let exit = with(arguments, order, &client, journal.as_ref(), &clock).await;
    let Some(journal) = journal else { return exit };
    match journal.close().await {
        Ok(()) => exit,
        Err(error) => {
            eprintln!("the journal could not be closed: {}", chain(&error));
            Exit::Disk
        }
    }
}

/// Takes the directory's lock. One process writes the journal.
async fn open(config: &Config, clock: &Arc<dyn Clock>) -> Result<Arc<dyn Journal>, Exit> {
    let (directory, settings) = (config.data_dir.clone(), config.journal.clone());
    let (place, clock) = (directory.display().to_string(), Arc::clone(clock));
    let open = move || Embedded::open(&directory, settings, clock);
    match tokio::task::spawn_blocking(open).await {
        Ok(Ok(journal)) => Ok(Arc::new(journal)),
        Ok(Err(error)) => {
            let exit = Exit::of_open(error.exit_code());
            eprintln!("{}", chain(&error));
            if exit == Exit::InUse {
                eprintln!(
                    "{place} is held by a running daemon: stop it (systemctl stop postern), backfill, start it again; --dry-run works beside it"
                );
            }
            Err(exit)
        }
        Err(error) => {
            eprintln!("opening the journal was cut off: {error}");
            Err(Exit::Defect)
        }
    }
}

async fn with(
    arguments: &BackfillArgs,
    order: &Order,
    client: &HuntingClient,
    journal: Option<&Arc<dyn Journal>>,
    clock: &Arc<dyn Clock>,
) -> Exit {
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => {
            eprintln!("cannot listen to signals: {error}");
            return Exit::Findings;
        }
    };
    let mut jobs = Vec::new();
    for subject in &order.subjects {
        let asked = tokio::select! {
            asked = Estimate::ask(client, subject, arguments.from, arguments.to, order.limits) => asked,
            () = signals.next_stop() => return stopped(),
        };
        match asked {
            Ok(estimate) => {
                eprintln!("{estimate}");
                jobs.push((subject.clone(), estimate));
            }
            Err(error) => {
                eprintln!("{}", chain(&error));
                return Exit::Findings;
            }
        }
    }
    let Some(journal) = journal else { return Exit::Ok };
    let mut rejected = 0;
    for (subject, estimate) in jobs {
        let name = subject.table.name().to_owned();
        let job = Job::new(client, journal, &order.settings, clock, order.limits);
        let (total, outcome) = match job {
            Ok(job) => job.run(arguments, &subject, &estimate, &mut signals).await,
            Err(error) => {
                eprintln!("{error:#}");
                return Exit::Defect;
            }
        };
        println!("{name}: {total}");
        rejected += total.dead_lettered;
        match outcome {
            Outcome::Done => {}
            Outcome::Stopped => return stopped(),
            Outcome::GaveUp(why) => {
                eprintln!("{name}: {why}");
                eprintln!("the same call goes on from there");
                return Exit::Findings;
            }
            Outcome::Journal(why) => {
                eprintln!("{why}");
                return Exit::Disk;
            }
        }
    }
    if rejected > 0 { Exit::Findings } else { Exit::Ok }
}

fn stopped() -> Exit {
    eprintln!("stopped: the same call goes on from there");
    Exit::Findings
}

impl std::fmt::Display for Total {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} rows read, {} new, {} known already, {} dead letters, {} queries",
            self.rows,
            self.new,
            self.rows.saturating_sub(self.new + self.dead_lettered),
            self.dead_lettered,
            self.queries
        )
    }
}
