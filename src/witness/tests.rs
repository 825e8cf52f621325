//! Tampering with a log, and what the tests of the room share.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::check::{Checker, ReadError};
use super::disk::Sink;
use super::*;
use crate::identity::{AgentId, KeyPair, SwarmName};
use crate::message::Timestamp;

pub(super) fn at(ms: i64) -> Timestamp {
    Timestamp::from_unix_ms(1_769_847_330_000 + ms)
}

/// Calls `f` with an opening of the log of `finance` in `five-agent`.
pub(super) fn with_opening<T>(f: impl FnOnce(Opening<'_>) -> T) -> T {
    let id: AgentId = "finance".parse().unwrap();
    let swarm: SwarmName = "five-agent".parse().unwrap();
    f(Opening {
        agent_id: LogOwner::Agent(&id),
        swarm: &swarm,
        // As in `fixtures/roster.yaml`.
        public_key: KeyPair::from_secret(&Sha256::digest("ifswarm fixture key: finance").into())
            .public_key(),
        now: at(0),
        sync: SyncPolicy::Batch,
    })
}

pub(super) fn open(root: &Path) -> Result<Log, OpenError> {
    with_opening(|opening| Log::open(root, opening))
}

pub(super) fn message(n: u64) -> Entry {
    Entry::new(Event::IfmessageSent, at(n as i64))
        .peer(&"legal".parse().unwrap())
        .trace("0123456789abcdef01234567")
        .metadata(json!({
            "destination": "legal",
            "message_id": format!("01890a5d-ac96-774b-bcce-{n:012x}"),
            "performative": "inform",
            "sequence_num": n,
            "sha256": hex::encode(Sha256::digest(n.to_be_bytes())),
        }))
}

/// A log of 60 entries, as bytes.
fn sixty() -> Vec<u8> {
    let disk = Disk::default();
    let mut log = with_opening(|opening| Log::on_sink(opening, Box::new(disk.clone())));
    (1..60).for_each(|n| {
        log.append(message(n));
    });
    log.commit().unwrap();
    disk.bytes()
}

pub(super) fn lines(log: &[u8]) -> Vec<&[u8]> {
    log.split_inclusive(|b| *b == b'\n').collect()
}

pub(super) fn check_bytes(bytes: &[u8]) -> Result<Report, Flaw> {
    check_reader(bytes, Path::new("log")).map_err(|err| match err {
        CheckError::Flawed { flaw, .. } => flaw,
        err @ CheckError::Unreadable { .. } => panic!("{err}"),
    })
}

/// A disk in memory with bounded room, which takes the bytes that fit before it says it is full.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk(pub(super) Arc<Mutex<DiskState>>);

#[derive(Debug, Default)]
pub(super) struct DiskState {
    pub(super) bytes: Vec<u8>,
    pub(super) room: Option<usize>,
    pub(super) refuses_to_truncate: bool,
    pub(super) refuses_to_sync: bool,
    /// What survives a power loss.
    pub(super) synced: Vec<u8>,
    pub(super) syncs: usize,
    pub(super) writes: usize,
    pub(super) failures: usize,
}

impl Disk {
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().bytes.clone()
    }

    pub(super) fn has_room_for(&self, room: Option<usize>) {
        self.0.lock().unwrap().room = room;
    }
}

impl Sink for Disk {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut disk = self.0.lock().unwrap();
        disk.writes += 1;
        let offset = offset as usize;
        let room = disk.room.unwrap_or(usize::MAX).saturating_sub(offset);
        let taken = bytes.len().min(room);
        if taken == 0 {
            disk.failures += 1;
            return Err(io::ErrorKind::StorageFull.into());
        }
        let end = disk.bytes.len().max(offset + taken);
        disk.bytes.resize(end, 0);
        disk.bytes[offset..offset + taken].copy_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        if disk.refuses_to_truncate {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        disk.bytes.truncate(length as usize);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        if disk.refuses_to_sync {
            return Err(io::Error::other("I/O error"));
        }
        disk.synced = disk.bytes.clone();
        disk.syncs += 1;
        Ok(())
    }
}

#[test]
fn a_good_log_says_whose_it_is_and_has_the_root_of_its_writer() {
    let disk = Disk::default();
    let mut log = with_opening(|opening| Log::on_sink(opening, Box::new(disk.clone())));
    let mut in_memory = with_opening(Log::in_memory);
    for n in 1..60 {
        assert_eq!(log.append(message(n)), n);
        assert_eq!(in_memory.append(message(n)), n);
    }
    log.commit().unwrap();
    assert_eq!(disk.0.lock().unwrap().writes, 1, "one write per commit");
    let report = check_bytes(&disk.bytes()).unwrap();
    assert_eq!(report.entries, 60);
    assert_eq!(report.agent_id, "finance");
    assert_eq!(report.swarm.as_str(), "five-agent");
    assert_eq!(
        (report.root, report.last_hash),
        (log.root(), log.last_hash())
    );
    assert_eq!(report.root, in_memory.root());
    assert_eq!(in_memory.path(), None);
}

