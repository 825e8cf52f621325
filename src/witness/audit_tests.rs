//! Whatever is done to a log of 200 entries, its chain or its countersigned checkpoint finds it.

use std::path::Path;

use serde_json::json;
use sha2::{Digest, Sha256};

use super::check::{Checker, ReadError};
use super::tests::{Disk, at, lines, message, with_opening};
use super::*;
use crate::identity::{AgentId, KeyPair, Roster};

/// The agents of the tests, whose keys follow from their ids.
fn key(id: &str) -> KeyPair {
    KeyPair::from_secret(&Sha256::digest(format!("ifswarm fixture key: {id}")).into())
}

fn id(id: &str) -> AgentId {
    id.parse().unwrap()
}

fn roster() -> Roster {
    let ids = ["finance", "legal", "macro", "markets"];
    Roster::new(ids.map(|name| (id(name), key(name).public_key()))).unwrap()
}

/// A log of finance, and checkpoints of it on the way.
struct World {
    log: Log,
    disk: Disk,
}

impl World {
    fn new() -> Self {
        let disk = Disk::default();
        let log = with_opening(|opening| Log::on_sink(opening, Box::new(disk.clone())));
        Self { log, disk }
    }

    /// Goes on until there are `size` entries; `mark` makes them different from others.
    fn grow(&mut self, size: u64, mark: u64) {
        while self.log.len() < size {
            self.log.append(message(self.log.len() + mark));
        }
        self.log.commit().unwrap();
    }

    fn bytes(&self) -> Vec<u8> {
        self.disk.bytes()
    }

    /// The checkpoint of now, countersigned by those agents.
    fn checkpoint(&self, cosigners: &[&str]) -> KeptNote {
        let root = self.log.root();
        let checkpoint = Checkpoint {
            origin: "ifswarm-log/five-agent/finance".into(),
            size: self.log.len(),
            root,
        };
        let mut signed = checkpoint.sign(&key("finance"));
        for peer in cosigners {
            signed.cosign(&format!("ifswarm-log/five-agent/{peer}"), &key(peer), 7);
        }
        KeptNote {
            place: format!("checkpoint {}", self.log.len()),
            note: signed.note().to_string(),
        }
    }
}

/// 200 entries, and the checkpoint over them that legal has countersigned.
fn two_hundred() -> (Vec<u8>, KeptNote) {
    let mut world = World::new();
    world.grow(200, 0);
    (world.bytes(), world.checkpoint(&["legal"]))
}

fn audited(log: &[u8], kept: &[KeptNote]) -> Result<Audit, AuditError> {
    let log = LogReader::new(log, Path::new("log"))?;
    audit(log, Some(&roster()), kept, Vec::new())
}

fn reason(result: &Result<Audit, AuditError>) -> Option<&'static str> {
    result.as_ref().err().and_then(AuditError::reason)
}

#[test]
fn a_good_log_is_covered_and_countersigned() {
    let (log, note) = two_hundred();
    let audit = audited(&log, &[note]).unwrap();
    assert_eq!((audit.report.entries, audit.covered), (200, Some(200)));
    assert_eq!(audit.cosigners, [(id("legal"), 200)].into());
    assert_eq!((audit.uncounted, audit.bytes), (0, log.len() as u64));
}

#[test]
fn every_changed_byte_is_found_in_its_line_or_the_next() {
    let (log, note) = two_hundred();
    let lines = lines(&log);
    let mut before = Checker::default();
    let mut changed = 0;
    for (place, pair) in lines.windows(2).enumerate() {
        let number = place as u64 + 1;
        for byte in 0..pair[0].len() {
            let mut both = pair.concat();
            // Each bit has its turn.
            both[byte] ^= 1 << (byte % 8);
            let found = before.clone().read(&mut both.as_slice());
            let Err(ReadError::Flawed(flaw)) = found else {
                panic!("byte {byte} of line {number}")
            };
            assert!((number..=number + 1).contains(&flaw.line), "{flaw}");
            changed += 1;
        }
        let mut good = pair[0];
        before.read(&mut good).unwrap();
    }
    // Nothing follows the last line: its checkpoint finds what it can still say.
    let start = log.len() - lines[199].len();
    for byte in start..log.len() {
        let mut copy = log.clone();
        copy[byte] ^= 1 << (byte % 8);
        let found = audited(&copy, std::slice::from_ref(&note)).unwrap_err();
        let line = found.line().unwrap();
        let is_mismatch = matches!(found, AuditError::Mismatch { .. });
        assert!(line == 200 || line == 201 || is_mismatch, "{found}");
        changed += 1;
    }
    assert_eq!(changed, log.len());
}

