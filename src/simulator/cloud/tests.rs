//! The cloud as its clients meet it, without the network: the same world that the server serves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use super::asked::{Asked, Reply, Route, pairs};
use super::faults::Script;
use super::settings::{AppConfig, CloudConfig};
use super::world::World;
use crate::domain::Ticks;
use crate::journal::Clock;
use crate::simulator::envelope::TABLES;
use crate::simulator::tenant::{DEMO_TENANT, Settings, Tenant};
use crate::simulator::truth::Truth;

/// A clock that is set by hand.
#[derive(Debug)]
struct Hand(AtomicI64);

impl Clock for Hand {
    fn now(&self) -> Ticks {
        Ticks(self.0.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

const START: Ticks = Ticks(17_950_000_000_000_000);

struct Scene {
    world: World,
    clock: Arc<Hand>,
    truth: Arc<Mutex<Truth>>,
    tenant: Tenant,
    token: BTreeMap<&'static str, String>,
    _home: tempfile::TempDir,
}

fn scene(config: CloudConfig) -> Scene {
    let clock = Arc::new(Hand(AtomicI64::new(START.0)));
    let home = tempfile::tempdir().unwrap();
    let truth = Truth::create(&home.path().join("truth.ndjson")).unwrap();
    let truth = Arc::new(Mutex::new(truth));
    let world = World::new(config, Arc::clone(&clock) as Arc<dyn Clock>, Some(Arc::clone(&truth)));
    let settings =
        Settings { seed: 5, mails_per_second: 100.0, start: START, ..Settings::default() };
    let mut scene = Scene {
        world,
        clock,
        truth,
        tenant: Tenant::new(settings),
        token: BTreeMap::new(),
        _home: home,
    };
    for (resource, host) in [
        ("graph", "graph.microsoft.com"),
        ("activity", "manage.office.com"),
        ("storage", "storage.azure.com"),
    ] {
        let token = scene.ask_token(host);
        scene.token.insert(resource, token);
    }
    scene
}

impl Scene {
    fn ask_token(&self, host: &str) -> String {
        let app = &self.world.config().app;
        let body = format!(
            "client_id={}&client_secret={}&grant_type=client_credentials&scope=https%3A%2F%2F{host}%2F.default",
            app.client_id, app.secret
        );
        let reply = self.world.answer(&Asked {
            method: "POST".into(),
            path: format!("/{DEMO_TENANT}/oauth2/v2.0/token"),
            body: body.into_bytes(),
            ..Asked::default()
        });
        json(&reply)["access_token"].as_str().unwrap_or_default().to_owned()
    }

    /// Time passes.
    fn live(&mut self, seconds: i64) {
        let now = self.clock.now().plus_seconds(seconds);
        self.clock.0.store(now.0, Ordering::SeqCst);
        let mut store = self.world.store();
        self.tenant.advance(now, &mut |record| store.take(&record));
    }

    fn fall_silent(&mut self) {
        let mut store = self.world.store();
        self.tenant.finish(&mut |record| store.take(&record));
        store.finish(self.clock.now());
        drop(store);
        // Each stamp is a little later than the one before it.
        self.clock.0.store(self.clock.now().plus_seconds(1).0, Ordering::SeqCst);
    }

    fn ask(&self, method: &str, url: &str, headers: &[(&str, &str)]) -> Reply {
        let resource = match url {
            _ if url.starts_with("/api/") => "activity",
            _ if url.starts_with("/v1.0/") => "graph",
            _ => "storage",
        };
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let mut all = vec![
            ("host".to_owned(), "cloud.example".to_owned()),
            ("authorization".to_owned(), format!("Bearer {}", self.token[resource])),
        ];
        all.extend(headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        self.world.answer(&Asked {
            method: method.into(),
            path: path.into(),
            raw_query: query.into(),
            query: pairs(query),
            headers: all,
            body: Vec::new(),
        })
    }

    fn get(&self, url: &str) -> Reply {
        self.ask("GET", url, &[])
    }

    fn hunt(&self, query: &str) -> Reply {
        self.world.answer(&Asked {
            method: "POST".into(),
            path: "/v1.0/security/runHuntingQuery".into(),
            headers: vec![("authorization".into(), format!("Bearer {}", self.token["graph"]))],
            body: serde_json::json!({ "Query": query }).to_string().into_bytes(),
            ..Asked::default()
        })
    }

    /// All things of a collection, along the links.
    fn all(&self, url: &str) -> Vec<Value> {
        let (mut things, mut next) = (Vec::new(), Some(url.to_owned()));
        while let Some(url) = next {
            let reply = self.get(&url);
            assert_eq!(reply.status, 200, "{url}: {}", String::from_utf8_lossy(&reply.body));
            let body = json(&reply);
            things.extend(body["value"].as_array().unwrap().iter().cloned());
            next = body["@odata.nextLink"]
                .as_str()
                .map(|link| link.strip_prefix("https://cloud.example").unwrap().to_owned());
        }
        things
    }
}

fn json(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).unwrap_or_default()
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().to_owned()
}

#[test]
fn what_graph_shows_at_the_end_is_what_the_truth_says_was_shown() {
    let mut scene = scene(CloudConfig::default());
    scene.live(15);
    scene.fall_silent();
    let truth = scene.truth.lock().unwrap();
    for (kind, collection) in [("alert", "alerts_v2"), ("incident", "incidents")] {
        let things = scene.all(&format!("/v1.0/security/{collection}?$top=50"));
        assert!(things.len() > 10, "{} of {collection}", things.len());
        let mut comparison = truth.shown().compare(kind);
        for thing in &things {
            comparison.arrived(&text(thing, "id"), &text(thing, "lastUpdateDateTime"));
        }
        let verdict = comparison.verdict();
        assert!(verdict.is_right(), "{verdict:?}");
        assert_eq!(truth.shown().things(kind), things.len() as u64);
    }
}

#[test]
fn alerts_grow_move_and_end_and_incidents_are_merged_and_closed() {
    let mut scene = scene(CloudConfig::default());
    let (mut kinds, mut statuses, mut moved) = (BTreeSet::new(), BTreeSet::new(), 0);
    let mut homes: BTreeMap<String, String> = BTreeMap::new();
    for _ in 0..60 {
        scene.live(1);
        for incident in scene.all("/v1.0/security/incidents?$expand=alerts") {
            statuses.insert(format!("incident {}", text(&incident, "status")));
            let redirected = text(&incident, "status") == "redirected";
            assert_eq!(redirected, incident["redirectIncidentId"].is_string());
            assert_eq!(redirected, incident["alerts"].as_array().unwrap().is_empty());
            for alert in incident["alerts"].as_array().unwrap() {
                assert_eq!(text(alert, "incidentId"), text(&incident, "id"));
                statuses.insert(format!("alert {}", text(alert, "status")));
                let home = homes.insert(text(alert, "id"), text(&incident, "id"));
                moved += usize::from(home.is_some_and(|home| home != text(&incident, "id")));
                for evidence in alert["evidence"].as_array().unwrap() {
                    kinds.insert(text(evidence, "@odata.type"));
                }
            }
        }
    }
    for status in
        ["incident active", "incident redirected", "incident resolved", "alert inProgress"]
    {
        assert!(statuses.contains(status), "{statuses:?}");
    }
    assert!(moved > 0);
    for kind in ["analyzedMessage", "mailCluster", "user", "mailbox", "url", "ip"] {
        let kind = format!("#microsoft.graph.security.{kind}Evidence");
        assert!(kinds.contains(&kind), "{kinds:?}");
    }
}

#[test]
fn a_role_that_nobody_granted_is_a_403_in_each_apis_own_words() {
    let app = AppConfig { roles: Vec::new(), ..AppConfig::with_secret("s") };
    let scene = scene(CloudConfig { app, ..CloudConfig::default() });
    let graph = scene.get("/v1.0/security/incidents");
    assert_eq!((graph.status, text(&json(&graph)["error"], "code")), (403, "Forbidden".into()));
    assert!(text(&json(&graph)["error"], "message").contains("SecurityIncident.Read.All"));
    let list = format!("/api/v1.0/{DEMO_TENANT}/activity/feed/subscriptions/list");
    let activity = scene.get(&list);
    assert_eq!((activity.status, text(&json(&activity)["error"], "code")), (403, "AF10001".into()));
    let blobs = scene.get("/contosologs/x?restype=container&comp=list");
    assert_eq!(blobs.status, 403);
    assert!(String::from_utf8_lossy(&blobs.body).contains("AuthorizationPermissionMismatch"));
}

#[test]
fn the_activity_api_wants_a_subscription_a_narrow_window_and_shows_each_record_in_some_blob() {
    let mut scene = scene(CloudConfig::default());
    scene.live(20);
    let feed = format!("/api/v1.0/{DEMO_TENANT}/activity/feed");
    let code = |reply: &Reply| text(&json(reply)["error"], "code");
    let now = |seconds: i64| {
        scene.clock.now().plus_seconds(seconds).to_string().get(..19).unwrap().to_owned()
    };
    let list = |from: &str, to: &str| {
        scene.get(&format!(
            "{feed}/subscriptions/content?contentType=Audit.General&startTime={from}&endTime={to}"
        ))
    };
    assert_eq!(code(&list(&now(-60), &now(60))), "AF20022");
    let start = format!("{feed}/subscriptions/start?contentType=Audit.General");
    assert_eq!(scene.ask("POST", &start, &[]).status, 200);
    assert_eq!(code(&scene.ask("POST", &start, &[])), "AF20024");
    assert_eq!(code(&scene.ask("POST", &start.replace("General", "Mail"), &[])), "AF20020");
    assert_eq!(json(&scene.get(&format!("{feed}/subscriptions/list")))[0]["status"], "enabled");
    assert_eq!(code(&list(&now(-90_000), &now(0))), "AF20030");
    assert_eq!(code(&list(&now(-9 * 86_400), &now(-9 * 86_400 + 60))), "AF20030");
    assert_eq!(code(&list("2026-08-20T09:00:00Z", "2026-08-20T10:00:00Z")), "AF20030");
    scene.live(20);
    scene.fall_silent();

    let to = scene.clock.now().plus_seconds(60).to_string();
    let from = scene.clock.now().plus_seconds(-3600).to_string();
    let (from, to) = (from.get(..19).unwrap(), to.get(..19).unwrap());
    let mut next = Some(format!(
        "{feed}/subscriptions/content?contentType=Audit.General&startTime={from}&endTime={to}"
    ));
    let truth = scene.truth.lock().unwrap();
    let mut comparison = truth.shown().compare("activity");
    let (mut seen, mut kinds, mut pages) = (BTreeSet::new(), BTreeSet::new(), 0);
    while let Some(url) = next {
        pages += 1;
        let reply = scene.get(&url);
        for blob in json(&reply).as_array().unwrap() {
            let uri = text(blob, "contentUri");
            let records = json(&scene.get(uri.strip_prefix("https://cloud.example").unwrap()));
            for record in records.as_array().unwrap() {
                kinds.insert(record["RecordType"].as_u64().unwrap());
                if seen.insert(text(record, "Id")) {
                    comparison.arrived(&text(record, "Id"), "");
                }
            }
        }
        next = reply
            .headers
            .iter()
            .find(|(name, _)| *name == "NextPageUri")
            .map(|(_, uri)| uri.strip_prefix("https://cloud.example").unwrap().to_owned());
    }
    let verdict = comparison.verdict();
    assert!(verdict.is_right() && verdict.arrived > 100, "{verdict:?}");
    assert!(pages >= 1);
    assert_eq!(kinds, BTreeSet::from([28, 29, 40, 41, 64, 65]));
    let gone = scene.get(&format!("{feed}/audit/1$2$3"));
    assert_eq!(code(&gone), "AF20050");
}

#[test]
fn the_account_lists_in_pages_reads_ranges_and_holds_conditions() {
    let mut scene = scene(CloudConfig { hierarchical: true, ..CloudConfig::default() });
    scene.live(20);
    let container = "/contosologs/insights-logs-advancedhunting-emailevents";
    let list = |more: &str| {
        let reply = scene.get(&format!("{container}?restype=container&comp=list{more}"));
        String::from_utf8(reply.body).unwrap()
    };
    let all = list("");
    assert!(all.contains("<ResourceType>directory</ResourceType>"), "{all}");
    let name = all.split("<Name>").find(|part| part.contains("PT1H.json")).unwrap();
    let name = name.split('<').next().unwrap().to_owned();
    assert!(name.starts_with(&format!("tenantId={DEMO_TENANT}/y=")), "{name}");
    let first = list("&maxresults=2");
    let marker = first.split("<NextMarker>").nth(1).unwrap().split('<').next().unwrap();
    assert!(
        !list(&format!("&maxresults=2&marker={marker}")).contains(&format!("<Name>{marker}<"))
            || marker.contains('=')
    );
    assert!(!list("&prefix=resourceId=").contains("PT1H.json"));

    let url = format!("{container}/{name}");
    let header = |reply: &Reply, name: &str| {
        reply.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
    };
    let head = scene.ask("HEAD", &url, &[]);
    let length: usize = header(&head, "content-length").unwrap().parse().unwrap();
    let tag = header(&head, "etag").unwrap();
    let part = scene.ask("GET", &url, &[("x-ms-range", "bytes=10-19"), ("if-match", &tag)]);
    assert_eq!((part.status, part.body.len()), (206, 10));
    assert_eq!(header(&part, "content-range").unwrap(), format!("bytes 10-19/{length}"));
    assert_eq!(scene.ask("GET", &url, &[("range", &format!("bytes={length}-"))]).status, 416);
    assert_eq!(scene.ask("GET", &url, &[("if-match", "\"other\"")]).status, 412);
    let whole = scene.get(&url);
    assert!(whole.body.ends_with(b"\r\n"));
    for line in whole.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let line: Value = serde_json::from_slice(line).unwrap();
        assert_eq!(line["category"], "AdvancedHunting-EmailEvents");
    }
    scene.live(5);
    let grown = scene.get(&url);
    assert!(grown.body.starts_with(&whole.body) && grown.body.len() > whole.body.len());
    assert_ne!(header(&grown, "etag"), Some(tag));
    assert_eq!(scene.get("/contosologs/nothing?restype=container&comp=list").status, 404);
    let sas = |query: &str| {
        scene.world.answer(&Asked {
            method: "GET".into(),
            path: url.clone(),
            query: pairs(query),
            ..Asked::default()
        })
    };
    assert_eq!(sas("sig=simulated&se=2099-01-01T00:00:00Z").status, 200);
    assert_eq!(sas("sig=simulated&se=2020-01-01T00:00:00Z").status, 403);
    assert_eq!(sas("sig=other").status, 403);
    assert_eq!(sas("").status, 401);
}

#[test]
fn one_truth_goes_over_storage_hunting_and_hubs_alike() {
    let mut scene = scene(CloudConfig::default());
    scene.live(5);
    scene.fall_silent();
    let truth = scene.truth.lock().unwrap();
    let records = truth.totals().records;
    assert!(truth.shown().rows("storage") > records, "some lines come twice");
    let mut comparison = truth.compare();
    let mut rows = 0;
    for table in TABLES {
        let reply = scene.hunt(&format!("{table} | where ingestion_time() <= now()"));
        assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
        for row in json(&reply)["results"].as_array().unwrap() {
            rows += 1;
            comparison.arrived(table, &row.to_string(), &[]);
        }
    }
    assert_eq!(truth.shown().rows("hunting"), rows);
    let verdict = comparison.verdict();
    assert_eq!((verdict.twice, verdict.strangers), (0, 0), "{verdict:?}");
    assert_eq!(verdict.lost, records - rows, "{verdict:?}");
    let wrong = scene.hunt("EmailEventz | take 1");
    assert_eq!((wrong.status, text(&json(&wrong)["error"], "code")), (400, "BadRequest".into()));
}

#[test]
fn a_script_strikes_where_and_as_often_as_it_says() {
    let script = Script::read(
        r#"
        seed = 3
        [[fault]]
        kind = "throttle"
        route = "graph.incidents"
        retry_after = "date+5"
        times = 1
        [[fault]]
        kind = "throttle"
        route = "activity"
        status = 403
        [[fault]]
        kind = "expand_error"
        route = "graph.incidents.list"
        [[fault]]
        kind = "link_loop"
        route = "graph.alerts"
        "#,
    )
    .unwrap();
    let mut scene = scene(CloudConfig { faults: script, ..CloudConfig::default() });
    scene.live(10);
    let first = scene.get("/v1.0/security/incidents");
    assert_eq!(first.status, 429);
    let wait = first.headers.iter().find(|(name, _)| *name == "retry-after").unwrap();
    assert!(wait.1.ends_with("GMT"), "{wait:?}");
    assert_eq!(scene.get("/v1.0/security/incidents").status, 200);
    assert_eq!(scene.get("/v1.0/security/incidents?$expand=alerts").status, 500);
    let list = scene.get(&format!("/api/v1.0/{DEMO_TENANT}/activity/feed/subscriptions/list"));
    assert_eq!((list.status, text(&json(&list)["error"], "code")), (403, "AF429".into()));
    let looped = json(&scene.get("/v1.0/security/alerts_v2?$top=2"));
    assert_eq!(looped["@odata.nextLink"], "https://cloud.example/v1.0/security/alerts_v2?$top=2");
    let struck: Vec<u64> = scene.world.struck().into_iter().map(|(_, times)| times).collect();
    assert_eq!(struck, [1, 1, 1, 1]);
    let log = scene.world.requests();
    assert_eq!(log.iter().filter(|request| request.route == Route::Incidents).count(), 3);
    Script::read("[[fault]]\nkind = \"throttle\"\nroute = \"graf\"").unwrap_err();
    Script::read("[[fault]]\nkind = \"flood\"").unwrap_err();
}

#[test]
fn one_seed_is_one_cloud() {
    let run = || {
        let mut scene = scene(CloudConfig::default());
        scene.live(12);
        let reply =
            scene.get("/v1.0/security/incidents?$expand=alerts&$orderby=lastUpdateDateTime+asc");
        String::from_utf8(reply.body).unwrap()
    };
    assert_eq!(run(), run());
}
