//! Journals on a real disk: what a crash at any byte leaves behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::identity::{AgentId, KeyPair, Session, SwarmName};
use crate::mesh::{Remembered, RememberedSeen};
use crate::message::{Destination, Timestamp};

pub(super) struct Desk {
    pub(super) folder: tempfile::TempDir,
    swarm: SwarmName,
    me: AgentId,
    key: KeyPair,
}

impl Desk {
    pub(super) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            swarm: "five".parse().unwrap(),
            me: id("me"),
            key: KeyPair::from_secret(&[7; 32]),
        }
    }

    pub(super) fn owner(&self) -> Owner<'_> {
        Owner {
            agent_id: &self.me,
            swarm: &self.swarm,
            public_key: self.key.public_key(),
        }
    }

    pub(super) fn open(&self) -> Journal {
        self.try_open().unwrap()
    }

    fn try_open(&self) -> Result<Journal, JournalError> {
        Journal::open(self.folder.path(), self.owner(), session(9))
    }

    pub(super) fn file(&self) -> PathBuf {
        self.folder.path().join("five/me/journal.jsonl")
    }
}

pub(super) fn id(name: &str) -> AgentId {
    name.parse().unwrap()
}

pub(super) fn to(name: &str) -> Destination {
    name.parse().unwrap()
}

pub(super) fn session(n: u64) -> Session {
    Session::new(n, [0; 10])
}

pub(super) fn at(ms: i64) -> Timestamp {
    Timestamp::from_unix_ms(ms)
}

pub(super) fn message(n: u64) -> Bytes {
    Bytes::from(format!("{{\"text\":\"\\\"{n}\\\" é\"}}"))
}

pub(super) fn numbers(peer: &Remembered) -> (Vec<u64>, Vec<u64>) {
    let of = |kept: &[(u64, Duration, Bytes)]| kept.iter().map(|(n, ..)| *n).collect();
    (of(&peer.sent.direct.kept), of(&peer.sent.all.kept))
}

/// Some of everything.
pub(super) fn live(journal: &mut Journal) {
    journal.met(&id("b"));
    for n in 1..=3 {
        journal.accepted(&[id("b")], &to("b"), n, at(1000), &message(n));
    }
    journal.accepted(&[id("b"), id("c")], &to("*"), 1, at(2000), &message(10));
    journal.settled(&id("b"), &to("b"), 0, 1);
    journal.settled(&id("b"), &to("b"), 3, 3);
    journal.settled(&id("c"), &to("*"), 0, 1);
    journal.seen(&id("b"), session(4), false, 6);
    journal.seen(&id("b"), session(5), false, 2);
    journal.seen(&id("b"), session(5), true, 8);
    journal.seen(&id("b"), session(4), false, 7);
    for taken in [1, 4, 5] {
        journal.taken(&id("b"), session(5), false, taken);
    }
    journal.commit().unwrap();
}

pub(super) fn check(journal: &Journal) {
    let (used, peers) = journal.remembered(at(5000));
    assert_eq!(used, 1);
    let [b, c] = &peers[..] else {
        panic!("{peers:?}");
    };
    assert_eq!(numbers(b), (vec![2], vec![1]));
    assert_eq!(numbers(c), (vec![], vec![]));
    assert_eq!((b.sent.direct.greatest, b.sent.all.greatest), (3, 1));
    assert_eq!(c.sent.all.greatest, 1);
    let (number, age, bytes) = &b.sent.direct.kept[0];
    assert_eq!((*number, age.as_secs()), (2, 4));
    assert_eq!(*bytes, message(2), "byte for byte");
    let (seen, lanes) = b.seen.clone().unwrap();
    assert_eq!(seen, session(5));
    let all_up_to = |up_to, beyond: &[u64]| RememberedSeen {
        up_to: Some(up_to),
        beyond: beyond.iter().copied().collect(),
    };
    assert_eq!(lanes.direct, all_up_to(2, &[4, 5]));
    assert_eq!(lanes.all, all_up_to(8, &[]));
    assert_eq!(c.seen, None);
}

