//! Properties of the code base itself: floors, headers, sizes, words that do not belong here, and paths that
//! the documentation names. Says nothing about what the code does.

#![expect(clippy::unwrap_used, reason = "a tidy test may stop at the first thing it cannot read")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Which floor a top-level module of the library stands on. A module that is not here fails the test.
const FLOORS: &[(&str, u32)] = &[
    ("domain", 0),
    ("normalize", 1),
    ("tagging", 1),
    ("render", 1),
    ("journal", 2),
    ("ledger", 2),
    ("pipeline", 2),
    ("cloud", 3),
    ("source", 3),
    ("sink", 3),
    ("ticket", 3),
    ("simulator", 3),
    ("app", 4),
    ("cli", 4),
    ("config", 4),
    ("main", 4),
    ("lib", 4),
];

/// What floors 0 and 1 may not know.
const IMPURE: &[&str] = &[
    "tokio",
    "std::fs",
    "std::net",
    "std::thread",
    "std::time::Instant",
    "SystemTime",
    "rdkafka",
    "reqwest",
    "std::env",
    "std::process",
];

/// A file grown past this has more than one idea.
const LINES: usize = 500;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &str, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if !["target", ".git", "node_modules"].contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

fn module_of(path: &Path) -> String {
    let inside = path.strip_prefix(root().join("src")).unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

/// The code of a file without its unit tests and comments: tests may look further.
fn code(path: &Path) -> String {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    if name.ends_with("tests.rs") {
        return String::new();
    }
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap();
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

fn complain(what: &str, complaints: &[String]) {
    assert!(complaints.is_empty(), "{what}:\n  {}\n", complaints.join("\n  "));
}

#[test]
fn a_file_uses_its_own_floor_and_those_below() {
    let floors: BTreeMap<&str, u32> = FLOORS.iter().copied().collect();
    let mut complaints = Vec::new();
    for path in files("src", &[".rs"]) {
        let module = module_of(&path);
        let Some(own) = floors.get(module.as_str()) else {
            complaints.push(format!("{}: module {module} stands on no floor", shown(&path)));
            continue;
        };
        for (number, line) in code(&path).lines().enumerate() {
            for used in line.split("crate::").skip(1) {
                let used: String =
                    used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if floors.get(used.as_str()).is_some_and(|floor| floor > own) {
                    complaints.push(format!(
                        "{} (floor {own}) uses crate::{used}, about line {}",
                        shown(&path),
                        number + 1
                    ));
                }
            }
        }
    }
    complain("upstairs is unknown downstairs", &complaints);
}

#[test]
fn floors_0_and_1_know_no_tasks_files_clocks_or_sockets() {
    let mut complaints = Vec::new();
    for folder in ["src/domain", "src/normalize", "src/tagging", "src/render"] {
        for path in files(folder, &[".rs"]) {
            let code = code(&path);
            for word in IMPURE {
                if code.contains(word) {
                    complaints.push(format!("{} mentions {word}", shown(&path)));
                }
            }
        }
    }
    complain("meaning is pure", &complaints);
}

#[test]
fn every_source_file_says_what_it_is_and_has_one_idea() {
    let mut complaints = Vec::new();
    for folder in ["src", "tests", "benches"] {
        for path in files(folder, &[".rs"]) {
            let text = fs::read_to_string(&path).unwrap();
            if !text.starts_with("//!") {
                complaints.push(format!("{} does not open with //!", shown(&path)));
            }
            let lines = text.lines().count();
            if folder == "src" && lines > LINES {
                complaints.push(format!("{} has {lines} lines, more than {LINES}", shown(&path)));
            }
        }
    }
    complain("one file, one idea, said first", &complaints);
}

#[test]
fn nothing_is_left_open_and_no_test_is_switched_off() {
    // Put together here so that this file does not find itself.
    let words = [
        ["TO", "DO"].concat(),
        ["FIX", "ME"].concat(),
        ["XX", "X"].concat(),
        ["todo", "!("].concat(),
        ["unimplemented", "!("].concat(),
        ["#[ig", "nore"].concat(),
    ];
    let mut complaints = Vec::new();
    for folder in ["src", "tests", "benches", "config", "deploy"] {
        for path in files(folder, &[".rs", ".toml", ".sh", ".py", ".service", "run"]) {
            let text = fs::read_to_string(&path).unwrap();
            for (number, line) in text.lines().enumerate() {
                for word in &words {
                    let bare = line.split(|c: char| !c.is_alphanumeric() && c != '!' && c != '#');
                    let found = if word.chars().all(char::is_alphanumeric) {
                        bare.clone().any(|part| part == word)
                    } else {
                        line.contains(word.as_str())
                    };
                    if found {
                        complaints.push(format!("{}:{} has {word}", shown(&path), number + 1));
                    }
                }
            }
        }
    }
    complain("done is done", &complaints);
}

#[test]
fn the_project_names_no_machine_and_no_real_tenant() {
    let words = [
        ["/wo", "rk/"].concat(),
        [".lib", "rary"].concat(),
        ["onmicrosoft", ".com"].concat(),
        ["registry.", "npmjs"].concat(),
    ];
    let endings =
        [".rs", ".toml", ".md", ".sh", ".py", ".service", ".jsonl", ".json", ".yml", ".xml", "run"];
    let mut complaints = Vec::new();
    for path in files(".", &endings) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for word in &words {
            if text.contains(word.as_str()) {
                complaints.push(format!("{} mentions {word}", path.display()));
            }
        }
    }
    complain("the project speaks of itself alone", &complaints);
}

#[test]
fn paths_named_in_the_documents_exist() {
    let mut complaints = Vec::new();
    for document in
        ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "SECURITY.md", "benches/README.md"]
    {
        let Ok(text) = fs::read_to_string(root().join(document)) else {
            complaints.push(format!("{document} is missing"));
            continue;
        };
        for quoted in text.split('`').skip(1).step_by(2) {
            let is_path = ["src/", "tests/", "config/", "deploy/", "benches/", ".ci/"]
                .iter()
                .any(|start| quoted.starts_with(start));
            let path = quoted.split_whitespace().next().unwrap_or_default();
            if is_path && !path.contains(['*', '<', '{']) && !root().join(path).exists() {
                complaints.push(format!("{document} names {path}, which is not there"));
            }
        }
    }
    complain("a page is left true", &complaints);
}

#[test]
fn the_top_level_holds_what_is_agreed_and_nothing_else() {
    let allowed = [
        "Cargo.toml",
        "Cargo.lock",
        "src",
        "config",
        "deploy",
        "benches",
        "tests",
        "README.md",
        "LICENSE",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "SECURITY.md",
        "target",
    ];
    let mut complaints = Vec::new();
    for entry in fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && !allowed.contains(&name.as_str()) {
            complaints.push(name);
        }
    }
    complain("not at the top level", &complaints);
}

#[test]
fn every_lint_exception_gives_its_reason() {
    let bare = ["#[al", "low("].concat();
    let mut complaints = Vec::new();
    for path in files("src", &[".rs"]) {
        let text = fs::read_to_string(&path).unwrap();
        for (number, line) in text.lines().enumerate() {
            if line.contains(&bare) {
                complaints.push(format!("{}:{}", shown(&path), number + 1));
            }
        }
    }
    complain("use #[expect(lint, reason = \"…\")]", &complaints);
}
