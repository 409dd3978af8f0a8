//! Tests of the writer: recovery by damage, rotation, and what it refuses to touch.

use tempfile::TempDir;

use super::*;

const NOW: Ticks = Ticks(17_000_000_000_000_000);

struct Files {
    home: TempDir,
    config: FileConfig,
}

impl Files {
    fn new() -> Self {
        let home = TempDir::new().unwrap();
        let config = FileConfig::into_directory(home.path());
        Self { home, config }
    }

    #[track_caller]
    fn open(&self, position: Offset) -> Writer {
        Writer::open("siem", self.config.clone(), position, NOW).unwrap()
    }

    fn path(&self, sequence: u64) -> PathBuf {
        file_path("siem", self.home.path(), sequence)
    }

    /// All lines of all files, in order; panics over half a line.
    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for sequence in sequences("siem", self.home.path()).unwrap() {
            let text = fs::read_to_string(self.path(sequence)).unwrap();
            assert!(text.is_empty() || text.ends_with('\n'), "half a line in file {sequence}");
            lines.extend(text.lines().map(str::to_owned));
        }
        lines
    }

    fn append_raw(&self, sequence: u64, bytes: &[u8]) {
        let mut file = OpenOptions::new().append(true).open(self.path(sequence)).unwrap();
        file.write_all(bytes).unwrap();
    }
}

#[test]
fn what_was_written_after_the_recorded_position_is_cut_at_the_next_start() {
    let files = Files::new();
    let mut writer = files.open(40);
    writer.append(b"{\"n\":40}\n{\"n\":41}\n", 42, NOW).unwrap();
    drop(writer);
    for torn in [&b"{\"n\":42}\n"[..], b"{\"n\":4", b"\0\0\0\0", b"{\"n\":42}\n{\"n\":43}\n{"] {
        files.append_raw(1, torn);
        let writer = files.open(0);
        assert_eq!(writer.position(), 42, "the file's own position counts, not the journal's");
        assert_eq!(files.lines(), ["{\"n\":40}", "{\"n\":41}"]);
    }
    let mut writer = files.open(0);
    writer.append(b"{\"n\":42}\n", 43, NOW).unwrap();
    assert_eq!(files.lines().len(), 3);
}

#[test]
fn without_a_recorded_position_a_torn_line_is_cut_and_a_new_file_begun() {
    let files = Files::new();
    fs::write(files.path(7), b"{\"n\":1}\n{\"n\":2").unwrap();
    let mut writer = files.open(2);
    assert_eq!(writer.position(), 2);
    writer.append(b"{\"n\":2}\n", 3, NOW).unwrap();
    assert_eq!(files.lines(), ["{\"n\":1}", "{\"n\":2}"]);
    assert!(files.path(8).exists());
    fs::remove_file(position_path("siem", files.home.path())).unwrap();
    fs::write(files.path(8), vec![b'x'; 200_000]).unwrap();
    drop(files.open(3));
    assert_eq!(files.lines(), ["{\"n\":1}"], "a line without an end is no line, however long");
}

#[test]
fn files_rotate_by_size_and_by_age_and_names_go_on_after_a_restart() {
    let mut files = Files::new();
    files.config.rotate_bytes = 20;
    files.config.rotate_minutes = 10;
    let mut writer = files.open(0);
    writer.append(b"{\"n\":0}\n", 1, NOW).unwrap();
    writer.append(b"{\"n\":1}\n", 2, NOW).unwrap();
    writer.append(b"{\"n\":2}\n", 3, NOW).unwrap();
    assert!(files.path(2).exists() && !files.path(3).exists(), "by size");
    drop(writer);
    let mut writer = files.open(0);
    writer.append(b"{\"n\":3}\n", 4, NOW.plus_seconds(599)).unwrap();
    assert!(!files.path(3).exists());
    writer.append(b"{}\n", 5, NOW.plus_seconds(600)).unwrap();
    assert!(files.path(3).exists(), "by age");
    // A clock that goes back rotates nothing and breaks nothing.
    writer.append(b"{}\n", 6, NOW.plus_seconds(-90_000)).unwrap();
    assert_eq!(files.lines().len(), 6);
    // A batch larger than a file is not split.
    writer.append(&b"{\"n\":6}\n".repeat(10), 16, NOW).unwrap();
    assert_eq!(fs::metadata(files.path(4)).unwrap().len(), 80);
}