#[test]
fn what_was_kept_is_there_again_in_the_same_session() {
    let desk = Desk::new();
    let mut journal = desk.open();
    live(&mut journal);
    check(&journal);
    drop(journal);
    let again = Journal::open(desk.folder.path(), desk.owner(), session(77)).unwrap();
    assert_eq!(again.session(), session(9));
    check(&again);
}

#[test]
fn a_note_writes_nothing_of_what_waits_for_the_commit() {
    let desk = Desk::new();
    let mut journal = desk.open();
    journal.accepted(&[id("b")], &to("b"), 1, at(1000), &message(1));
    journal.note(&id("b"), session(5), false, 3).unwrap();
    journal.break_off();
    journal.accepted(&[id("b")], &to("b"), 2, at(1000), &message(2));
    journal.commit().unwrap_err();
    journal.note(&id("b"), session(5), false, 4).unwrap_err();
    drop(journal);
    let (_, peers) = desk.open().remembered(at(5000));
    let [b] = &peers[..] else {
        panic!("{peers:?}");
    };
    assert_eq!(numbers(b), (vec![], vec![]));
    assert_eq!(b.seen.as_ref().unwrap().1.direct.beyond, [3].into());
}

#[test]
fn a_crash_at_any_byte_loses_the_torn_line_and_no_other() {
    let desk = Desk::new();
    live(&mut desk.open());
    let whole = fs::read(desk.file()).unwrap();
    for length in 0..whole.len() {
        fs::write(desk.file(), &whole[..length]).unwrap();
        let journal = desk.open();
        let lines = whole[..length].iter().filter(|b| **b == b'\n').count();
        if lines > 0 {
            let kept = fs::read(desk.file()).unwrap();
            assert!(whole.starts_with(&kept) && kept.ends_with(b"\n"));
            assert_eq!(kept.iter().filter(|b| **b == b'\n').count(), lines);
        }
        drop(journal);
    }
}

#[test]
fn another_session_gives_back_what_was_kept_and_remembers_what_was_seen() {
    let desk = Desk::new();
    let mut journal = desk.open();
    live(&mut journal);
    let lost = journal.renew(session(20)).unwrap();
    let lost: Vec<_> = lost
        .iter()
        .map(|lost| (lost.destination.as_str(), lost.sequence_num))
        .collect();
    assert_eq!(lost, [("b", 2), ("*", 1)]);
    drop(journal);
    let again = desk.open();
    assert_eq!(again.session(), session(20));
    let (used, peers) = again.remembered(at(0));
    assert_eq!((used, peers[0].sent.direct.greatest), (0, 0));
    assert!(peers[0].seen.is_some());
}

#[test]
fn refuses_what_is_in_use_anothers_or_damaged() {
    let desk = Desk::new();
    let mut journal = desk.open();
    let err = desk.try_open().unwrap_err();
    assert!(err.to_string().contains("in use by process"), "{err}");
    journal.met(&id("b"));
    journal.commit().unwrap();
    drop(journal);

    let owner = Owner {
        public_key: KeyPair::from_secret(&[8; 32]).public_key(),
        ..desk.owner()
    };
    let err = Journal::open(desk.folder.path(), owner, session(9)).unwrap_err();
    assert!(err.to_string().contains("opened for key"), "{err}");

    let text = fs::read_to_string(desk.file()).unwrap();
    for (broken, said) in [
        (
            text.replace("\"version\":1", "\"version\":2"),
            "found version 2",
        ),
        (
            text.replace("\"direct\":0", "\"direct\":9007199254740992"),
            "found number 9007199254740992, expected at most 9007199254740991",
        ),
        (format!("{text}{text}"), "opened twice"),
        (
            text.lines().last().unwrap().to_owned() + "\n",
            "expected `opened` first",
        ),
        (format!("{text}nonsense\n{{}}\n"), "journal.jsonl:3"),
    ] {
        fs::write(desk.file(), &broken).unwrap();
        let err = desk.try_open().unwrap_err();
        assert!(err.to_string().contains(said), "{err}");
        assert_eq!(fs::read_to_string(desk.file()).unwrap(), broken);
    }
}

