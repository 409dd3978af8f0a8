//! What is shipped to run Postern with: the unit keeps its hardening, the container has no rights.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::process::Command;

const UNIT: &str = include_str!("../deploy/postern.service");
const CONTAINER: &str = include_str!("../deploy/Containerfile");

/// The highest exposure that `systemd-analyze security` may report (0 is a sealed box, 10 is root).
const EXPOSURE: f64 = 1.5;

#[test]
fn the_unit_stays_hardened_by_systemds_own_count() {
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/postern.service");
    let analyze =
        Command::new("systemd-analyze").args(["security", "--offline=true", unit]).output();
    let Ok(analyze) = analyze else {
        eprintln!("systemd-analyze is not here: only the directives are checked");
        return;
    };
    let report = String::from_utf8_lossy(&analyze.stdout).into_owned();
    let overall =
        report.lines().find(|line| line.contains("Overall exposure level")).expect(&report);
    let score = overall.split(": ").nth(1).unwrap().split(' ').next().unwrap();
    assert!(score.parse::<f64>().unwrap() <= EXPOSURE, "{overall}");
}

#[test]
fn the_unit_keeps_the_journal_to_itself_and_gives_the_drain_its_time() {
    for line in [
        "DynamicUser=yes",
        "StateDirectory=postern",
        "StateDirectoryMode=0700",
        "ProtectSystem=strict",
        "CapabilityBoundingSet=",
        "MemoryDenyWriteExecute=yes",
        "LimitCORE=0",
        "RestartPreventExitStatus=2 5",
        "ExecReload=/bin/kill -HUP $MAINPID",
    ] {
        assert!(UNIT.lines().any(|is| is == line), "{line} is missing");
    }
    let patience = UNIT.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")).unwrap();
    assert!(patience.parse::<u64>().unwrap() > 10, "draining may take 10 s");
}

#[test]
fn the_container_runs_as_a_user_without_rights_and_without_a_shell() {
    let lines: Vec<&str> = CONTAINER.lines().filter(|line| !line.starts_with('#')).collect();
    let user = lines.iter().find_map(|line| line.strip_prefix("USER ")).unwrap();
    let uid: u32 = user.split(':').next().unwrap().parse().unwrap();
    assert!(uid >= 10_000, "{user}");
    let last = lines.iter().rposition(|line| line.starts_with("FROM ")).unwrap();
    assert!(lines[last].contains("distroless"), "{}", lines[last]);
    assert!(lines[last..].iter().all(|line| !line.starts_with("RUN ")), "nothing can run in it");
    let manifest = include_str!("../Cargo.toml");
    let copied =
        |folder: &str| lines.iter().any(|line| line.starts_with(&format!("COPY {folder} ")));
    for (section, folder) in [("[[bench]]", "benches"), ("[[test]]", "tests")] {
        let named = manifest.lines().any(|line| line == section);
        assert!(!named || copied(folder), "cargo wants {folder}/, which is not copied");
    }
    for source in lines.iter().filter_map(|line| line.strip_prefix("COPY ")) {
        let wanted = source
            .split(' ')
            .rev()
            .skip(1)
            .filter(|word| !word.starts_with("--") && !word.starts_with('/'));
        for path in wanted {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
            assert!(path.exists(), "{} is copied but not there", path.display());
        }
    }
}
