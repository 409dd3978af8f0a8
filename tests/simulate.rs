//! `postern simulate` as somebody else's collector meets it: over TLS, with nothing but what it prints.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may assume"
)]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A running cloud; a test that fails leaves no process behind.
struct Simulated {
    process: Child,
    out: BufReader<ChildStdout>,
    said: BTreeMap<String, String>,
    client: reqwest::Client,
}

impl Drop for Simulated {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Simulated {
    fn start(arguments: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_postern"))
            .arg("simulate")
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(process.stdout.take().unwrap());
        let mut said = BTreeMap::new();
        loop {
            let mut line = String::new();
            assert!(out.read_line(&mut line).unwrap() > 0, "it ended before it was ready");
            if line.starts_with("Ctrl-C") {
                break;
            }
            if let Some((name, value)) = line.trim_end().split_once("  ") {
                said.insert(name.to_owned(), value.trim().to_owned());
            }
        }
        let ca = std::fs::read(&said["CA file"]).unwrap();
        let client = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(&ca).unwrap()])
            .timeout(Duration::from_secs(10))
            .build()
            .unwrap();
        Self { process, out, said, client }
    }

    async fn token(&self, secret: &str, scope: &str) -> (u16, Value) {
        let scope = scope.replace(':', "%3A").replace('/', "%2F");
        let form = format!(
            "client_id={}&client_secret={secret}&grant_type=client_credentials&scope={scope}",
            self.said["client id"]
        );
        let answer = self
            .client
            .post(&self.said["token endpoint"])
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form)
            .send()
            .await
            .unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn get(&self, url: &str, token: &str) -> Result<(u16, Value), reqwest::Error> {
        let answer = self.client.get(url).bearer_auth(token).send().await?;
        let status = answer.status().as_u16();
        assert!(answer.headers().contains_key("date"));
        Ok((status, answer.json().await?))
    }

    /// Ends it as Ctrl-C does; what it said last.
    fn end(mut self) -> String {
        let id = rustix::process::Pid::from_raw(i32::try_from(self.process.id()).unwrap()).unwrap();
        rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
        let status = self.process.wait().unwrap();
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).unwrap();
        assert!(status.success(), "{status:?}\n{rest}");
        rest
    }
}

const GRAPH: &str = "https://graph.microsoft.com/.default";

#[tokio::test]
async fn a_plain_client_gets_a_token_and_incidents_and_the_truth_file_has_them_all() {
    let home = tempfile::tempdir().unwrap();
    let truth = home.path().join("truth.ndjson");
    let cloud = Simulated::start(&[
        "--seed",
        "3",
        "--mails-per-second",
        "40",
        "--haste",
        "60",
        "--truth",
        truth.to_str().unwrap(),
    ]);
    let (status, refusal) = cloud.token("wrong", GRAPH).await;
    assert_eq!((status, &refusal["error_codes"][0]), (401, &Value::from(7_000_215)));
    let (status, granted) = cloud.token(&cloud.said["client secret"], GRAPH).await;
    assert_eq!(status, 200, "{granted}");
    let token = granted["access_token"].as_str().unwrap().to_owned();

    let url = format!("{}/v1.0/security/incidents?$expand=alerts&$top=50", cloud.said["Graph"]);
    let deadline = Instant::now() + Duration::from_secs(20);
    let incidents = loop {
        let (status, body) = cloud.get(&url, &token).await.unwrap();
        assert_eq!(status, 200, "{body}");
        let incidents = body["value"].as_array().unwrap().clone();
        if incidents.len() >= 10 {
            break incidents;
        }
        assert!(Instant::now() < deadline, "only {} incidents", incidents.len());
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(incidents.iter().any(|incident| incident["alerts"][0]["evidence"][0].is_object()));
    let (status, refused) = cloud.get(&url.replace("=50", "=100"), &token).await.unwrap();
    assert_eq!(status, 400);
    assert!(refused["error"]["message"].as_str().unwrap().contains("The limit of '50'"));
    let ca = cloud.said["CA file"].clone();
    let summary = cloud.end();
    assert!(summary.contains("graph.incidents.list"), "{summary}");
    assert!(!Path::new(&ca).exists(), "its own file goes with it");

    let truth = std::fs::read_to_string(&truth).unwrap();
    let lines: Vec<Value> = truth.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.last().unwrap()["end"].is_object(), "the truth is complete");
    for incident in &incidents {
        let known = |line: &&Value| {
            line["shown"] == "incident"
                && line["id"] == incident["id"]
                && line["revision"] == incident["lastUpdateDateTime"]
        };
        assert!(lines.iter().any(|line| known(&line)), "{incident}");
    }
    for transport in ["hunting", "storage", "activity", "alert"] {
        let has = lines.iter().any(|line| line["shown"] == transport && line["at"].is_string());
        assert!(has || transport == "activity", "{transport}");
    }
}

#[tokio::test]
async fn faults_over_the_line_are_what_the_script_says() {
    let home = tempfile::tempdir().unwrap();
    let script = home.path().join("faults.toml");
    let text = r#"
        [[fault]]
        kind = "reset"
        route = "graph.alerts"
        times = 1
        [[fault]]
        kind = "cut"
        route = "graph.alerts"
        times = 1
        [[fault]]
        kind = "hang"
        route = "graph.alerts"
        times = 1
        [[fault]]
        kind = "slow"
        route = "graph.alerts"
        pace_millis = 1
        times = 1
    "#;
    std::fs::write(&script, text).unwrap();
    let cloud = Simulated::start(&["--past", "20", "--faults", script.to_str().unwrap()]);
    let (_, granted) = cloud.token(&cloud.said["client secret"], GRAPH).await;
    let token = granted["access_token"].as_str().unwrap();
    let url = format!("{}/v1.0/security/alerts_v2?$top=1", cloud.said["Graph"]);
    let reset = cloud.get(&url, token).await.unwrap_err();
    assert!(reset.is_request(), "{reset:?}");
    let cut = cloud.get(&url, token).await.unwrap_err();
    assert!(cut.is_decode() || cut.is_body(), "{cut:?}");
    let hang = cloud.get(&url, token).await.unwrap_err();
    assert!(hang.is_timeout(), "{hang:?}");
    assert_eq!(cloud.get(&url, token).await.unwrap().0, 200, "slow, but whole");
    assert_eq!(cloud.get(&url, token).await.unwrap().0, 200);
    let summary = cloud.end();
    assert!(summary.contains("Reset 1 times"), "{summary}");
}

#[test]
fn a_script_that_means_nothing_is_refused_before_anything_starts() {
    let home = tempfile::tempdir().unwrap();
    let script = home.path().join("faults.toml");
    std::fs::write(&script, "[[fault]]\nkind = \"flood\"\n").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_postern"))
        .args(["simulate", "--faults"])
        .arg(&script)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("unknown variant `flood`"), "{text}");
}
