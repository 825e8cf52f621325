//! What a member that has gone bad shows of its log: another history, a shorter one, one that cannot
//! be proved; checkpoints and cosignatures that nobody has signed.

use ifswarm::agent::AgentEvent;
use ifswarm::witness::{Fork, SignedCheckpoint, origin};
use serde_json::{Value, json};

use super::stage::{Play, Stage};
use super::table::{By, Seen};
use crate::live::{LiveAgent, swarm_name};
use crate::raw::{Raw, RawLog};
use crate::support::FixtureAgent;

pub(super) async fn play(play: &mut Play) {
    let mia = join(&mut play.stage, "mia").await;
    let mia = forgeries(play, mia).await;
    forks(play, mia).await;
}

/// A member that has gone bad, on a link to Ann of its own: a log is found out once.
async fn join(stage: &mut Stage, id: &'static str) -> Raw {
    let session = FixtureAgent::new(id).session;
    let raw = Raw::join_in(stage.server.url(), id, "ann", session).await;
    raw.say_hello();
    raw.link.answer_pings();
    let up = stage.ann.until(|event| match event {
        AgentEvent::PeerUp { peer, .. } if peer.as_str() == id => Some(()),
        _ => None,
    });
    up.await;
    raw
}

/// Notes that somebody else should have signed.
async fn forgeries(play: &mut Play, mut raw: Raw) -> Raw {
    let me = FixtureAgent::new(raw.id).key;
    let of_mine = RawLog::of(raw.id, 7).checkpoint().note().to_string();
    let (mine, eves) = (origin(&swarm_name(), raw.id), origin(&swarm_name(), "eve"));
    let shown = raw.control("checkpoint").await;
    let anns = FixtureAgent::new("ann").public_key();
    let note = shown["note"].as_str().unwrap();
    let anns = SignedCheckpoint::open(note, &origin(&swarm_name(), "ann"), &anns).unwrap();
    let cosigned = |name: &str| {
        let mut cosigned = anns.clone();
        cosigned.cosign(&origin(&swarm_name(), name), &me, 1_800_000_000);
        cosigned.note().to_string()
    };
    // Its own name, and one bit of the signature changed.
    let mut flipped = cosigned(raw.id).into_bytes();
    let at = flipped.len() - 8;
    flipped[at] = if flipped[at] == b'A' { b'B' } else { b'A' };
    let flipped = String::from_utf8(flipped).unwrap();
    let rewritten = note.replacen("\n1", "\n2", 1).replacen("\n3", "\n4", 1);
    let attacks = [
        (
            "checkpoint of another's log",
            "checkpoint",
            of_mine.replace(&mine, &eves),
            "bad-signature",
        ),
        (
            "checkpoint of a log of nobody",
            "checkpoint",
            of_mine.replace(&mine, "x"),
            "unknown-log",
        ),
        (
            "checkpoint with another size",
            "checkpoint",
            of_mine.replace("\n7\n", "\n8\n"),
            "bad-signature",
        ),
        (
            "cosignature forged: in Eve's name",
            "cosign",
            cosigned("eve"),
            "bad-cosignature",
        ),
        (
            "cosignature forged: a bit flipped",
            "cosign",
            flipped,
            "bad-cosignature",
        ),
        (
            "cosignature forged: none at all",
            "cosign",
            anns.note().to_string(),
            "bad-cosignature",
        ),
        (
            "cosignature on what Ann never signed",
            "cosign",
            rewritten + "x",
            "bad-signature",
        ),
    ];
    for (attack, kind, note, reason) in attacks {
        play.act(By::Peer, attack, async |stage| {
            let (mark, before) = (stage.entries("ann"), stage.ann.agent.stats().cosigned);
            raw.say(&json!({ "type": kind, "note": note }));
            raw.say(&json!({ "type": "ping", "t": 7 }));
            assert_eq!(raw.control("pong").await["t"], 7);
            let of_raw = |entry: &Value| entry["peer_id"] == raw.id;
            let entry = stage.has_entry("ann", mark, "checkpoint_rejected", of_raw);
            assert_eq!(entry.metadata["reason"], reason);
            assert!(
                stage.ann.agent.stats().cosigned <= before + 1,
                "but for Bob's"
            );
            Seen::new("ann", reason, entry.to_string())
        })
        .await;
    }
    raw
}

