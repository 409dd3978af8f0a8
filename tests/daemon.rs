//! The daemon as a process: how it starts, answers, reloads and ends. What it does with events is not tested
//! here. Rows of the fault matrix are named in brackets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// What anything may take on a busy machine before the test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with a configuration, and the daemon that runs on it.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        place.configure("");
        place
    }

    /// Writes the configuration: a file sink, a free port, and `more`.
    fn configure(&self, more: &str) {
        let at = self.folder.path().display();
        let text = format!(
            "data_dir = \"{at}/data\"\n[ops]\nlisten = \"127.0.0.1:0\"\n[journal]\nreserve_bytes = 0\n\
             [sink.out]\ntype = \"file\"\ndirectory = \"{at}/out\"\n{more}"
        );
        std::fs::write(self.config(), text).unwrap();
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("postern.toml")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start(&self) -> Daemon {
        self.start_with(&[])
    }

    fn start_with(&self, variables: &[(&str, &str)]) -> Daemon {
        let child = postern(&["run", "--config", self.config().to_str().unwrap()])
            .envs(variables.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Daemon::new(child)
    }
}

fn postern(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
    command.args(arguments).env_remove("POSTERN_LOG").stdin(Stdio::null());
    command
}

/// A running daemon, killed when the test ends without having waited for it.
struct Daemon {
    child: Child,
    log: Receiver<String>,
    seen: Vec<String>,
}

impl Daemon {
    fn new(mut child: Child) -> Self {
        let (sender, log) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in stderr.lines() {
                let Ok(line) = line else { return };
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, log, seen: Vec::new() }
    }

    /// Waits for a line of the log that holds `text`.
    #[track_caller]
    fn await_log(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.log.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(_) => panic!("no line with {text:?} in:\n{}", self.seen.join("\n")),
            }
        }
    }

    #[track_caller]
    fn address(&mut self) -> SocketAddr {
        let line = self.await_log("operations listener");
        line.split("address=").nth(1).unwrap().trim().parse().unwrap()
    }

    /// Waits until `/ready` says so.
    #[track_caller]
    fn await_ready(&mut self) -> SocketAddr {
        let address = self.address();
        until("ready", || {
            get(address, "/ready").is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
        });
        address
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end: the exit code, and what it took.
    #[track_caller]
    fn await_end(&mut self) -> (Option<i32>, Duration) {
        let began = Instant::now();
        let mut code = None;
        until("the end of the process", || {
            code = self.child.try_wait().unwrap();
            code.is_some()
        });
        self.seen.extend(self.log.iter());
        (code.unwrap().code(), began.elapsed())
    }

    #[track_caller]
    fn stop(&mut self) {
        self.signal(Signal::TERM);
        assert_eq!(self.await_end().0, Some(0), "{}", self.seen.join("\n"));
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "no {what} within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// One request; `None` if nobody answers.
fn get(address: SocketAddr, path: &str) -> Option<String> {
    request(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
}

fn request(address: SocketAddr, text: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(text.as_bytes()).ok()?;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    (!answer.is_empty()).then(|| String::from_utf8_lossy(&answer).into_owned())
}

#[test]
fn it_answers_ready_live_and_metrics_and_nothing_else() {
    let place = Place::new();
    let mut daemon = place.start();
    let address = daemon.await_ready();
    let ready = get(address, "/ready").unwrap();
    assert!(ready.contains("{\"part\":\"sink out\",\"state\":\"ready\"}"), "{ready}");
    let live = get(address, "/live").unwrap();
    assert!(live.starts_with("HTTP/1.1 200") && live.ends_with("live\n"), "{live}");
    let metrics = get(address, "/metrics").unwrap();
    for line in
        ["\npostern_process_ready 1\n", "\npostern_sink_events_sent_total{sink=\"out\"} 0\n"]
    {
        assert!(metrics.contains(line), "{line:?} not in {metrics}");
    }
    for answer in [&ready, &live, &metrics] {
        assert!(answer.contains("x-content-type-options: nosniff\r\n"), "{answer}");
        assert!(answer.contains("cache-control: no-store\r\n"), "{answer}");
    }
    let lost = get(address, "/etc/passwd").unwrap();
    assert!(
        lost.starts_with("HTTP/1.1 404") && lost.contains("application/problem+json"),
        "{lost}"
    );
    let post = request(
        address,
        "POST /live HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    );
    assert!(post.unwrap().starts_with("HTTP/1.1 405"));
    daemon.stop();
}

/// [S37] A head that is too large, or never ends, is cut off, and others are served meanwhile.
#[test]
fn slow_and_oversized_requests_are_cut_off() {
    let place = Place::new();
    let mut daemon = place.start();
    let address = daemon.await_ready();
    let mut slow: Vec<TcpStream> = (0..50).map(|_| TcpStream::connect(address).unwrap()).collect();
    for stream in &mut slow {
        stream.write_all(b"GET /live HTTP/1.1\r\nHost:").unwrap();
    }
    assert!(get(address, "/live").unwrap().starts_with("HTTP/1.1 200"));
    let large =
        format!("GET /live HTTP/1.1\r\nHost: x\r\nX-Large: {}\r\n\r\n", "a".repeat(64 << 10));
    let answer = request(address, &large).unwrap_or_default();
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    for stream in &mut slow {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut rest = Vec::new();
        let ended = stream.read_to_end(&mut rest);
        assert!(
            !matches!(&ended, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock),
            "{ended:?}"
        );
    }
    daemon.stop();
}

/// [A9]
#[test]
fn a_signal_to_stop_drains_and_ends_with_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let place = Place::new();
        let mut daemon = place.start();
        daemon.await_ready();
        daemon.signal(signal);
        let (code, took) = daemon.await_end();
        assert_eq!(code, Some(0), "{}", daemon.seen.join("\n"));
        assert!(took < Duration::from_secs(10), "{took:?}");
    }
}

/// [A12] The lock goes with the process, so a killed daemon does not keep the next one out.
#[test]
fn a_second_daemon_on_the_directory_is_refused_with_3_until_the_first_is_gone() {
    let place = Place::new();
    let mut first = place.start();
    first.await_ready();
    let mut second = place.start();
    let (code, took) = second.await_end();
    assert_eq!(code, Some(3), "{}", second.seen.join("\n"));
    assert!(
        second.seen.iter().any(|line| line.contains("in use by another process")),
        "{:?}",
        second.seen
    );
    println!("refused after {took:?}");
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    let mut third = place.start();
    third.await_ready();
    third.stop();
}

/// [B12]
#[test]
fn an_empty_directory_where_a_journal_was_is_refused_with_5() {
    let place = Place::new();
    let mut daemon = place.start();
    daemon.await_ready();
    daemon.stop();
    std::fs::rename(place.path("data"), place.path("moved")).unwrap();
    std::fs::create_dir(place.path("data")).unwrap();
    let mut daemon = place.start();
    assert_eq!(daemon.await_end().0, Some(5), "{}", daemon.seen.join("\n"));
}

#[test]
fn a_wrong_configuration_ends_with_2_and_names_file_and_line() {
    let place = Place::new();
    place.configure("rotate = 7\n");
    let mut daemon = place.start();
    assert_eq!(daemon.await_end().0, Some(2));
    let config = place.config();
    let expected = format!("{}:9: sink.out.rotate: unknown key", config.display());
    assert!(
        daemon.seen.iter().any(|line| line.starts_with(&expected)),
        "{expected} not in {:?}",
        daemon.seen
    );
}

#[test]
fn a_port_that_is_taken_ends_with_2_and_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let place = Place::new();
    let mut daemon = place.start_with(&[("POSTERN__OPS__LISTEN", &address)]);
    assert_eq!(daemon.await_end().0, Some(2));
    assert!(daemon.seen.iter().any(|line| line.contains(&address)), "{:?}", daemon.seen);
}

/// [J2]
#[test]
fn a_reload_with_an_error_changes_nothing_and_names_file_and_line() {
    let place = Place::new();
    let mut daemon = place.start();
    let address = daemon.await_ready();
    place.configure("[sink.more]\ntype = \"stdout\"\nlevel = 7\n");
    daemon.signal(Signal::HUP);
    let line = daemon.await_log("sink.more.level");
    assert!(
        line.contains(&format!("{}:11: sink.more.level: unknown key", place.config().display())),
        "{line}"
    );
    daemon.await_log("the old configuration stays in force");
    let ready = get(address, "/ready").unwrap();
    assert!(ready.starts_with("HTTP/1.1 200") && !ready.contains("sink more"), "{ready}");
    daemon.stop();
}

#[test]
fn a_reload_starts_and_stops_what_changed_and_says_what_needs_a_restart() {
    let place = Place::new();
    let mut daemon = place.start();
    let address = daemon.await_ready();
    place.configure("[sink.more]\ntype = \"stdout\"\n[log]\nformat = \"json\"\n");
    daemon.signal(Signal::HUP);
    let line = daemon.await_log("needs a restart");
    assert!(line.contains("log.format"), "{line}");
    let line = daemon.await_log("reloaded");
    assert!(line.contains("stopped=[] started=[\"sink more\"]"), "{line}");
    until("new sink", || {
        get(address, "/ready").unwrap().contains("{\"part\":\"sink more\",\"state\":\"ready\"}")
    });
    place.configure("");
    daemon.signal(Signal::HUP);
    let line = daemon.await_log("reloaded");
    assert!(line.contains("stopped=[\"sink more\"] started=[]"), "{line}");
    assert!(!get(address, "/ready").unwrap().contains("sink more"));
    daemon.await_log_seen("its position is forgotten");
    daemon.stop();
}

impl Daemon {
    /// As [`Daemon::await_log`], but the line may have come already.
    #[track_caller]
    fn await_log_seen(&mut self, text: &str) {
        if !self.seen.iter().any(|line| line.contains(text)) {
            self.await_log(text);
        }
    }
}

#[test]
fn the_log_is_one_json_object_per_line_when_asked_for() {
    let place = Place::new();
    place.configure("[log]\nformat = \"json\"\n");
    let mut daemon = place.start();
    daemon.await_log("operations listener");
    daemon.stop();
    for line in &daemon.seen {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(
            line["timestamp"].is_string()
                && line["level"].is_string()
                && line["message"].is_string(),
            "{line}"
        );
    }
    assert!(daemon.seen.len() >= 4, "{:?}", daemon.seen);
}

/// A process that does not outlive its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// [J8] A reader of standard error that does not read costs lines, never progress.
#[test]
fn a_blocked_log_holds_nothing_up() {
    let place = Place::new();
    let child = postern(&["run", "--config", place.config().to_str().unwrap()])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = Killed(child);
    // The address is in the first lines; after them nobody reads.
    let mut stderr = BufReader::new(child.0.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("operations listener") {
        line.clear();
        assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "it ended");
    }
    let address: SocketAddr = line.split("address=").nth(1).unwrap().trim().parse().unwrap();
    let dropped = || {
        let metrics = get(address, "/metrics").unwrap();
        let line = metrics
            .lines()
            .find(|line| line.starts_with("postern_log_lines_dropped_total "))
            .unwrap();
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    // Each reload of this says thousands of lines: more than a pipe and the queue before it take.
    let wrong: String = (0..3000).map(|number| format!("[wrong{number}]\n")).collect();
    place.configure(&wrong);
    until("dropped line", || {
        kill_process(Pid::from_child(&child.0), Signal::HUP).unwrap();
        dropped() > 0.0
    });
    assert!(get(address, "/ready").unwrap().starts_with("HTTP/1.1 200"));
    kill_process(Pid::from_child(&child.0), Signal::TERM).unwrap();
    let mut code = None;
    until("the end of the process", || {
        code = child.0.try_wait().unwrap();
        code.is_some()
    });
    assert_eq!(code.unwrap().code(), Some(0));
}

/// [A10] Needs the planted panic: `cargo test --features failpoints --test daemon`.
#[cfg(feature = "failpoints")]
#[test]
fn a_panic_makes_it_unready_at_once_and_ends_it_with_101() {
    let place = Place::new();
    let now = place.path("now");
    let plan = format!("sink out@{}", now.display());
    let mut daemon = place.start_with(&[("POSTERN_FAILPOINT", &plan)]);
    let address = daemon.await_ready();
    std::fs::write(&now, "").unwrap();
    let planted = Instant::now();
    until("end of readiness", || {
        !get(address, "/ready").is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
    });
    println!("unready after {:?}", planted.elapsed());
    assert_eq!(daemon.await_end().0, Some(101), "{}", daemon.seen.join("\n"));
    let panic =
        daemon.seen.iter().find(|line| line.contains("a defect in Postern: planted in sink out"));
    assert!(panic.is_some(), "{:?}", daemon.seen);
}

#[test]
fn completions_and_manual_name_every_command() {
    let completions = postern(&["completions", "bash"]).output().unwrap();
    let manual = postern(&["man"]).output().unwrap();
    for output in [&completions, &manual] {
        assert!(output.status.success());
        let text = String::from_utf8_lossy(&output.stdout);
        for command in ["run", "check", "tag", "journal"] {
            assert!(text.contains(command), "{command} not in {text}");
        }
    }
}

fn check(config: &Path, more: &[&str]) -> (Option<i32>, String) {
    let arguments = [&["check", "--config", config.to_str().unwrap()], more].concat();
    let output = postern(&arguments).env_remove("HTTPS_PROXY").output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn check_says_what_is_right_and_what_is_wrong_and_what_to_do() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    let (code, list) = check(&place.config(), &[]);
    assert_eq!(code, Some(0), "{list}");
    for line in ["✓ configuration: ", "✓ data directory: ", "✓ disk space: ", "✓ sink out: "]
    {
        assert!(
            list.contains(line) || (line.contains("disk") && list.contains("! disk")),
            "{line:?} not in {list}"
        );
    }
    assert!(!place.path("data").exists(), "check changes nothing");

    let secret = place.path("secret");
    std::fs::write(
        &secret,
        "Endpoint=sb://127.0.0.1/;SharedAccessKeyName=n;SharedAccessKey=hunter2",
    )
    .unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o644)).unwrap();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    place.configure(&format!(
        "[tenant.contoso]\nid = \"11111111-2222-3333-4444-555555555555\"\n\
         [source.hubs]\ntype = \"event_hubs\"\nhubs = [\"defender\"]\nbootstrap = \"{closed}\"\n\
         auth = {{ connection_string = {{ file = \"{}\" }} }}\n\
         [sink.lost]\ntype = \"file\"\ndirectory = \"/nonexistent/parent/out\"\n",
        secret.display()
    ));
    let (code, list) = check(&place.config(), &[]);
    assert_eq!(code, Some(1), "{list}");
    for line in [
        "! source.hubs.auth.connection_string: can be read, by its group or by everybody too\n    → chmod 600",
        "✗ source hubs: ",
        &format!("→ nothing listens on {closed}"),
        "✗ sink lost: ",
        "2 wrong, ",
    ] {
        assert!(list.contains(line), "{line:?} not in {list}");
    }
    assert!(!list.contains("hunter2"), "{list}");

    place.configure("rotate = 7\n");
    let (code, list) = check(&place.config(), &[]);
    assert_eq!(code, Some(2), "{list}");
    assert!(list.contains("postern.toml:9: sink.out.rotate: unknown key"), "{list}");
}

