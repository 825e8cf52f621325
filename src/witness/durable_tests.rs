//! Checkpoints and the disk: what is covered is there, and what was given up is told.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::tests::{Disk, check_bytes, lines, message, open, with_opening};
use super::*;
use crate::identity::KeyPair;

const ORIGIN: &str = "ifswarm-log/five-agent/finance";

fn key() -> KeyPair {
    KeyPair::from_secret(&Sha256::digest("ifswarm fixture key: finance").into())
}

fn log_folder(root: &Path) -> PathBuf {
    root.join("five-agent").join("finance")
}

/// A folder with a log of `n` entries and a checkpoint over all of them.
fn folder_with(n: u64) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path()).unwrap();
    (1..n).for_each(|n| {
        log.append(message(n));
    });
    log.close_signed(&key()).unwrap();
    dir
}

fn read_checkpoint(root: &Path) -> Checkpoint {
    let note = fs::read_to_string(log_folder(root).join(CHECKPOINT_FILE)).unwrap();
    let signed = SignedCheckpoint::open(&note, ORIGIN, &key().public_key()).unwrap();
    signed.checkpoint().clone()
}

fn on(disk: &Disk, policy: SyncPolicy) -> Log {
    with_opening(|mut opening| {
        opening.sync = policy;
        Log::on_sink(opening, Box::new(disk.clone()))
    })
}

/// Opens the log below `root`, which must be refused, and must be left as it is.
fn refused(root: &Path) -> CheckpointFlaw {
    let contents = |name| fs::read(log_folder(root).join(name)).unwrap();
    let before = (contents(ENTRIES_FILE), contents(CHECKPOINT_FILE));
    let err = open(root).unwrap_err();
    assert!(err.to_string().contains("nothing was changed"), "{err}");
    assert_eq!(before, (contents(ENTRIES_FILE), contents(CHECKPOINT_FILE)));
    match err {
        OpenError::Checkpoint { path, flaw } => {
            assert_eq!(path, log_folder(root).join(CHECKPOINT_FILE));
            flaw
        }
        err => panic!("{err}"),
    }
}

#[test]
fn a_closed_log_has_a_checkpoint_over_all_of_it_and_opens_again() {
    let dir = folder_with(5);
    let covered = read_checkpoint(dir.path());
    let report = check(&log_folder(dir.path())).unwrap();
    assert_eq!((covered.size, covered.root), (5, report.root));
    let log = open(dir.path()).unwrap();
    assert_eq!(log.len(), 6);
    // A checkpoint of fewer entries than the newest does not take its place.
    let early = with_opening(Log::in_memory).committed().secure().unwrap();
    let early = early.checkpoint(&key()).unwrap();
    log.folder().unwrap().write_checkpoint(&early).unwrap();
    assert_eq!(read_checkpoint(dir.path()), covered);
    log.close_signed(&key()).unwrap();
    assert_eq!(read_checkpoint(dir.path()).size, 6);
}

/// A killed process leaves a beginning of the new file, and the old one where it was.
#[test]
fn a_checkpoint_cut_at_any_byte_of_its_writing_leaves_the_one_before() {
    let dir = folder_with(3);
    let covered = read_checkpoint(dir.path());
    let note = fs::read(log_folder(dir.path()).join(CHECKPOINT_FILE)).unwrap();
    for length in 0..=note.len() {
        fs::write(log_folder(dir.path()).join("new"), &note[..length]).unwrap();
        let log = open(dir.path()).unwrap();
        let covered_now = read_checkpoint(dir.path());
        assert!(covered_now.size >= covered.size, "cut at {length}");
        let entries = log.len();
        log.close_signed(&key()).unwrap();
        assert_eq!(read_checkpoint(dir.path()).size, entries, "cut at {length}");
    }
}

/// What `witness.sync: never` may leave after a power loss.
#[test]
fn a_checkpoint_that_is_not_whole_is_refused() {
    let dir = folder_with(3);
    let path = log_folder(dir.path()).join(CHECKPOINT_FILE);
    let note = fs::read(&path).unwrap();
    for length in 0..note.len() {
        fs::write(&path, &note[..length]).unwrap();
        let flaw = refused(dir.path());
        assert!(matches!(flaw, CheckpointFlaw::Unreadable(_)), "{flaw}");
    }
    let mut long = note.clone();
    long.resize(1 << 20, b'\n');
    for bad in [vec![0xff; 10], vec![0; note.len()], long] {
        fs::write(&path, bad).unwrap();
        let flaw = refused(dir.path());
        assert!(matches!(flaw, CheckpointFlaw::Unreadable(_)), "{flaw}");
    }
}