/// Logs with two histories.
async fn forks(play: &mut Play, mia: Raw) {
    play.act(By::Peer, "checkpoint rewritten: same size", async |stage| {
        let log = RawLog::of("mia", 7);
        let seen = shows(
            stage,
            mia,
            &log,
            &[log.forked(3, 7).shown()],
            Fork::SameSize,
        )
        .await;
        let (owner, fork) = equivocation(&mut stage.bob).await;
        assert_eq!(
            (owner.as_str(), fork),
            ("mia", Fork::SameSize),
            "bob is told"
        );
        let told = stage.has_entry("bob", 0, "equivocation_detected", |_| true);
        Seen {
            by: "ann; bob, who is told".into(),
            entry: format!("{}; {told}", seen.entry),
            ..seen
        }
    })
    .await;
    play.act(
        By::Peer,
        "checkpoint forked: a proof of its own",
        async |stage| {
            let moe = join(stage, "moe").await;
            let log = RawLog::of("moe", 7);
            let fork = log.forked(3, 12);
            let frames = [fork.shown(), fork.continues(7)];
            shows(stage, moe, &log, &frames, Fork::NotContinued).await
        },
    )
    .await;
    play.act(
        By::Peer,
        "checkpoint forked: never the proof that is asked for",
        async |stage| {
            let max = join(stage, "max").await;
            let log = RawLog::of("max", 7);
            let forks = [12, 13, 14].map(|size| log.forked(3, size));
            let frames = forks
                .iter()
                .flat_map(|fork| [fork.shown(), fork.continues(2)]);
            shows(
                stage,
                max,
                &log,
                &frames.collect::<Vec<_>>(),
                Fork::NotContinued,
            )
            .await
        },
    )
    .await;
    play.act(By::Peer, "checkpoint rolled back", async |stage| {
        let mox = join(stage, "mox").await;
        let log = RawLog::of("mox", 7);
        let frames = [RawLog::of("mox", 5).shown()];
        shows(stage, mox, &log, &frames, Fork::RolledBack).await
    })
    .await;
}

/// Shows a log, which Ann countersigns, and then what is at odds with it.
async fn shows(
    stage: &mut Stage,
    mut raw: Raw,
    log: &RawLog,
    frames: &[Value],
    fork: Fork,
) -> Seen {
    raw.say(&log.shown());
    raw.control("cosign").await;
    let mark = stage.entries("ann");
    frames.iter().for_each(|frame| raw.say(frame));
    let found = equivocation(&mut stage.ann).await;
    assert_eq!(found, (raw.id.to_owned(), fork));
    let id = raw.id;
    let of_raw = |entry: &Value| entry["peer_id"] == id;
    let entry = stage.has_entry("ann", mark, "equivocation_detected", of_raw);
    assert_eq!(entry.metadata["reason"], fork.as_str());
    // And it is countersigned no more.
    raw.say(&log.shown());
    raw.say(&json!({ "type": "ping", "t": 8 }));
    assert_eq!(raw.control("pong").await["t"], 8);
    assert!(
        stage
            .entry("ann", entry.line, "checkpoint_cosigned", of_raw)
            .is_none()
    );
    Seen::new("ann", fork.as_str(), entry.to_string())
}

async fn equivocation(live: &mut LiveAgent) -> (String, Fork) {
    live.until(|event| match event {
        AgentEvent::Equivocation { owner, fork, .. } => Some((owner.to_string(), fork)),
        AgentEvent::Message(message) => panic!("delivered: {message:?}"),
        _ => None,
    })
    .await
}
