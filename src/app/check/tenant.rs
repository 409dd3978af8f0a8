//! What `check` says about tenants: whether a token can be had, what is in it against what the sources need, whether
//! the APIs can be reached, and whether the clocks agree. It changes nothing.

use super::Trouble;
use super::finding::List;
use crate::app::build::Surroundings;
use crate::cloud::http::HttpError;
use crate::cloud::identity::Token;
use crate::cloud::tenant::{Credential, Need, TenantAccess, Workload};
use crate::config::{Config, SourceConfig, Tenant};
use crate::domain::{Failure, Ticks};
use crate::journal::Clock;
use crate::pipeline::chain;

/// Clocks that differ by more than this many seconds make assertions and signatures fail, sooner or later.
const SKEW_BAD: i64 = 300;
/// And by more than this much are worth a look.
const SKEW_ODD: i64 = 30;
/// So many days before a credential expires there is advice.
const EXPIRES_SOON_DAYS: i64 = 30;

/// Looks at every tenant that has a credential or sources that need one.
pub(super) async fn all(config: &Config, surroundings: &Surroundings, list: &mut List) {
    for (name, tenant) in &config.tenants {
        let own = |source: &&SourceConfig| source.tenant.id == tenant.id;
        let mut needs: Vec<Need> = Vec::new();
        for need in config.sources.iter().filter(own).flat_map(|source| source.kind.needs()) {
            if !needs.contains(need) {
                needs.push(*need);
            }
        }
        if tenant.config.credential.is_none() && needs.is_empty() {
            continue;
        }
        let what = format!("tenant {name}");
        match surroundings.accesses.of(tenant, &surroundings.clock) {
            Ok(access) => one(&what, &access, &needs, &*surroundings.clock, list).await,
            Err(error) => list.bad(what, chain(&error), "see config/postern.toml for its keys"),
        }
    }
}

/// Looks at one tenant.
pub(super) async fn one(
    what: &str,
    access: &TenantAccess,
    needs: &[Need],
    clock: &dyn Clock,
    list: &mut List,
) {
    expiry(what, access, clock.now(), list);
    let mut workloads: Vec<Workload> = needs.iter().map(|need| need.workload).collect();
    if workloads.is_empty() {
        // Nothing needs it yet; any API shows whether the credential is good.
        workloads.push(Workload::Graph);
    }
    let (mut scopes, mut places) = (Vec::new(), Vec::new());
    for workload in workloads {
        if let Some(why) = access.config().lacks(workload) {
            list.bad(what, why, "remove the source, or see that `cloud` is right");
            continue;
        }
        let place = access.endpoint(workload).clone();
        if !places.contains(&place) {
            reach(what, access, workload, clock, list).await;
            places.push(place);
        }
        let scope = access.scope(workload);
        if scopes.contains(&scope) {
            continue;
        }
        match access.token_for(&scope).await {
            Ok(token) => {
                list.good(what, format!("a token for {scope} was given"));
                let of_scope = needs.iter().filter(|need| access.scope(need.workload) == scope);
                roles(what, access, &token, of_scope, list);
            }
            Err(error) => {
                let todo = match (error.advice, error.failure) {
                    (Some(advice), _) => advice,
                    (None, Failure::Retry(_)) => {
                        "it may pass by itself; if not, look at the network between here and there: name \
                         resolution, a firewall, a proxy (http.proxy), a private authority (http.ca_file)"
                    }
                    (None, _) => "see [tenant.<name>] in config/postern.toml",
                };
                // Said once, under what to do.
                let seen = error.advice.map_or_else(
                    || error.message.clone(),
                    |advice| error.message.replace(&format!(": {advice}"), ""),
                );
                list.bad(what, format!("no token for {scope}: {seen}"), todo);
            }
        }
        scopes.push(scope);
    }
}

fn expiry(what: &str, access: &TenantAccess, now: Ticks, list: &mut List) {
    const DAY: i64 = 86_400;
    let Some(expires) = access.credential_expires() else { return };
    let day = expires.to_string();
    let day = day.split('T').next().unwrap_or_default().to_owned();
    let left = (expires.as_seconds() - now.as_seconds()).div_euclid(DAY);
    if left < 0 {
        list.bad(
            what,
            format!("its credential has expired on {day}"),
            "make a new one and put it in the old one's place",
        );
    } else if left < EXPIRES_SOON_DAYS {
        let todo = "make a new one in time; Postern reads it as soon as it is there";
        list.advice(what, format!("its credential expires on {day}, in {left} days"), todo);
    } else {
        list.good(what, format!("its credential is good until {day}"));
    }
}

