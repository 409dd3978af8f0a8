//! One run of the real program: started, watched through its own listener, signalled, and never left behind.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The running program. Dropping it kills it.
pub struct Daemon {
    child: Child,
    log: PathBuf,
    ops_port: u16,
}

/// The program under test.
pub fn postern() -> Command {
    Command::new(env!("CARGO_BIN_EXE_postern"))
}

impl Daemon {
    /// Starts `command` (which ends in running the program with a configuration whose listener is at
    /// `ops_port`); standard error goes to the end of `log`.
    pub fn start(mut command: Command, log: &Path, ops_port: u16) -> Self {
        let file = fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .expect("the program starts");
        Self { child, log: log.to_owned(), ops_port }
    }

    /// The last lines of its log.
    pub fn log(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// `kill -9`, at whatever moment this is.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and its exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.wait()
    }

    /// Waits for it to end by itself, and its exit code.
    pub fn wait(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "it does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Asks its listener; `None` while it does not answer.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.ops_port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, body.to_owned()))
    }

    /// A metric's value; `None` while there is none.
    pub fn metric(&self, series: &str) -> Option<f64> {
        let (_, text) = self.get("/metrics")?;
        text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
    }

    /// The metrics that are not 0, for the message of a failed test.
    fn figures(&self) -> String {
        let (_, text) = self.get("/metrics").unwrap_or_default();
        let told = |line: &&str| !line.starts_with('#') && !line.ends_with(" 0");
        text.lines().filter(told).collect::<Vec<_>>().join("\n")
    }

    /// Waits until a metric is as it should be.
    pub fn wait_for_metric(&mut self, series: &str, good: impl Fn(f64) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let value = self.metric(series);
            if value.is_some_and(&good) {
                return;
            }
            assert!(self.is_running(), "it ended while {series} was {value:?}:\n{}", self.log());
            assert!(
                Instant::now() < deadline,
                "{series} is {value:?}:\n{}\n{}\n{:?}",
                self.log(),
                self.figures(),
                self.get("/ready")
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until `/ready` answers with this status.
    pub fn wait_for_ready(&mut self, wanted: u16) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.get("/ready");
            if answer.as_ref().is_some_and(|(status, _)| *status == wanted) {
                return;
            }
            assert!(self.is_running(), "it ended:\n{}", self.log());
            assert!(Instant::now() < deadline, "/ready says {answer:?}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