#[test]
fn a_log_cut_anywhere_below_its_checkpoint_is_refused_and_not_cut_further() {
    let dir = folder_with(6);
    let entries = log_folder(dir.path()).join(ENTRIES_FILE);
    let whole = fs::read(&entries).unwrap();
    let ends = (0..whole.len()).filter(|at| whole[*at] == b'\n');
    for length in (0..whole.len()).step_by(17).chain(ends) {
        fs::write(&entries, &whole[..length]).unwrap();
        let found = whole[..length].iter().filter(|b| **b == b'\n').count() as u64;
        let flaw = CheckpointFlaw::Truncated { signed: 6, found };
        assert_eq!(refused(dir.path()), flaw, "cut at {length}");
    }
    fs::write(&entries, &whole).unwrap();
    open(dir.path()).unwrap();
}

#[test]
fn a_history_that_was_written_anew_is_refused() {
    let dir = folder_with(6);
    let other = tempfile::tempdir().unwrap();
    let mut log = open(other.path()).unwrap();
    (10..20).for_each(|n| {
        log.append(message(n));
    });
    log.close().unwrap();
    let entries = |root: &Path| log_folder(root).join(ENTRIES_FILE);
    fs::copy(entries(other.path()), entries(dir.path())).unwrap();
    check(&log_folder(dir.path())).expect("good as far as its chain goes");
    assert_eq!(refused(dir.path()), CheckpointFlaw::Mismatch { size: 6 });
}

#[test]
fn a_log_of_another_key_is_foreign_whatever_its_checkpoint() {
    let dir = folder_with(2);
    let err = with_opening(|mut opening| {
        opening.public_key = KeyPair::from_secret(&[2; 32]).public_key();
        Log::open(dir.path(), opening).unwrap_err()
    });
    assert!(
        matches!(err, OpenError::Foreign { what: "key", .. }),
        "{err}"
    );
}

#[test]
fn no_checkpoint_covers_what_is_not_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::default();
    let mut log = on(&disk, SyncPolicy::Batch);
    let folder =
        super::folder::LogFolder::of_sink(dir.path(), Box::new(disk.clone()), SyncPolicy::Batch);
    let committed = |log: &Log| Committed {
        folder: Some(folder.clone()),
        ..log.committed()
    };
    for n in 1..20 {
        log.append(message(2 * n));
        log.commit().unwrap();
        // Neither what was never committed, nor what was after the moment was taken.
        let moment = committed(&log);
        log.append(message(2 * n + 1));
        if n % 2 == 0 {
            log.commit().unwrap();
        }
        let secured = moment.secure().unwrap();
        let covered = secured.checkpoint(&key()).unwrap().checkpoint().clone();
        let survives = disk.0.lock().unwrap().synced.clone();
        let whole = lines(&survives);
        let report = check_bytes(&whole[..covered.size as usize].concat()).unwrap();
        assert_eq!(report.root, covered.root);
        let note = fs::read_to_string(dir.path().join(CHECKPOINT_FILE)).unwrap();
        let newest = SignedCheckpoint::open(&note, ORIGIN, &key().public_key()).unwrap();
        assert_eq!(*newest.checkpoint(), covered);
    }
    disk.0.lock().unwrap().refuses_to_sync = true;
    let err = committed(&log).secure().unwrap_err();
    assert!(matches!(err, WriteError::Sync { .. }), "{err}");
}

#[test]
fn waits_for_the_disk_as_it_is_told() {
    for (policy, syncs) in [
        (SyncPolicy::Never, 0),
        (SyncPolicy::Batch, 1),
        (SyncPolicy::Always, 1),
    ] {
        let disk = Disk::default();
        let mut log = on(&disk, policy);
        log.append(message(1));
        log.commit().unwrap();
        assert_eq!(disk.0.lock().unwrap().syncs, 0, "{policy:?}");
        log.close().unwrap();
        assert_eq!(disk.0.lock().unwrap().syncs, syncs, "{policy:?}");
    }
}