async fn reach(
    what: &str,
    access: &TenantAccess,
    workload: Workload,
    clock: &dyn Clock,
    list: &mut List,
) {
    let place = crate::cloud::http::place_of(access.endpoint(workload));
    let there = match access.look(workload).await {
        Ok(Some(there)) => there,
        Ok(None) => {
            list.good(what, format!("{place} can be reached; it does not say what time it is"));
            return;
        }
        Err(error) => {
            let todo = "look at the network between here and there: name resolution, a firewall on port 443, a proxy \
                        (http.proxy), a private authority (http.ca_file)";
            list.bad(what, error.to_string(), todo);
            return;
        }
    };
    let ahead = there.as_seconds() - clock.now().as_seconds();
    let (seconds, how) = (ahead.abs(), if ahead > 0 { "behind" } else { "ahead of" });
    if seconds <= SKEW_ODD {
        list.good(what, format!("{place} can be reached, and its clock agrees with ours"));
        return;
    }
    let seen = format!(
        "{place} can be reached; this machine's clock is about {} {how} its clock",
        about(seconds)
    );
    let todo = "set this machine's clock by NTP (timedatectl set-ntp true, or chrony): signed assertions and shared \
                access signatures are refused when it is wrong. What is fetched does not depend on it";
    if seconds > SKEW_BAD {
        list.bad(what, seen, todo);
    } else {
        list.advice(what, seen, todo);
    }
}

/// A time in the unit that fits it.
fn about(seconds: i64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds.saturating_add(30) / 60),
        _ => format!("{} h", seconds.saturating_add(1800) / 3600),
    }
}

fn roles<'n>(
    what: &str,
    access: &TenantAccess,
    token: &Token,
    needs: impl Iterator<Item = &'n Need>,
    list: &mut List,
) {
    // Opaque tokens are none of our business: then only the API can tell.
    let Some(granted) = token.roles() else { return };
    for need in needs {
        let has = need.permissions.iter().find(|wanted| granted.iter().any(|role| role == *wanted));
        match has {
            Some(permission) => list.good(what, format!("{permission} is granted")),
            None => {
                let wanted = need.permissions.first().copied().unwrap_or_default();
                let seen = format!("{wanted} ({}) is not granted", need.api);
                list.bad(what, seen, grant(access, need));
            }
        }
    }
}

/// Where to click.
fn grant(access: &TenantAccess, need: &Need) -> String {
    let config = access.config();
    grant_for(config.cloud.entra(), config.credential.as_ref(), need)
}

fn grant_for(entra: &str, credential: Option<&Credential>, need: &Need) -> String {
    let permission = need.permissions.first().copied().unwrap_or_default();
    match credential {
        Some(Credential::ManagedIdentity(_)) => format!(
            "grant the application permission {permission} of {} to the managed identity by script (Graph: POST \
             /servicePrincipals/<id>/appRoleAssignments); the portal has no button for it",
            need.api
        ),
        _ => format!(
            "{entra} > App registrations > the application > API permissions > Add a permission > {} > Application \
             permissions > {permission}, then Grant admin consent; a new token carries it a few minutes later",
            need.api
        ),
    }
}

