//! What a hostile server or relay tells instead of an offer or an answer, and what both ends have
//! in their witness afterwards: who spoke, that it said the truth; who was lied to, why it refused.
//!
//! `cid` joins, Ann offers it a link, and the lie is about that; with Bob it is linked meanwhile.

use ifswarm::signal::SdpKind::{self, Answer, Offer};
use serde_json::Value;

use super::stage::{Play, Stage};
use super::table::{By, Seen};
use crate::liar::{self, Lie, Plan};
use crate::live::LiveAgent;

const CID: &str = "cid";

pub(super) async fn play(play: &mut Play) {
    for (attack, by, kind, lie, reason) in LIES {
        play.act(*by, attack, async |stage| {
            is_found_out(stage, *kind, Box::new(lie), reason).await
        })
        .await;
    }
    yesterday(play).await;
    for (attack, kind) in [
        ("offer brought twice", Offer),
        ("answer brought twice", Answer),
    ] {
        play.act(By::Relay, attack, async |stage| {
            let cid = told(stage, kind, Box::new(liar::twice)).await;
            // The first is the true one: the link is made, and stays one.
            cid.agent.linked(2).await.unwrap();
            let seen = both_ends(stage, kind, cid, "replayed").await;
            seen.0
        })
        .await;
    }
}

/// What was true in an earlier session of the receiver, or about an earlier link.
async fn yesterday(play: &mut Play) {
    for (attack, kind, reason) in [
        ("yesterday's offer", Offer, "wrong-session"),
        ("yesterday's answer", Answer, "unknown-link"),
    ] {
        play.act(By::Relay, attack, async |stage| {
            let cid = stage.newcomer(CID).await;
            cid.agent.linked(2).await.unwrap();
            cid.agent.shutdown("until tomorrow").await.unwrap();
            let (speaker, victim) = ends(kind);
            let old = stage.liar.heard(kind, speaker, victim).unwrap();
            is_found_out(stage, kind, Box::new(move |_| vec![old.clone()]), reason).await
        })
        .await;
    }
}

/// The lie is found out by its receiver for `reason`, and no link is made.
async fn is_found_out(stage: &mut Stage, kind: SdpKind, lie: Lie, reason: &str) -> Seen {
    let cid = told(stage, kind, lie).await;
    let (seen, link) = both_ends(stage, kind, cid, reason).await;
    for end in ["ann", CID] {
        let open = stage.entry(end, 0, "datachannel_open", |entry| {
            entry["metadata"]["link"] == link
        });
        assert!(open.is_none(), "the link is open at {end}");
    }
    seen
}

/// Cid joins, and what is said between it and Ann is lied about.
async fn told(stage: &mut Stage, kind: SdpKind, lie: Lie) -> LiveAgent {
    let (speaker, victim) = ends(kind);
    stage.liar.plan(Plan {
        kind,
        from: Some(speaker),
        to: Some(victim),
        lie,
    });
    stage.newcomer(CID).await
}

/// Who says it, and to whom: Ann has the smaller id and dials.
fn ends(kind: SdpKind) -> (&'static str, &'static str) {
    match kind {
        Offer => ("ann", CID),
        Answer => (CID, "ann"),
    }
}