#[test]
fn keeps_the_newest_cosignature_of_each_peer() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).unwrap();
    let peer = KeyPair::from_secret(&[2; 32]);
    let mut signed = log
        .committed()
        .secure()
        .unwrap()
        .checkpoint(&key())
        .unwrap();
    for (id, time) in [("legal", 1), ("if://agent/swarm/legal", 2), ("legal", 3)] {
        let cosigner = format!("ifswarm-log/five-agent/{id}");
        signed = signed.bare(&key().public_key());
        signed.cosign(&cosigner, &peer, time);
        let id = id.parse().unwrap();
        log.folder()
            .unwrap()
            .write_cosignature(&id, &signed)
            .unwrap();
    }
    let folder = log_folder(dir.path()).join(COSIGNATURES_FOLDER);
    let read = |name: &str| {
        let note = fs::read_to_string(folder.join(name)).unwrap();
        SignedCheckpoint::open(&note, ORIGIN, &key().public_key()).unwrap()
    };
    let time = read("legal").cosigned_by("ifswarm-log/five-agent/legal", &peer.public_key());
    assert_eq!(time, Ok(3));
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
    assert!(!log_folder(dir.path()).join("new").exists());
}

/// The last entry of a log, as JSON.
fn last(bytes: &[u8]) -> Value {
    serde_json::from_slice(lines(bytes).last().unwrap()).unwrap()
}

#[test]
fn what_is_given_up_is_counted_and_told_before_what_comes_next() {
    for refuses_to_truncate in [false, true] {
        // Full at every byte of two failing commits.
        for room in 0..700 {
            let disk = Disk::default();
            let mut log = on(&disk, SyncPolicy::Batch);
            log.append(message(1));
            log.commit().unwrap();
            let before = disk.bytes();
            disk.has_room_for(Some(before.len() + room));
            disk.0.lock().unwrap().refuses_to_truncate = refuses_to_truncate;
            for n in [2, 4] {
                log.append(message(n));
                log.append(message(n + 1));
                log.commit().unwrap_err();
                log.give_up();
            }
            assert_eq!((log.unwitnessed(), log.len()), (4, 2), "room for {room}");
            disk.has_room_for(None);
            assert_eq!(log.append(message(6)), 3, "after `log_reopened`");
            if refuses_to_truncate {
                // What is left of others may be longer than these, and would follow them.
                log.commit().unwrap_err();
                disk.0.lock().unwrap().refuses_to_truncate = false;
            }
            log.commit().unwrap();
            assert_eq!(log.unwitnessed(), 0);

            let after = disk.bytes();
            assert!(after.starts_with(&before), "room for {room}");
            let report = check_bytes(&after).unwrap();
            assert_eq!((report.entries, report.root), (4, log.root()));
            let told: Value = serde_json::from_slice(lines(&after)[2]).unwrap();
            assert_eq!(told["event"], "log_reopened");
            assert_eq!(told["metadata"], json!({ "unwitnessed": 4 }));
            assert_eq!(last(&after)["metadata"]["sequence_num"], 6);
        }
    }
}

#[test]
fn a_gap_is_told_when_nothing_else_happens_and_once() {
    let disk = Disk::default();
    let mut log = on(&disk, SyncPolicy::Batch);
    log.commit().unwrap();
    disk.has_room_for(Some(disk.bytes().len()));
    log.append(message(1));
    log.commit().unwrap_err();
    log.give_up();
    for _ in 0..3 {
        log.note_gap(super::tests::at(5));
        log.commit().unwrap_err();
        log.give_up();
    }
    let summary = |log: &Log| log.unwitnessed();
    assert_eq!(summary(&log), 1, "what tells of a gap is no part of it");
    disk.has_room_for(None);
    log.note_gap(super::tests::at(6));
    log.note_gap(super::tests::at(6));
    log.commit().unwrap();
    assert_eq!(last(&disk.bytes())["metadata"]["unwitnessed"], 1);
    assert_eq!(log.close().unwrap().entries, 2);
}
