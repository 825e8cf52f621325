//! Writes cut short, full disks, locks, reopening, and the golden log.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::tests::{Disk, at, check_bytes, lines, message, open, with_opening};
use super::*;
use crate::identity::KeyPair;

fn entries_file(root: &Path) -> PathBuf {
    root.join("five-agent").join("finance").join(ENTRIES_FILE)
}

/// A folder with a log of `n` entries.
fn folder_with(n: u64) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path()).unwrap();
    (1..n).for_each(|n| {
        log.append(message(n));
    });
    log.close().unwrap();
    dir
}

#[test]
fn goes_on_with_a_log_where_it_ended() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path()).unwrap();
    log.append(message(1));
    assert_eq!(
        check(log.path().unwrap()).unwrap().entries,
        1,
        "before the commit"
    );
    log.commit().unwrap();
    assert_eq!(check(log.path().unwrap()).unwrap().entries, 2);
    let first = log.close().unwrap();
    assert_eq!(first.entries, 2);

    let mut log = open(dir.path()).unwrap();
    assert_eq!(log.append(message(2)), 3, "after `log_reopened`");
    let second = log.close().unwrap();
    let path = second.path.unwrap();
    assert_eq!(path, entries_file(dir.path()));
    let report = check(path.parent().unwrap()).unwrap();
    assert_eq!((report.entries, report.root), (4, second.root));
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.lines().nth(2).unwrap().contains("\"log_reopened\""));
    assert!(!text.contains("dropped_bytes"));
    check_bytes(text.as_bytes()).unwrap();
}

#[test]
fn keeps_the_log_to_its_owner() {
    let dir = folder_with(1);
    let file = entries_file(dir.path());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(file.parent().unwrap()), 0o700);
    assert_eq!(mode(&dir.path().join("five-agent")), 0o700);
}

/// What a killed `write` leaves is a beginning of its bytes, so every length is tried.
#[test]
fn a_write_cut_at_any_byte_loses_at_most_the_torn_line() {
    let dir = folder_with(10);
    let file = entries_file(dir.path());
    let log = fs::read(&file).unwrap();
    for length in 0..=log.len() {
        fs::write(&file, &log[..length]).unwrap();
        let log_again = open(dir.path()).unwrap();
        let whole: usize = lines(&log[..length])
            .iter()
            .filter(|line| line.ends_with(b"\n"))
            .map(|line| line.len())
            .sum();
        let torn = length - whole;
        assert_eq!(log_again.dropped_bytes(), torn as u64, "cut at {length}");
        let now = fs::read(&file).unwrap();
        assert!(now.starts_with(&log[..whole]), "cut at {length}");
        assert_eq!(check_bytes(&now).unwrap().root, log_again.root());
        let last = lines(&now).last().unwrap().to_vec();
        let told = format!("\"metadata\":{{\"dropped_bytes\":{torn}}}");
        let last = String::from_utf8(last).unwrap();
        assert_eq!(last.contains(&told), torn > 0, "cut at {length}: {last}");
    }
}

#[test]
fn refuses_a_broken_chain_and_leaves_it_as_it_is() {
    let dir = folder_with(5);
    let file = entries_file(dir.path());
    let broken = fs::read_to_string(&file)
        .unwrap()
        .replacen("inform", "refuse", 1)
        + "torn";
    fs::write(&file, &broken).unwrap();
    let err = open(dir.path()).unwrap_err();
    let OpenError::Flawed { path, flaw } = &err else {
        panic!("{err}")
    };
    assert_eq!((path, flaw.line), (&file, 3));
    assert_eq!(flaw.reason, Reason::ChainBroken);
    assert_eq!(fs::read_to_string(&file).unwrap(), broken);
}

#[test]
fn cuts_off_no_more_than_one_line_can_be() {
    let dir = folder_with(2);
    let file = entries_file(dir.path());
    let mut bytes = fs::read(&file).unwrap();
    bytes.resize(bytes.len() + (1 << 20) + 1, 0);
    fs::write(&file, &bytes).unwrap();
    let err = open(dir.path()).unwrap_err();
    assert!(matches!(err, OpenError::Flawed { .. }), "{err}");
    assert_eq!(fs::read(&file).unwrap().len(), bytes.len());
}

#[test]
fn has_one_writer_and_says_who_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).unwrap();
    let err = open(dir.path()).unwrap_err();
    let holder = format!("process {}", std::process::id());
    assert!(matches!(err, OpenError::Locked { .. }), "{err}");
    assert!(err.to_string().contains(&holder), "{err}");
    drop(log);
    open(dir.path()).unwrap();
}