/// What to do where a source's own probe was refused for want of a permission.
pub(super) fn permission(source: &SourceConfig, trouble: &Trouble) -> Option<String> {
    let Trouble::Error(error) = trouble else { return None };
    let cause = error.cause.as_ref()?.downcast_ref::<HttpError>()?;
    let need = source.kind.needs().first()?;
    let tenant: &Tenant = &source.tenant;
    let refused = cause.status() == Some(403) && !cause.throttled();
    refused.then(|| grant_for(tenant.config.cloud.entra(), tenant.config.credential.as_ref(), need))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cloud::tenant::TenantConfig;
    use crate::journal::SystemClock;
    use crate::simulator::cloud::{AppConfig, Cloud, CloudConfig};

    const TENANT: &str = "11111111-2222-3333-4444-555555555555";

    /// What `check` says about a tenant of a simulated cloud, with ports and ids taken out.
    async fn said(config: CloudConfig, tenant: &str, secret: &str, needs: &[Need]) -> String {
        let client_id = config.app.client_id.clone();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let cloud = Cloud::start(config, Arc::clone(&clock), None).await.unwrap();
        let home = tempfile::TempDir::new().unwrap();
        std::fs::write(home.path().join("ca.pem"), cloud.authority()).unwrap();
        std::fs::write(home.path().join("secret"), secret).unwrap();
        let text = format!(
            "id = {tenant:?}\nendpoints = {{ authority = {0:?}, graph = {0:?}, activity = {0:?} }}\n\
             credential = {{ client_secret = {{ client_id = {client_id:?}, secret = {{ file = {1:?} }} }} }}\n\
             http = {{ ca_file = {2:?} }}",
            cloud.origin(),
            home.path().join("secret"),
            home.path().join("ca.pem"),
        );
        let config: TenantConfig = toml::from_str(&text).unwrap();
        let access = TenantAccess::new(&config, Arc::clone(&clock)).unwrap();
        let mut list = List::default();
        one("tenant contoso", &access, needs, &*clock, &mut list).await;
        calm(&list.lines.join("\n").replace(&cloud.origin(), "https://cloud.example"))
    }

    /// Ids that differ each time become `<id>`.
    fn calm(text: &str) -> String {
        let is_id = |word: &str| {
            word.len() == 36 && word.chars().all(|c| c.is_ascii_hexdigit() || c == '-')
        };
        let split = |c: char| !(c.is_ascii_alphanumeric() || c == '-');
        let mut out = text.to_owned();
        for word in text.split(split).filter(|word| is_id(word)) {
            out = out.replace(word, "<id>");
        }
        out
    }

    fn cloud() -> CloudConfig {
        CloudConfig { tenant_id: TENANT.into(), ..CloudConfig::default() }
    }

    const ALL: [Need; 4] = [Need::INCIDENTS, Need::ALERTS, Need::HUNTING, Need::ACTIVITY];

    #[tokio::test]
    async fn all_is_well() {
        insta::assert_snapshot!(said(cloud(), TENANT, "simulated-secret", &ALL).await);
    }

    #[tokio::test]
    async fn a_wrong_secret() {
        insta::assert_snapshot!(said(cloud(), TENANT, "canary", &ALL).await);
    }

    #[tokio::test]
    async fn an_expired_secret() {
        let expired_secrets = vec!["old".to_owned()];
        let app = AppConfig { expired_secrets, ..AppConfig::with_secret("new") };
        let config = CloudConfig { app, ..cloud() };
        insta::assert_snapshot!(said(config, TENANT, "old", &[Need::INCIDENTS]).await);
    }

    #[tokio::test]
    async fn missing_permissions() {
        let roles = vec!["SecurityAlert.ReadWrite.All".to_owned()];
        let app = AppConfig { roles, ..AppConfig::with_secret("simulated-secret") };
        let config = CloudConfig { app, ..cloud() };
        insta::assert_snapshot!(said(config, TENANT, "simulated-secret", &ALL).await);
    }

    #[tokio::test]
    async fn a_wrong_tenant_id() {
        let other = "99999999-2222-3333-4444-555555555555";
        insta::assert_snapshot!(said(cloud(), other, "simulated-secret", &[Need::ALERTS]).await);
    }

    #[tokio::test]
    async fn a_skewed_clock() {
        let config = CloudConfig { skew_seconds: 3600, ..cloud() };
        insta::assert_snapshot!(said(config, TENANT, "simulated-secret", &[Need::HUNTING]).await);
    }

    #[tokio::test]
    async fn an_api_that_cannot_be_reached() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let place = format!("https://{}", free.local_addr().unwrap());
        drop(free);
        let text = format!(
            "id = {TENANT:?}\ncredential = {{ token = {{ env = \"PATH\" }} }}\nendpoints = {{ graph = {place:?} }}"
        );
        let config: TenantConfig = toml::from_str(&text).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let access = TenantAccess::new(&config, Arc::clone(&clock)).unwrap();
        let mut list = List::default();
        one("tenant contoso", &access, &[Need::HUNTING], &*clock, &mut list).await;
        insta::assert_snapshot!(list.lines.join("\n").replace(&place, "https://cloud.example"));
    }

    #[test]
    fn a_managed_identity_gets_its_permission_by_script() {
        let credential =
            Credential::ManagedIdentity(crate::cloud::tenant::ManagedIdentity::default());
        let text = grant_for("https://entra.contoso.example", Some(&credential), &Need::ACTIVITY);
        assert!(
            text.contains("appRoleAssignments") && text.contains("ActivityFeed.Read"),
            "{text}"
        );
    }
}
