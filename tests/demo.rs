//! `postern demo` as a stranger runs it: one command, no account, no broker; and its verdict checked by the
//! second opinion, which shares no code with it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may assume"
)]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

fn demo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
    command.arg("demo").args(arguments);
    command
}

#[track_caller]
fn text(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}\n{text}\n{errors}", output.status);
    text
}

/// A test that fails leaves no process behind.
struct KilledAtEnd(Child);

impl Drop for KilledAtEnd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ndjson_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "ndjson"))
        .collect();
    files.sort();
    files
}

#[test]
fn the_demo_proves_that_nothing_was_lost_and_the_second_opinion_agrees() {
    let parent = tempfile::tempdir().unwrap();
    let (data, truth) = (parent.path().join("data"), parent.path().join("truth.ndjson"));
    let (data, truth) = (data.to_str().unwrap(), truth.to_str().unwrap());
    let output = demo(&["--for", "6s", "--seed", "5", "--rate", "80"])
        .args(["--data-dir", data, "--truth", truth])
        .output()
        .unwrap();
    let text = text(&output);
    assert!(text.contains("arrived exactly once"), "{text}");
    for transport in ["over hunting", "over storage", "alerts", "incidents", "audit records"] {
        assert!(text.contains(transport), "every transport has its part: {text}");
    }
    assert!(!text.contains('\u{1b}'), "a pipe gets no escape codes: {text}");
    assert!(text.contains(data), "it says where the data is: {text}");

    let export = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
        command.args(["journal", "export", "--config"]).arg(Path::new(data).join("postern.toml"));
        let output = command.args(more).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let lines = |text: &[u8]| text.iter().filter(|byte| **byte == b'\n').count();
    let events = export(&[]);
    let dead_letters = lines(&export(&["--dead-letters"])) - lines(&events);
    let journal = parent.path().join("export.ndjson");
    std::fs::write(&journal, &events).unwrap();

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/oracle.py");
    let oracle = Command::new("python3")
        .arg(script)
        .args(["--truth", truth, "--dead-letters", &dead_letters.to_string(), "--journal"])
        .arg(&journal)
        .arg("--sink")
        .args(ndjson_files(&Path::new(data).join("events")))
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&oracle.stdout);
    assert!(oracle.status.success(), "{words}");
    assert!(words.contains("verdict: right"), "{words}");
}

#[test]
fn ctrl_c_ends_the_demo_in_good_order_and_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let child = demo(&["--rate", "40"])
        .env("TMPDIR", temporary.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut child = KilledAtEnd(child);
    let child = &mut child.0;
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // The second line with figures means that events flow.
    let figures = lines.by_ref().map(Result::unwrap).filter(|line| line.contains("in the journal"));
    assert!(figures.take(2).count() == 2);
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 1);
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    let status = child.wait().unwrap();
    assert!(status.success(), "{status:?} {rest:#?}");
    assert!(rest.iter().any(|line| line.contains("arrived exactly once")), "{rest:#?}");
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0, "{rest:#?}");
}

#[test]
fn a_folder_with_something_in_it_is_refused_before_anything_begins() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mine"), "mine").unwrap();
    let output = demo(&["--data-dir"]).arg(folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("is not empty"), "{errors}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}