#[test]
fn every_removed_doubled_or_swapped_line_is_found() {
    let (log, note) = two_hundred();
    let lines = lines(&log);
    let kept = [note];
    let broken = |lines: &[&[u8]], line: u64| {
        let err = audited(&lines.concat(), &kept).unwrap_err();
        assert_eq!(err.line(), Some(line), "{err}");
        err
    };
    for place in 0..lines.len() {
        let line = place as u64 + 1;
        let mut without = lines.clone();
        without.remove(place);
        broken(&without, line);

        let mut doubled = lines.clone();
        doubled.insert(place, lines[place]);
        broken(&doubled, line + 1);

        if place + 1 < lines.len() {
            let mut swapped = lines.clone();
            swapped.swap(place, place + 1);
            broken(&swapped, line);
        }
    }
}

#[test]
fn a_tail_cut_after_any_line_is_found_by_the_countersigned_checkpoint() {
    let (log, note) = two_hundred();
    let lines = lines(&log);
    for left in 1..lines.len() {
        let cut = lines[..left].concat();
        // By itself it is good.
        assert_eq!(audited(&cut, &[]).unwrap().report.entries, left as u64);
        let found = audited(&cut, std::slice::from_ref(&note));
        assert_eq!(reason(&found), Some("truncated"));
        let err = found.unwrap_err();
        assert_eq!(err.line(), Some(left as u64 + 1));
        assert!(
            err.to_string()
                .contains(&format!("{} entries are missing", 200 - left))
        );
    }
    let torn = audited(&log[..log.len() - 1], std::slice::from_ref(&note));
    assert_eq!(reason(&torn), Some("torn-line"));
    assert_eq!(reason(&audited(b"", &[note])), Some("malformed"));
}

#[test]
fn a_log_that_its_owner_wrote_anew_is_not_the_one_that_was_signed() {
    let mut first = World::new();
    first.grow(50, 0);
    let early = first.checkpoint(&["legal"]);
    first.grow(200, 0);
    let late = first.checkpoint(&["macro"]);
    let mut second = World::new();
    second.grow(120, 0);
    second.grow(300, 1);
    let own = second.checkpoint(&[]);
    let log = second.bytes();
    assert!(audited(&log, &[own.clone(), early.clone()]).is_ok());
    let found = audited(&log, &[own, early, late]);
    assert_eq!(reason(&found), Some("checkpoint-mismatch"));
    let Err(AuditError::Mismatch { place, size, good }) = found else {
        panic!("a mismatch")
    };
    assert_eq!((place.as_str(), size, good), ("checkpoint 200", 200, 50));
}

#[test]
fn an_owner_that_signs_two_histories_of_one_length_is_told_so() {
    let (mut one, mut other) = (World::new(), World::new());
    one.grow(20, 0);
    other.grow(20, 1);
    let notes = [one.checkpoint(&[]), other.checkpoint(&["legal"])];
    let found = audited(&one.bytes(), &notes);
    assert_eq!(reason(&found), Some("checkpoint-mismatch"));
    let err = found.unwrap_err();
    assert!(err.to_string().contains("two histories"), "{err}");

    // A head over nothing that is not the one over nothing.
    let nothing = Checkpoint {
        origin: "ifswarm-log/five-agent/finance".into(),
        size: 0,
        root: [7; 32],
    };
    let note = KeptNote {
        place: "checkpoint".into(),
        note: nothing.sign(&key("finance")).note().to_string(),
    };
    let found = audited(&one.bytes(), &[note]);
    assert_eq!(reason(&found), Some("checkpoint-mismatch"));
    assert!(!found.unwrap_err().to_string().is_empty());
}

