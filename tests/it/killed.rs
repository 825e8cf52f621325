//! A swarm under heavy witnessing is killed, again and again, and each time every log opens again:
//! at most the line under way is gone, and nothing that a checkpoint covers.
//!
//! `IFSWARM_SEED=n` chooses the same kinds of moments again; what the machine did then, it does not.

use std::fmt::Write as _;

use ifswarm::identity::AgentId;
use ifswarm::message::Timestamp;
use ifswarm::witness::{Log, Opening, SignedCheckpoint, SyncPolicy, Tree, leaf_hash};

use crate::fuzz::mutate::Random;
use crate::kept_swarm::{AGENTS, KeptSwarm, SWARM, lines};

/// What a log was like after a kill.
struct Left {
    /// Whole entries.
    entries: u64,
    /// Bytes of a line that was under way.
    torn: usize,
    /// Entries that no checkpoint covers.
    past: u64,
}

/// What there is to say of all kills.
#[derive(Default)]
struct Figures {
    entries: u64,
    torn: usize,
    after_a_checkpoint: usize,
    past: Vec<u64>,
}

#[test]
fn killed_fifty_times_and_every_log_opens_again_with_all_that_a_checkpoint_covers() {
    let seed = std::env::var("IFSWARM_SEED").ok();
    let seed = seed.map_or_else(chance, |text| {
        text.parse().expect("IFSWARM_SEED is a number")
    });
    println!("IFSWARM_SEED={seed}");
    let mut random = Random::new("killed", seed);
    let mut figures = Figures::default();
    for _ in 0..SWARMS {
        let swarm = KeptSwarm::new("probe: { payload: 64 B, interval: 6ms }\n");
        for _ in 0..ROUNDS {
            round(&swarm, &mut random, &mut figures);
        }
        let last = AGENTS
            .iter()
            .map(|id| lines(&swarm.entries(id)).len() as u64);
        figures.entries += last.sum::<u64>();
    }
    println!("{figures}");
    assert!(
        figures.after_a_checkpoint * 4 >= SWARMS * ROUNDS,
        "{figures}"
    );
    assert!(
        figures.past.iter().any(|past| *past > 0),
        "never killed under way"
    );
}

/// Starts the swarm on its logs, kills it at some moment, and opens every log.
fn round(swarm: &KeptSwarm, random: &mut Random, figures: &mut Figures) {
    let before = AGENTS.map(|id| swarm.entries(id));
    let checkpoint = || swarm.checkpoint(AGENTS[0]);
    let (old, began) = (checkpoint(), swarm.bytes());
    let mut run = swarm.start("60s", r#"exec "$@""#);
    // Half of them anywhere from the opening of the logs on; half after a checkpoint.
    if random.below(2) == 0 {
        let bytes = began + random.below(EARLY) as u64;
        run.until(|| swarm.bytes() > bytes);
    } else {
        run.until(|| checkpoint() != old);
        let bytes = swarm.bytes() + random.below(LATE) as u64;
        run.until(|| swarm.bytes() >= bytes);
    }
    run.kill();
    figures.after_a_checkpoint += usize::from(checkpoint() != old);
    swarm.sent_nothing_unwitnessed(&before);
    let left: Vec<_> = std::thread::scope(|scope| {
        let checks = AGENTS.iter().zip(&before);
        let checks: Vec<_> = checks
            .map(|(id, before)| scope.spawn(|| opens_again(swarm, id, before)))
            .collect();
        let left = checks.into_iter().map(|check| check.join().unwrap());
        left.collect()
    });
    for left in left {
        figures.torn += usize::from(left.torn > 0);
        figures.past.push(left.past);
        assert!(left.entries >= left.past);
    }
}

/// The log opens, with all whole lines that are there, which are all that were there before and all
/// that the checkpoint covers.
fn opens_again(swarm: &KeptSwarm, id: &str, before: &[u8]) -> Left {
    let bytes = swarm.entries(id);
    assert!(
        bytes.starts_with(before),
        "{id}: what an earlier run left is another"
    );
    let whole = lines(&bytes);
    let good: usize = whole.iter().map(|line| line.len()).sum();
    let key = swarm.key(id);
    let covered = swarm.checkpoint(id).map(|note| {
        let origin = format!("ifswarm-log/{SWARM}/{id}");
        SignedCheckpoint::open(&note, &origin, &key.public_key())
            .expect("a checkpoint that verifies")
    });
    let mut tree = Tree::default();
    if let Some(covered) = &covered {
        let covered = covered.checkpoint();
        let size = usize::try_from(covered.size).unwrap();
        assert!(
            whole.len() >= size,
            "{id}: {} of {size} entries are there",
            whole.len()
        );
        for line in &whole[..size] {
            tree.push(leaf_hash(&line[..line.len() - 1]));
        }
        assert_eq!(
            tree.root(),
            covered.root,
            "{id}: another history of {size} entries"
        );
    }

    let agent: AgentId = id.parse().unwrap();
    let opening = Opening {
        agent_id: (&agent).into(),
        swarm: &SWARM.parse().unwrap(),
        public_key: key.public_key(),
        now: Timestamp::from_unix_ms(1_800_000_000_000),
        sync: SyncPolicy::Batch,
    };
    let log = Log::open(&swarm.logs(), opening).unwrap_or_else(|err| panic!("{id}: {err}"));
    assert_eq!(log.dropped_bytes(), (bytes.len() - good) as u64, "{id}");
    // And one that says that it goes on, or, where nothing was there as yet, that it begins.
    let begins = whole.is_empty() && bytes.len() > good;
    assert_eq!(
        log.len(),
        whole.len() as u64 + 1 + u64::from(begins),
        "{id}"
    );
    drop(log);
    assert!(
        swarm.entries(id).starts_with(&bytes[..good]),
        "{id}: opening changed what was there"
    );
    Left {
        entries: whole.len() as u64,
        torn: bytes.len() - good,
        past: whole.len() as u64 - tree.size(),
    }
}

fn chance() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap().as_nanos() as u64 % 1_000_000
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut past = self.past.clone();
        past.sort_unstable();
        let mut text = String::new();
        let _ = writeln!(text, "kills                       {}", SWARMS * ROUNDS);
        let _ = writeln!(
            text,
            "  after a new checkpoint    {}",
            self.after_a_checkpoint
        );
        let _ = writeln!(text, "logs opened again           {}", past.len());
        let _ = writeln!(text, "entries                     {}", self.entries);
        let _ = writeln!(text, "torn lines                  {}", self.torn);
        if let (Some(min), Some(max)) = (past.first(), past.last()) {
            let median = past[past.len() / 2];
            let _ = write!(
                text,
                "entries past the checkpoint {min} / {median} / {max} (min / median / max)"
            );
        }
        f.write_str(&text)
    }
}

/// Swarms that are killed, each with logs of its own: they are read at every start, so that one
/// that has grown through fifty runs would be read for longer than it is written.
const SWARMS: usize = 10;
/// Runs of each.
const ROUNDS: usize = 5;
/// Bytes that all logs may grow by before an early kill: as much as is written until the first
/// checkpoint is due.
const EARLY: usize = 1_200_000;
/// Bytes that they may grow by between a checkpoint and a late kill: half of what comes until the
/// next one.
const LATE: usize = 800_000;