/// A flip in the last line that leaves an entry shows in the root alone: nothing follows that
/// line yet. Checkpoints will hold the root.
#[test]
fn finds_every_flipped_byte() {
    let log = sixty();
    let root = check_bytes(&log).unwrap().root;
    let lines = lines(&log);
    let mut before = Checker::default();
    for (i, line) in lines.iter().enumerate() {
        // The line after it holds its hash.
        let next = lines.get(i + 1).copied().unwrap_or_default();
        let number = i as u64 + 1;
        for at in 0..line.len() {
            // The neighbouring digit or letter; the other case; no ASCII at all.
            for mask in [0x01, 0x20, 0x80] {
                let mut changed = [*line, next].concat();
                changed[at] ^= mask;
                let mut checker = before.clone();
                let found = match checker.read(&mut changed.as_slice()) {
                    Err(ReadError::Flawed(flaw)) => (number..=number + 1).contains(&flaw.line),
                    Err(ReadError::Io(err)) => panic!("{err}"),
                    Ok(tail) if next.is_empty() => {
                        tail.torn_bytes > 0 || checker.into_parts().unwrap().1.tree.root() != root
                    }
                    Ok(_) => false,
                };
                assert!(found, "line {number}, byte {at}, mask {mask:#x}");
            }
        }
        before.read(&mut &**line).unwrap();
    }
}

#[test]
fn finds_every_line_that_was_deleted_doubled_or_swapped() {
    let log = sixty();
    let lines = lines(&log);
    let refused = |lines: Vec<&[u8]>, at: usize, what: &str| {
        let flaw = check_bytes(&lines.concat()).unwrap_err();
        assert_eq!(flaw.reason, Reason::ChainBroken, "{what} {at}: {flaw}");
        assert_eq!(flaw.line, at as u64 + 1, "{what}: {flaw}");
    };
    for i in 0..lines.len() {
        if i + 1 < lines.len() {
            let mut deleted = lines.clone();
            deleted.remove(i);
            refused(deleted, i, "deleted");
        }
        let mut doubled = lines.clone();
        doubled.insert(i, lines[i]);
        refused(doubled, i + 1, "doubled");
        for j in i + 1..lines.len() {
            let mut swapped = lines.clone();
            swapped.swap(i, j);
            refused(swapped, i, "swapped");
        }
    }
}

/// The limit of a chain alone; a checkpoint that says how many there were will find it out.
#[test]
fn does_not_see_whole_lines_missing_at_the_end() {
    let log = sixty();
    let lines = lines(&log);
    for kept in 1..lines.len() {
        let report = check_bytes(&lines[..kept].concat()).unwrap();
        assert_eq!(report.entries, kept as u64);
    }
}

#[test]
fn says_what_is_wrong_and_where() {
    let log = String::from_utf8(sixty()).unwrap();
    let last = log.lines().last().unwrap();
    let replaced = |from: &str, to: &str| {
        let changed = last.replacen(from, to, 1);
        assert_ne!(changed, last, "{from} is there");
        format!("{}{changed}\n", &log[..log.len() - last.len() - 1])
    };
    for (bytes, reason, line, column) in [
        (String::new(), "malformed", 1, None),
        ("\n".into(), "malformed", 1, None),
        (format!("{log}\n"), "malformed", 61, None),
        (log[..log.len() - 1].into(), "torn-line", 60, None),
        (format!("{log}{{"), "torn-line", 61, None),
        (format!("{log}[]\n"), "schema", 61, None),
        (replaced(",\"event", ", \"event"), "malformed", 60, Some(23)),
        (
            replaced("ifmessage_sent", "ifmessage_sung"),
            "schema",
            60,
            None,
        ),
        (replaced("ifmessage_sent", "log_opened"), "schema", 60, None),
        (replaced("\"finance\"", "\"legal\""), "schema", 60, None),
        (replaced("\"peer_id\"", "\"peer_ie\""), "schema", 60, None),
        (
            replaced("\"index\":59", "\"index\":60"),
            "chain-broken",
            60,
            None,
        ),
        (
            replaced("\"index\":59", "\"index\":59.0"),
            "schema",
            60,
            None,
        ),
        (
            replaced("\"sequence_num\":59", "\"sequence_num\":59.0"),
            "malformed",
            60,
            None,
        ),
        (
            log.replacen("\"version\":1", "\"version\":2", 1),
            "schema",
            1,
            None,
        ),
        (
            log.replacen("/five-agent/", "/six-agent/", 1),
            "schema",
            1,
            None,
        ),
        ("x".repeat((1 << 20) + 2), "malformed", 1, None),
    ] {
        let flaw = check_bytes(bytes.as_bytes()).unwrap_err();
        assert_eq!((flaw.reason.as_str(), flaw.line), (reason, line), "{flaw}");
        if column.is_some() {
            assert_eq!(flaw.column, column, "{flaw}");
        }
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..8)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn reads_whatever_it_wrote(metadata in any_json()) {
        let disk = Disk::default();
        let mut log = with_opening(|opening| Log::on_sink(opening, Box::new(disk.clone())));
        log.append(Entry::new(Event::PeerLost, at(1)).metadata(metadata));
        log.commit().unwrap();
        prop_assert_eq!(check_bytes(&disk.bytes()).unwrap().root, log.root());
    }

    #[test]
    fn refuses_any_bytes_without_a_panic(bytes in any::<Vec<u8>>()) {
        prop_assert!(check_bytes(&bytes).is_err());
    }
}