#[test]
fn every_state_that_a_checkpoint_covers_is_held_against_it() {
    let mut world = World::new();
    let mut notes = Vec::new();
    for size in 1..=40 {
        world.grow(size, 0);
        notes.push(world.checkpoint(&[]));
    }
    // The same one twice, in any order.
    notes.push(notes[6].clone());
    notes.reverse();
    let audit = audited(&world.bytes(), &notes).unwrap();
    assert_eq!(audit.covered, Some(40));
    world.grow(45, 0);
    assert_eq!(audited(&world.bytes(), &notes).unwrap().covered, Some(40));
}

#[test]
fn counts_distinct_known_agents_and_what_each_has_seen() {
    let mut world = World::new();
    world.grow(10, 0);
    let ten = world.checkpoint(&["legal", "macro"]);
    world.grow(20, 0);
    // Twice the same agent, the owner itself, and one of no roster.
    let twenty = world.checkpoint(&["legal", "legal", "finance", "competitive"]);
    world.grow(30, 0);
    let thirty = world.checkpoint(&[]);
    let audit = audited(&world.bytes(), &[thirty, ten, twenty]).unwrap();
    assert_eq!(audit.covered, Some(30));
    assert_eq!(
        audit.cosigners,
        [(id("legal"), 20), (id("macro"), 10)].into()
    );
    assert_eq!(audit.vouched_by(1).unwrap(), 20);
    assert_eq!(audit.vouched_by(2).unwrap(), 10);
    let err = audit.vouched_by(3).unwrap_err();
    assert_eq!(err.reason(), Some("too-few-cosigners"));
    assert_eq!(audit.uncounted, 3, "{audit:?}");
}

#[test]
fn a_forged_countersignature_counts_for_none_and_a_forged_checkpoint_fails() {
    let (log, note) = two_hundred();
    // Under the name of legal, by another key.
    let mut signed = SignedCheckpoint::open(
        &note.note,
        "ifswarm-log/five-agent/finance",
        &key("finance").public_key(),
    )
    .unwrap()
    .bare(&key("finance").public_key());
    signed.cosign("ifswarm-log/five-agent/legal", &key("macro"), 7);
    let forged = KeptNote {
        place: "cosignatures/legal".into(),
        note: signed.note().to_string(),
    };
    let audit = audited(&log, &[forged]).unwrap();
    assert!(audit.cosigners.is_empty());
    assert_eq!(audit.uncounted, 1);

    let other = KeptNote {
        place: "checkpoint".into(),
        note: note.note.replacen("\n200\n", "\n199\n", 1),
    };
    let found = audited(&log, std::slice::from_ref(&other));
    assert_eq!(reason(&found), Some("bad-checkpoint-signature"));
    // What is wrong with the entries is told first.
    let found = audited(&log[1..], &[other]);
    assert_eq!(found.unwrap_err().line(), Some(1));
}

mod evidence {
    use super::*;

    /// What a log of legal says, of which `entries` hold checkpoints of finance.
    fn of_legal(entries: Vec<Entry>) -> Evidence {
        let dir = tempfile::tempdir().unwrap();
        let legal = id("legal");
        let opened = with_opening(|opening| {
            let opening = Opening {
                agent_id: LogOwner::Agent(&legal),
                public_key: key("legal").public_key(),
                ..opening
            };
            Log::open(dir.path(), opening)
        });
        let mut log = opened.unwrap();
        for entry in entries {
            log.append(entry);
        }
        let path = log.path().unwrap().to_owned();
        log.close().unwrap();
        let mut evidence = Evidence::default();
        with_name(|name| evidence.expect(&name));
        evidence.gather(&path, Some(&roster())).unwrap();
        evidence
    }

