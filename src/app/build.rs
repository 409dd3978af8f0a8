//! The explicit lists: from a configured source or sink to the part that does the work. One arm per adapter.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::exit::Exit;
use crate::cloud::tenant::{TenantAccess, Workload};
use crate::config::{Config, SinkConfig, SourceConfig, Tenant};
use crate::domain::Ticks;
use crate::journal::{Clock, Embedded, Journal};
use crate::ledger::{Ledger, Reckoner, state};
use crate::normalize;
use crate::pipeline::deliver::SinkSettings;
use crate::pipeline::intake::{Intake, SourceSettings};
use crate::pipeline::metrics::Metrics;
use crate::pipeline::{AdapterError, Sink, Source, chain};
use crate::source::Tools;
use crate::source::hunting::HuntingClient;

/// How long a sink on hold waits before it probes again.
const HOLD_PROBE: Duration = Duration::from_secs(60);

/// What adapters may need from the process.
#[derive(Clone)]
pub struct Surroundings {
    /// The journal.
    pub journal: Arc<dyn Journal>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Each tenant's access.
    pub accesses: Accesses,
}

/// One access per tenant, shared by all of its sources: they have one token and one budget. A tenant whose
/// configuration changes gets a new one.
#[derive(Clone, Default)]
pub struct Accesses {
    made: Arc<Mutex<BTreeMap<String, TenantAccess>>>,
}

impl Accesses {
    /// The access of `tenant`.
    ///
    /// # Errors
    /// If its configuration is wrong in a way that only building it shows.
    pub fn of(
        &self,
        tenant: &Tenant,
        clock: &Arc<dyn Clock>,
    ) -> Result<TenantAccess, AdapterError> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(access) = made.get(&tenant.canonical) {
            return Ok(access.clone());
        }
        let access = TenantAccess::new(&tenant.config, Arc::clone(clock))?;
        made.retain(|_, other| other.tenant_id() != access.tenant_id());
        made.insert(tenant.canonical.clone(), access.clone());
        Ok(access)
    }

    /// When the tenants' credentials expire, where that is known. It may read files.
    #[must_use]
    pub fn credentials_expire(&self) -> Vec<(Arc<str>, Ticks)> {
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let accesses: Vec<TenantAccess> = made.values().cloned().collect();
        drop(made);
        let expires = |access: TenantAccess| {
            Some((Arc::clone(access.tenant_id()), access.credential_expires()?))
        };
        accesses.into_iter().filter_map(expires).collect()
    }
}

/// The source of a configuration.
///
/// # Errors
/// If the adapter refuses its configuration.
pub fn source(
    config: &SourceConfig,
    surroundings: &Surroundings,
) -> Result<Box<dyn Source>, AdapterError> {
    let tenant = surroundings.accesses.of(&config.tenant, &surroundings.clock)?;
    let tools = Tools { clock: Arc::clone(&surroundings.clock), tenant };
    crate::source::build(&config.name, config.kind.clone(), &tools)
}

/// The sink of a configuration.
///
/// # Errors
/// If the adapter refuses its configuration.
pub fn sink(
    config: &SinkConfig,
    surroundings: &Surroundings,
) -> Result<Box<dyn Sink>, AdapterError> {
    crate::sink::build(
        &config.name,
        config.kind.clone(),
        &surroundings.journal,
        &surroundings.clock,
    )
}

/// Opens the journal: takes the directory's lock and recovers what the last life left.
///
/// # Errors
/// The exit code that the failure means; the log says why.
pub async fn journal(
    config: &Config,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
) -> Result<Arc<dyn Journal>, Exit> {
    let (directory, settings) = (config.data_dir.clone(), config.journal.clone());
    let open = move || Embedded::open_measured(&directory, settings, clock, Some(metrics));
    match tokio::task::spawn_blocking(open).await {
        Ok(Ok(journal)) => Ok(Arc::new(journal)),
        Ok(Err(error)) => {
            tracing::error!("{}", chain(&error));
            Err(Exit::of_open(error.exit_code()))
        }
        Err(error) => {
            tracing::error!(error = %error, "opening the journal was cut off");
            Err(Exit::Defect)
        }
    }
}

/// What the pipeline has to know about a source.
#[must_use]
pub fn source_settings(config: &SourceConfig) -> SourceSettings {
    SourceSettings {
        name: config.name.as_str().into(),
        tenant: Arc::clone(&config.tenant.id),
        normal_lag_seconds: i64::try_from(config.normal_lag_seconds).unwrap_or(i64::MAX),
        size_cap: normalize::SIZE_CAP,
    }
}

/// What the pipeline has to know about a sink.
#[must_use]
pub fn sink_settings(config: &SinkConfig) -> SinkSettings {
    SinkSettings {
        name: config.name.as_str().into(),
        filter: config.filter.clone(),
        start: config.start,
        on_full: config.on_full,
        hold_probe: HOLD_PROBE,
    }
}

/// The ledger of a configuration; `None` where it is switched off, or no tenant has anybody who could count.
///
/// # Errors
/// If a tenant's access cannot be built.
pub fn ledger(
    config: &Config,
    surroundings: &Surroundings,
    intake: &Intake,
) -> Result<Option<Ledger>, AdapterError> {
    if config.ledger.enabled == Some(false) {
        return Ok(None);
    }
    let mut reckoners: BTreeMap<String, Arc<dyn Reckoner>> = BTreeMap::new();
    let mut names = BTreeMap::new();
    for (name, tenant) in &config.tenants {
        names.insert(tenant.id.to_string(), name.clone());
        if tenant.config.credential.is_none() || tenant.config.lacks(Workload::Hunting).is_some() {
            continue;
        }
        let access = surroundings.accesses.of(tenant, &surroundings.clock)?;
        let client = HuntingClient::new(access, Arc::clone(&surroundings.clock));
        reckoners.insert(tenant.id.to_string(), Arc::new(client));
    }
    if reckoners.is_empty() && config.ledger.enabled.is_none() {
        return Ok(None);
    }
    Ok(Some(Ledger {
        config: config.ledger.clone(),
        journal: Arc::clone(&surroundings.journal),
        clock: Arc::clone(&surroundings.clock),
        metrics: Arc::clone(&intake.metrics),
        status: intake.status.clone(),
        reckoners,
        names,
        refill: Arc::new(intake.clone()),
        file: state::path_in(&config.data_dir),
    }))
}