/// Waits for the refusal, and finds the story in both witnesses; and the link it was about.
async fn both_ends(
    stage: &mut Stage,
    kind: SdpKind,
    mut cid: LiveAgent,
    reason: &str,
) -> (Seen, Value) {
    let (speaker, victim) = ends(kind);
    let session = cid.agent.session();
    let of_now = |entry: &Value| {
        // Cid's log goes on from one act to the next; so does Ann's.
        let frame = &entry["metadata"]["frame"];
        frame["session"] == session.to_string() || frame["to_session"] == session.to_string()
    };
    let mark = stage.mark;
    let rejected = match kind {
        Offer => {
            stage
                .until_entry(&mut cid, CID, mark[1], "sdp_rejected")
                .await
        }
        Answer => stage.until_ann_has(mark[0], "sdp_rejected").await,
    };
    assert_eq!(rejected.metadata["reason"], reason);
    // The one who is not lied about is linked.
    let bob = stage.bob.agent.id();
    cid.agent.linked(1).await.unwrap();
    assert!(cid.links().await.contains_key(bob));
    let told = stage.liar.repent();
    let told = told.first().expect("something was lied about");

    // Who was lied to has the very frame that it refused, wherever that could be read.
    let refused = &rejected.metadata["frame"];
    if ["schema", "unsigned"].contains(&reason) {
        assert!(refused.is_null(), "{refused}");
    } else {
        assert!(told.instead.contains(refused), "{refused}");
    }
    let event = match kind {
        Offer => "webrtc_offer_created",
        Answer => "webrtc_answer_created",
    };
    let created = stage.has_entry(speaker, 0, event, |entry| {
        of_now(entry) && entry["metadata"]["frame"] == told.truth
    });
    cid.agent.shutdown("the act is over").await.unwrap();
    let seen = Seen::new(victim, reason, format!("{rejected}; {created}"));
    (seen, told.truth["link"].clone())
}

/// What is told instead of what was said.
type Plain = fn(Value) -> Vec<Value>;

/// Attack, by whom, about what, the lie, the reason.
const LIES: &[(&str, By, SdpKind, Plain, &str)] = &[
    (
        "fingerprint swapped in an offer",
        By::Relay,
        Offer,
        liar::fingerprint,
        "bad-signature",
    ),
    (
        "fingerprint swapped in an answer",
        By::Relay,
        Answer,
        liar::fingerprint,
        "bad-signature",
    ),
    (
        "offer signed by the server's key",
        By::Server,
        Offer,
        liar::key_of_the_server,
        "key-mismatch",
    ),
    (
        "answer signed by the server's key",
        By::Server,
        Answer,
        liar::key_of_the_server,
        "key-mismatch",
    ),
    (
        "key swapped in an offer",
        By::Server,
        Offer,
        liar::key_swapped,
        "key-mismatch",
    ),
    (
        "key swapped in an answer",
        By::Server,
        Answer,
        liar::key_swapped,
        "key-mismatch",
    ),
    (
        "key of small order in an offer",
        By::Server,
        Offer,
        liar::key_of_small_order,
        "schema",
    ),
    (
        "sender of an offer swapped",
        By::Server,
        Offer,
        liar::sender_swapped,
        "bad-signature",
    ),
    (
        "sender of an answer swapped",
        By::Server,
        Answer,
        liar::sender_swapped,
        "bad-signature",
    ),
    (
        "offer from nobody we know",
        By::Server,
        Offer,
        liar::stranger,
        "unknown-source",
    ),
    (
        "signature stripped from an offer",
        By::Relay,
        Offer,
        liar::signature_stripped,
        "unsigned",
    ),
    (
        "signature stripped from an answer",
        By::Relay,
        Answer,
        liar::signature_stripped,
        "unsigned",
    ),
    (
        "malleable S in an offer",
        By::Relay,
        Offer,
        liar::malleable,
        "bad-signature",
    ),
    (
        "offer out of shape",
        By::Relay,
        Offer,
        liar::spoiled,
        "schema",
    ),
    (
        "offer signed for another swarm",
        By::Relay,
        Offer,
        liar::another_swarm,
        "wrong-swarm",
    ),
    (
        "offer signed for somebody else",
        By::Relay,
        Offer,
        liar::another_receiver,
        "wrong-recipient",
    ),
    (
        "answer about another link",
        By::Relay,
        Answer,
        liar::another_link,
        "unknown-link",
    ),
    (
        "answer turned into an offer",
        By::Relay,
        Answer,
        liar::turned_round,
        "glare",
    ),
];
