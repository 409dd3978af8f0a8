//! Azurite, the storage emulator, on the loopback, and somebody who writes blobs as Azure Monitor does. It ends with
//! the value. It verifies our signatures as Azure would; the ones used for writing are made here, independently.
//!
//! The program comes from `tests/azurite/package.json`; `tests/run` installs it.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test rig: a broken rig must stop the test"
)]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use azure_core::base64;
use reqwest::Method;

/// The account that every emulator has, and its published key.
pub const ACCOUNT: &str = "devstoreaccount1";
pub const KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// Whether the tests that need Azurite were left out on purpose; says so loudly.
pub fn left_out(test: &str) -> bool {
    let without = std::env::var("POSTERN_TEST_WITHOUT").unwrap_or_default();
    let left_out = without.split([',', ' ']).any(|part| part == "azurite");
    if left_out {
        eprintln!("SKIPPED {test}: POSTERN_TEST_WITHOUT names azurite, so nothing was proven here");
    }
    left_out
}

/// A running emulator with an empty account.
pub struct Azurite {
    process: Child,
    pub url: String,
    http: reqwest::Client,
    _folder: tempfile::TempDir,
}

impl Drop for Azurite {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Azurite {
    pub fn start() -> Self {
        let program = program();
        assert!(
            program.exists(),
            "Azurite is missing at {}: npm install --prefix target/azurite ./tests/azurite does it, or set \
             POSTERN_TEST_WITHOUT=azurite",
            program.display()
        );
        let folder = tempfile::tempdir().unwrap();
        let mut process = Command::new("node")
            .arg(&program)
            .args(["--blobHost", "127.0.0.1", "--blobPort", "0", "--skipApiVersionCheck"])
            .args(["--disableTelemetry", "--silent", "--location"])
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("node starts");
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let url = lines
            .find_map(|line| line.unwrap().split_once("listens on ").map(|(_, url)| url.to_owned()))
            .expect("Azurite says where it listens");
        std::thread::spawn(move || lines.for_each(drop));
        let url = format!("{}/{ACCOUNT}", url.trim());
        Self { process, url, http: reqwest::Client::new(), _folder: folder }
    }

    /// One request with every right; what is left of the answer is its status.
    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> u16 {
        let joint = if path.contains('?') { '&' } else { '?' };
        let url =
            format!("{}/{path}{joint}{}", self.url, signature("rwdlac", "2099-01-01T00:00:00Z"));
        let mut request = self
            .http
            .request(method, url)
            .header("x-ms-version", "2022-11-02")
            .header("content-length", body.len())
            .body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap().status().as_u16()
    }

    pub async fn make_container(&self, name: &str) {
        let status =
            self.send(Method::PUT, &format!("{name}?restype=container"), &[], vec![]).await;
        assert_eq!(status, 201);
    }

    /// An empty append blob, as Azure Monitor begins an hour.
    pub async fn make(&self, path: &str) {
        let headers = [("x-ms-blob-type", "AppendBlob")];
        assert_eq!(self.send(Method::PUT, path, &headers, vec![]).await, 201);
    }

    pub async fn append(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        let bytes: Vec<u8> = bytes.into();
        for block in bytes.chunks(3 << 20) {
            let status = self
                .send(Method::PUT, &format!("{path}?comp=appendblock"), &[], block.to_vec())
                .await;
            assert_eq!(status, 201);
        }
    }

    /// A block blob, whole.
    pub async fn put(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        let headers = [("x-ms-blob-type", "BlockBlob")];
        assert_eq!(self.send(Method::PUT, path, &headers, bytes.into()).await, 201);
    }

    pub async fn delete(&self, path: &str) {
        assert_eq!(self.send(Method::DELETE, path, &[], vec![]).await, 202);
    }
}

/// A signature for the whole account.
pub fn signature(rights: &str, until: &str) -> String {
    let version = "2022-11-02";
    let text = format!("{ACCOUNT}\n{rights}\nb\nsco\n\n{until}\n\n\n{version}\n\n");
    let mac = hmac_sha256::HMAC::mac(text.as_bytes(), base64::decode(KEY).unwrap());
    let signature = base64::encode(mac).replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    format!(
        "sv={version}&ss=b&srt=sco&sp={rights}&se={}&sig={signature}",
        until.replace(':', "%3A")
    )
}

fn program() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    let home = std::env::var_os("POSTERN_AZURITE").map_or(target.join("azurite"), PathBuf::from);
    home.join("node_modules/azurite/dist/src/blob/main.js")
}