#[test]
fn what_is_no_file_is_not_waited_for() {
    let desk = Desk::new();
    fs::create_dir_all(desk.file().parent().unwrap()).unwrap();
    let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
    rustix::fs::mknodat(rustix::fs::CWD, desk.file(), kind, mode, 0).unwrap();
    let err = desk.try_open().unwrap_err();
    assert!(err.to_string().contains("not a regular file"), "{err}");
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let desk = Desk::new();
    let file = desk.folder.path().join("file");
    fs::write(&file, "").unwrap();
    let err = Journal::open(&file, desk.owner(), session(9)).unwrap_err();
    assert!(err.to_string().contains("choose an outbox folder"), "{err}");
    assert!(Path::new(&file).is_file());
}

#[test]
fn of_what_a_full_disk_takes_in_part_nothing_is_there_after_the_restart() {
    if std::env::var_os(LIMITED).is_some() {
        return fill_the_disk();
    }
    // Its limit on the size of files holds for a whole process. Ignored, the signal does not end
    // it, and a write fails as on a full disk.
    let mut sh = std::process::Command::new("sh");
    sh.args(["-c", r#"trap '' XFSZ; exec "$@""#, "sh"]);
    sh.arg(std::env::current_exe().unwrap());
    let this =
        "outbox::tests::of_what_a_full_disk_takes_in_part_nothing_is_there_after_the_restart";
    sh.args([this, "--exact"]).env(LIMITED, "yes");
    let done = sh.output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success() && said.contains("1 passed"), "{said}");
}

fn fill_the_disk() {
    let desk = Desk::new();
    let mut journal = desk.open();
    live(&mut journal);
    let before = fs::read(desk.file()).unwrap();
    for n in 10..30 {
        journal.accepted(&[id("b")], &to("b"), n, at(1000), &message(n));
    }
    let limit = rlimit::Resource::FSIZE;
    let hard = limit.get_hard().unwrap();
    limit.set(before.len() as u64 + 1000, hard).unwrap();
    let err = journal.commit().unwrap_err();
    limit.set(hard, hard).unwrap();
    assert!(err.to_string().contains("File too large"), "{err}");
    // There is room again, and it is too late.
    journal.commit().unwrap();
    journal.note(&id("b"), session(5), false, 9).unwrap_err();
    drop(journal);
    assert_eq!(fs::read(desk.file()).unwrap(), before);
    check(&desk.open());
}

/// Set where this process is the one with the limit.
const LIMITED: &str = "IFSWARM_TEST_OUTBOX_LIMITED";

#[test]
fn folders_that_were_made_for_it_are_synced_with_it() {
    let desk = Desk::new();
    let mut journal = desk.open();
    let root = desk.folder.path();
    let file = journal.file();
    assert_eq!(
        file.unsynced,
        [&root.join("five/me"), &root.join("five"), root]
    );
    file.sync().unwrap();
    assert!(journal.file().unsynced.is_empty());
    drop(journal);
    // Its own name may be what a crash came before.
    assert_eq!(desk.open().file().unsynced, [root.join("five/me")]);
}

#[test]
fn a_time_out_of_this_world_is_the_age_of_no_message() {
    let desk = Desk::new();
    live(&mut desk.open());
    let text = fs::read_to_string(desk.file()).unwrap();
    for (time, age) in [(i64::MIN, i64::MAX as u64), (i64::MAX, 0)] {
        let changed = text.replace("\"at\":1000", &format!("\"at\":{time}"));
        fs::write(desk.file(), changed).unwrap();
        let (_, peers) = desk.open().remembered(at(5000));
        assert_eq!(peers[0].sent.direct.kept[0].1, Duration::from_millis(age));
    }
}