#[test]
fn check_beside_a_running_daemon_says_so_and_does_not_disturb_it() {
    let place = Place::new();
    let mut daemon = place.start();
    let address = daemon.await_ready();
    let (code, list) = check(&place.config(), &["--send-test"]);
    assert_eq!(code, Some(0), "{list}");
    assert!(list.contains("is in use by a running daemon"), "{list}");
    assert!(list.contains("test event to sink out: not sent"), "{list}");
    assert!(get(address, "/ready").unwrap().starts_with("HTTP/1.1 200"));
    daemon.stop();
}

#[test]
fn a_proxy_that_nothing_uses_is_named_but_not_shown() {
    let place = Place::new();
    let output = postern(&["check", "--config", place.config().to_str().unwrap()])
        .env("HTTPS_PROXY", "http://user:hunter2@proxy.contoso.example")
        .output()
        .unwrap();
    let list = String::from_utf8_lossy(&output.stdout);
    assert!(list.contains("! proxy: HTTPS_PROXY is set, but nothing here uses it"), "{list}");
    assert!(!list.contains("hunter2"), "{list}");
}

#[test]
fn a_test_event_reaches_standard_output() {
    let place = Place::new();
    place.configure("[sink.lines]\ntype = \"stdout\"\n");
    let (code, list) = check(&place.config(), &["--send-test"]);
    assert_eq!(code, Some(0), "{list}");
    let event = list.lines().find(|line| line.starts_with('{')).expect(&list);
    let event: serde_json::Value = serde_json::from_str(event).unwrap();
    assert_eq!(event["raw"]["Subject"], "Test event of postern check: nothing happened");
    assert!(list.contains("✓ test event to sink lines: delivered, id "), "{list}");
}