#[test]
fn a_file_begun_by_a_rotation_that_never_finished_is_removed() {
    let files = Files::new();
    files.open(0).append(b"{\"n\":0}\n", 1, NOW).unwrap();
    fs::write(files.path(2), b"{\"n\":1}\n").unwrap();
    let writer = files.open(0);
    assert_eq!(writer.position(), 1);
    assert_eq!(files.lines(), ["{\"n\":0}"]);
}

#[test]
fn more_files_than_a_rotation_leaves_behind_are_not_touched() {
    let files = Files::new();
    drop(files.open(0));
    fs::write(files.path(2), b"{}\n").unwrap();
    fs::write(files.path(3), b"{}\n").unwrap();
    let error = Writer::open("siem", files.config.clone(), 0, NOW).unwrap_err();
    assert_eq!(error.failure(), Failure::Hold, "{error}");
    assert!(files.path(2).exists() && files.path(3).exists());
}

#[test]
fn a_file_that_was_taken_away_or_shortened_leads_to_a_new_one_at_the_same_position() {
    let files = Files::new();
    files.open(0).append(b"{\"n\":0}\n{\"n\":1}\n", 2, NOW).unwrap();
    fs::write(files.path(1), b"{\"n\":0}\n{\"n").unwrap();
    assert_eq!(files.open(0).position(), 2);
    assert_eq!(files.lines(), ["{\"n\":0}"]);
    fs::remove_file(files.path(2)).unwrap();
    assert_eq!(files.open(0).position(), 2);
    assert!(files.path(3).exists());
}

#[test]
fn a_position_that_cannot_be_read_holds_and_changes_nothing() {
    let files = Files::new();
    files.open(0).append(b"{}\n", 1, NOW).unwrap();
    let record = position_path("siem", files.home.path());
    for text in ["", "{}", "{\"version\":2}", "not json"] {
        fs::write(&record, text).unwrap();
        let error = Writer::open("siem", files.config.clone(), 0, NOW).unwrap_err();
        assert_eq!(error.failure(), Failure::Hold, "{text}");
        assert_eq!(files.lines(), ["{}"]);
    }
}

#[test]
fn only_as_many_files_are_kept_as_configured() {
    let mut files = Files::new();
    files.config.rotate_bytes = 1;
    files.config.keep_files = 3;
    let mut writer = files.open(0);
    for next in 1..10 {
        writer.append(b"{}\n", next, NOW).unwrap();
    }
    assert_eq!(sequences("siem", files.home.path()).unwrap(), [7, 8, 9]);
}

#[test]
fn files_of_other_sinks_and_of_people_are_left_alone() {
    let files = Files::new();
    for name in ["siem-2-00000009.ndjson", "siem-1.ndjson", "siem-0000000x.ndjson", "x.ndjson"] {
        fs::write(files.home.path().join(name), "half").unwrap();
    }
    drop(files.open(0));
    assert_eq!(sequences("siem", files.home.path()).unwrap(), [1]);
    assert_eq!(fs::read(files.home.path().join("siem-2-00000009.ndjson")).unwrap(), b"half");
}

#[test]
fn a_missing_volume_holds_and_a_full_one_is_tried_again() {
    let files = Files::new();
    let mut config = files.config.clone();
    config.directory = files.home.path().join("not/mounted");
    let error = Writer::open("siem", config, 0, NOW).unwrap_err();
    assert_eq!(error.failure(), Failure::Hold, "{error}");
    for (kind, expected) in [
        (ErrorKind::StorageFull, Failure::Retry(None)),
        (ErrorKind::QuotaExceeded, Failure::Retry(None)),
        (ErrorKind::FileTooLarge, Failure::Retry(None)),
        (ErrorKind::PermissionDenied, Failure::Hold),
        (ErrorKind::ReadOnlyFilesystem, Failure::Hold),
    ] {
        let error = FileError::io("write", Path::new("x"))(io::Error::from(kind));
        assert_eq!(error.failure(), expected, "{kind}");
    }
}

#[test]
fn a_batch_that_could_not_be_written_is_not_recorded_and_comes_again() {
    let files = Files::new();
    let mut writer = files.open(0);
    writer.append(b"{\"n\":0}\n", 1, NOW).unwrap();
    // A handle that cannot write stands for a disk that does not.
    writer.file = File::open(files.path(1)).unwrap();
    let error = writer.append(b"{\"n\":1}\n", 2, NOW).unwrap_err();
    assert_eq!(error.failure(), Failure::Retry(None), "{error}");
    drop(writer);
    let mut writer = files.open(0);
    assert_eq!(writer.position(), 1);
    writer.append(b"{\"n\":1}\n", 2, NOW).unwrap();
    assert_eq!(files.lines(), ["{\"n\":0}", "{\"n\":1}"]);
}