#[test]
fn stays_with_the_key_it_was_opened_with() {
    let dir = folder_with(1);
    let other = KeyPair::from_secret(&[2; 32]).public_key();
    let err = with_opening(|mut opening| {
        opening.public_key = other;
        Log::open(dir.path(), opening).unwrap_err()
    });
    assert!(
        matches!(err, OpenError::Foreign { what: "key", .. }),
        "{err}"
    );
    assert!(err.to_string().contains(&other.to_string()), "{err}");
}

#[test]
fn says_which_folder_cannot_be_used() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("five-agent");
    fs::write(&file, "").unwrap();
    let text = open(dir.path()).unwrap_err().to_string();
    assert!(
        text.contains("five-agent") && text.contains("choose"),
        "{text}"
    );
    let text = check(&dir.path().join("none")).unwrap_err().to_string();
    assert!(
        text.contains("none") && text.contains(ENTRIES_FILE),
        "{text}"
    );
}

#[test]
fn a_full_disk_loses_and_doubles_nothing() {
    let begin = || {
        let disk = Disk::default();
        let mut log = with_opening(|opening| Log::on_sink(opening, Box::new(disk.clone())));
        log.append(message(1));
        log.commit().unwrap();
        (disk, log)
    };
    let (disk, mut log) = begin();
    let before = disk.bytes();
    (2..5).for_each(|n| {
        log.append(message(n));
    });
    log.commit().unwrap();
    let after = disk.bytes();

    for refuses_to_truncate in [false, true] {
        for room in before.len()..after.len() {
            let (disk, mut log) = begin();
            disk.has_room_for(Some(room));
            disk.0.lock().unwrap().refuses_to_truncate = refuses_to_truncate;
            log.append(message(2));
            log.append(message(3));
            // May succeed; the next one cannot.
            let _ = log.commit();
            log.append(message(4));
            let err = log.commit().unwrap_err();
            assert!(matches!(err, WriteError::Full { .. }), "{err}");
            assert!(disk.0.lock().unwrap().failures > 0);
            let left = disk.bytes();
            assert!(after.starts_with(&left), "room for {room}");
            if !refuses_to_truncate {
                check_bytes(&left).unwrap();
            }
            disk.has_room_for(None);
            log.commit().unwrap();
            assert_eq!(disk.bytes(), after, "room for {room}");
        }
    }
}

#[test]
fn tells_a_full_disk_from_other_failures() {
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut log = with_opening(|opening| Log::on_sink(opening, Box::new(full)));
    let err = log.commit().unwrap_err();
    assert!(matches!(err, WriteError::Full { .. }), "{err}");
    assert!(err.to_string().contains("make room"), "{err}");

    let closed = fs::File::open("/dev/null").unwrap();
    let mut log = with_opening(|opening| Log::on_sink(opening, Box::new(closed)));
    let err = log.commit().unwrap_err();
    assert!(matches!(err, WriteError::Io { .. }), "{err}");
}

/// Set `IFSWARM_WRITE_FIXTURES=1` to write the golden log again.
#[test]
fn writes_the_golden_log() {
    let legal = "legal".parse().unwrap();
    let disk = Disk::default();
    let mut log = with_opening(|opening| Log::on_sink(opening, Box::new(disk.clone())));
    log.append(Entry::new(Event::SignalingConnected, at(1)).metadata(json!({"agents": 1})));
    log.append(
        Entry::new(Event::DatachannelOpen, at(33))
            .peer(&legal)
            .metadata(json!({
                "channels": ["if-agent-messaging", "if-agent-control"],
                "link": "00112233445566ff",
            })),
    );
    log.append(message(1));
    log.append(
        Entry::new(Event::IfmessageRejected, at(40))
            .peer(&legal)
            .metadata(json!({
                "reason": "malformed",
                "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                "note": "\u{20ac}\u{f}\n\"\\/",
                "score": 0.002,
            })),
    );
    log.append(Entry::new(Event::PeerLost, at(30_040)).peer(&legal));
    log.commit().unwrap();

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/witness/entries.jsonl");
    if std::env::var_os("IFSWARM_WRITE_FIXTURES").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, disk.bytes()).unwrap();
    }
    let golden = fs::read(&path).expect("set IFSWARM_WRITE_FIXTURES=1 to write it");
    assert_eq!(
        golden,
        disk.bytes(),
        "set IFSWARM_WRITE_FIXTURES=1 to write it again"
    );
    let report = check(&path).unwrap();
    assert_eq!((report.entries, report.root), (6, log.root()));
}
