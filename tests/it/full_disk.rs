//! The disk of a living swarm is full, and has room again: what is witnessed and what is sent then.
//!
//! Nobody needs privileges to fill a disk for one process: its own limit on the size of files
//! (`RLIMIT_FSIZE`) is lowered while it runs, and its writes fail as on a full disk (`EFBIG`).

use std::collections::BTreeMap;

use ifswarm::identity::AgentId;
use ifswarm::message::Timestamp;
use ifswarm::witness::{Log, Opening, SyncPolicy};
use rlimit::Resource;
use serde_json::Value;

use crate::kept_swarm::{AGENTS, KeptSwarm, Run, SWARM, lines};

/// A swarm that writes all five logs without a pause, and does this when it cannot.
fn swarm(on_error: &str) -> KeptSwarm {
    KeptSwarm::new(&format!(
        "witness: {{ on_error: {on_error} }}\nprobe: {{ payload: 64 B, interval: 10ms }}\n"
    ))
}

/// Runs it until the logs have grown, and then until its disk is full.
fn until_full(swarm: &KeptSwarm, time: &str) -> Run {
    // Ignored, as by a daemon that minds its limits: otherwise the signal would end the process.
    let mut run = swarm.start(time, r#"trap '' XFSZ; exec "$@""#);
    run.until(|| AGENTS.iter().all(|id| swarm.entries(id).len() > ENOUGH));
    let largest = AGENTS.map(|id| swarm.entries(id).len()).into_iter().max();
    limit(&run, largest.unwrap() as u64 + ROOM);
    run
}

/// No file of the run may become larger than this from now on.
fn limit(run: &Run, bytes: u64) {
    let id = i32::try_from(run.id()).unwrap();
    let (mut soft, mut hard) = (0, 0);
    rlimit::prlimit(id, Resource::FSIZE, None, Some((&mut soft, &mut hard))).unwrap();
    rlimit::prlimit(id, Resource::FSIZE, Some((bytes.min(hard), hard)), None).unwrap();
}

#[test]
fn a_swarm_whose_disk_is_full_ends_with_3_and_has_sent_nothing_unwitnessed() {
    let swarm = swarm("stop");
    let mut run = until_full(&swarm, "60s");
    let status = run.end();
    let said = run.said();
    assert_eq!(status.code(), Some(3), "{said}");
    let told = said.lines().find(|line| line.starts_with("error: agent `"));
    let told = told.unwrap_or_else(|| panic!("no agent is named: {said}"));
    for what in [
        "the witness cannot be written",
        "entries.jsonl",
        "make room",
    ] {
        assert!(told.contains(what), "expected «{what}» in: {told}");
    }
    swarm.sent_nothing_unwitnessed(&Default::default());
    // What is there is whole, and goes on as soon as there is room.
    for id in AGENTS {
        let agent: AgentId = id.parse().unwrap();
        let opening = Opening {
            agent_id: (&agent).into(),
            swarm: &SWARM.parse().unwrap(),
            public_key: swarm.key(id).public_key(),
            now: Timestamp::from_unix_ms(1_800_000_000_000),
            sync: SyncPolicy::Batch,
        };
        let log = Log::open(&swarm.logs(), opening).unwrap();
        assert_eq!(log.dropped_bytes(), 0, "{id}");
    }
}

#[test]
fn a_swarm_told_to_go_on_does_and_its_logs_say_how_many_entries_they_lack() {
    let swarm = swarm("continue");
    let mut run = until_full(&swarm, "8s");
    run.until_said(|said| {
        let goes_on = |id| {
            let file = format!("/{id}/entries.jsonl");
            let mut lines = said.lines();
            lines.any(|line| line.contains("going on WITHOUT it") && line.contains(&file))
        };
        AGENTS.into_iter().all(goes_on)
    });
    limit(&run, u64::MAX);
    let status = run.end();
    assert_eq!(status.code(), Some(0), "{}", run.said());
    for id in AGENTS {
        let bytes = swarm.entries(id);
        let entries = lines(&bytes);
        let entries = entries
            .iter()
            .map(|line| serde_json::from_slice(line).unwrap());
        let entries: Vec<Value> = entries.collect();
        let lacks = entries
            .iter()
            .filter_map(|e| e["metadata"]["unwitnessed"].as_u64());
        let lacks: Vec<_> = lacks.collect();
        let missing: u64 = ["ifmessage_sent", "ifmessage_received"]
            .map(|event| gaps(&entries, event))
            .iter()
            .sum();
        assert!(missing > 0, "{id}: the disk was never full");
        let said = lacks.iter().sum::<u64>();
        assert!(
            (missing..=missing + OTHERS).contains(&said),
            "{id}: it says {lacks:?}, of messages {missing} are missing"
        );
    }
}

/// How many numbers are missing among those of an event's messages, of each peer by itself: they
/// are given out one after the other.
fn gaps(entries: &[Value], event: &str) -> u64 {
    let mut of: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry["event"] == event) {
        let number = entry["metadata"]["sequence_num"].as_u64().unwrap();
        let (count, greatest) = of.entry(entry["peer_id"].as_str().unwrap()).or_default();
        *count += 1;
        *greatest = number.max(*greatest);
    }
    of.values().map(|(count, greatest)| greatest - count).sum()
}

/// What an agent that does nothing but talk may have had to witness beside messages while its disk
/// was full, a second at most: cosignatures of the other, of which no number is missed.
const OTHERS: u64 = 8;
/// Bytes of a log that is being written, and not just opened.
const ENOUGH: usize = 100_000;
/// Bytes that are still there when the disk fills.
const ROOM: u64 = 20_000;