    fn with_name<T>(f: impl FnOnce(LogName<'_>) -> T) -> T {
        with_opening(|opening| {
            f(LogName {
                agent_id: "finance",
                swarm: opening.swarm,
                key: opening.public_key,
                roster: None,
            })
        })
    }

    fn about(evidence: &Evidence) -> Vec<Vouched> {
        with_name(|name| evidence.about(&name))
    }

    fn cosigned(note: &KeptNote) -> Entry {
        let origin = "ifswarm-log/five-agent/finance";
        Entry::new(Event::CheckpointCosigned, at(0))
            .peer(&id("finance"))
            .metadata(json!({"origin": origin, "size": 1, "note": note.note}))
    }

    #[test]
    fn a_log_that_lost_its_checkpoints_is_found_out_by_its_peers() {
        let mut world = World::new();
        world.grow(10, 0);
        let early = world.checkpoint(&["legal"]);
        world.grow(20, 0);
        let late = world.checkpoint(&["legal"]);
        let evidence = of_legal(vec![
            message(1),
            cosigned(&early),
            cosigned(&late),
            message(2),
        ]);
        let held = about(&evidence);
        assert_eq!(held.len(), 1, "the newest one is kept");
        assert_eq!((held[0].size, &held[0].cosigners), (20, &vec![id("legal")]));
        assert_eq!(held[0].place, "line 4 of the log of legal");

        let log = world.bytes();
        let cut = lines(&log)[..15].concat();
        let reader = |bytes| LogReader::new(bytes, Path::new("log")).unwrap();
        let found = audit(reader(log.as_slice()), None, &[], held.clone());
        assert_eq!(found.unwrap().covered, Some(20));
        let found = audit(reader(cut.as_slice()), None, &[], held);
        assert_eq!(reason(&found), Some("truncated"));
    }

    #[test]
    fn contradicting_checkpoints_speak_against_every_log_that_there_is() {
        let (mut one, mut other) = (World::new(), World::new());
        one.grow(20, 0);
        other.grow(20, 1);
        let notes = [one.checkpoint(&[]).note, other.checkpoint(&[]).note];
        let entry = Entry::new(Event::EquivocationDetected, at(0)).metadata(json!({
            "origin": "ifswarm-log/five-agent/finance",
            "reason": "fork",
            "checkpoints": notes,
        }));
        let held = about(&of_legal(vec![entry]));
        assert_eq!(held.len(), 2);
        for world in [one, other] {
            let bytes = world.bytes();
            let log = LogReader::new(bytes.as_slice(), Path::new("log")).unwrap();
            let found = audit(log, None, &[], held.clone());
            assert_eq!(reason(&found), Some("checkpoint-mismatch"));
        }
    }

    #[test]
    fn what_the_log_has_not_signed_is_evidence_of_nothing() {
        let mut world = World::new();
        world.grow(10, 0);
        let good = world.checkpoint(&["legal"]);
        let changed = |from, to| KeptNote {
            note: good.note.replacen(from, to, 1),
            ..good.clone()
        };
        for bad in [changed("\n10\n", "\n99\n"), changed("\n10\n", "\n")] {
            assert_eq!(about(&of_legal(vec![cosigned(&bad)])), []);
        }
        // The last word counts: what an honest log wrote before is older.
        let evidence = of_legal(vec![
            cosigned(&changed("\n10\n", "\n99\n")),
            cosigned(&good),
        ]);
        assert_eq!(about(&evidence)[0].size, 10);
    }

    #[test]
    fn a_log_says_nothing_of_itself_and_one_of_another_key_is_another() {
        let mut world = World::new();
        world.grow(10, 0);
        let note = world.checkpoint(&["legal"]);
        let evidence = of_legal(vec![cosigned(&note)]);
        let other = with_opening(|opening| {
            evidence.about(&LogName {
                agent_id: "finance",
                swarm: opening.swarm,
                key: key("macro").public_key(),
                roster: None,
            })
        });
        assert_eq!(other, []);

        let dir = tempfile::tempdir().unwrap();
        let mut log = super::super::tests::open(dir.path()).unwrap();
        log.append(cosigned(&note));
        let path = log.path().unwrap().to_owned();
        log.close().unwrap();
        let mut evidence = Evidence::default();
        with_name(|name| evidence.expect(&name));
        evidence.gather(&path, Some(&roster())).unwrap();
        assert_eq!(about(&evidence), []);
    }
}
