//! A server that lies: it changes offers and answers on their way, or brings them twice. Whoever
//! receives one finds out, witnesses why, and makes no link.
//!
//! The liar is a relay between real agents and a real server. It changes what the server says to
//! an agent, so the server itself has passed only good frames on.

use std::collections::BTreeMap;

use ifswarm::agent::AgentEvent;
use ifswarm::message::SdpReason;
use ifswarm::signal::{Admission, SdpKind, Server, ServerConfig};
use serde_json::Value;
use tempfile::TempDir;

use crate::liar::{self, Liar, Plan};
use crate::live::{LiveAgent, builder, read_witness, roster_of, swarm_name, testimony, within};

/// What the relay does to one offer or answer: the frames that arrive in its place.
type Lie = fn(Value) -> Vec<Value>;

/// Ann, who dials; Bob, who answers; and the relay that both are introduced by.
struct Story {
    ann: LiveAgent,
    bob: LiveAgent,
    folder: TempDir,
    server: Server,
    _liar: Liar,
}

const IDS: [&str; 3] = ["ann", "bob", "eve"];

async fn begin(kind: SdpKind, lie: Lie) -> Story {
    let mut liar = Liar::listen().await;
    let admission = Admission::Rosters(BTreeMap::from([(swarm_name(), roster_of(&IDS))]));
    let mut config = ServerConfig::new("127.0.0.1:0".parse().unwrap(), admission);
    config.names = vec![liar.authority().to_owned()];
    let server = Server::bind(config).await.unwrap();
    liar.lead_to(&server.url(), &swarm_name());
    liar.plan(Plan {
        kind,
        from: None,
        to: None,
        lie: Box::new(lie),
    });
    let folder = tempfile::tempdir().unwrap();
    let start = |id| {
        let builder = builder(id, &liar.url(), folder.path());
        LiveAgent::start(builder.roster(roster_of(&IDS)))
    };
    // Bob subscribes before Ann is there to dial him, and Ann before the answer can come.
    let bob = start("bob").await;
    let ann = start("ann").await;
    Story {
        ann,
        bob,
        folder,
        server,
        _liar: liar,
    }
}

impl Story {
    /// Ends all; returns the witnesses of Ann and Bob.
    async fn end(self) -> [Vec<Value>; 2] {
        for live in [self.ann, self.bob] {
            live.agent.shutdown("the test is over").await.unwrap();
        }
        self.server.shutdown().await;
        ["ann", "bob"].map(|id| read_witness(self.folder.path(), id))
    }
}

/// The lie is found out by its receiver for `reason`, and no link is made on either end.
async fn is_found_out(kind: SdpKind, lie: Lie, reason: SdpReason) {
    let mut story = begin(kind, lie).await;
    let victim = match kind {
        SdpKind::Offer => &mut story.bob,
        SdpKind::Answer => &mut story.ann,
    };
    let found = victim
        .until(|event| match event {
            AgentEvent::SdpRejected { reason, .. } => Some(reason),
            AgentEvent::PeerUp { peer, .. } => panic!("linked with {peer} in spite of the lie"),
            _ => None,
        })
        .await;
    assert_eq!(found, reason);
    for live in [&story.ann, &story.bob] {
        assert!(live.links().await.is_empty());
    }
    let witnesses = story.end().await;
    let place = usize::from(kind == SdpKind::Offer);
    let rejected = testimony(&witnesses[place], "sdp_rejected");
    assert!(!rejected.is_empty());
    for (_, what) in rejected {
        assert_eq!(what["reason"], reason.as_str());
    }
    for entries in &witnesses {
        assert_eq!(testimony(entries, "datachannel_open"), []);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_does_not_lie_is_no_hindrance() {
    within(async {
        let story = begin(SdpKind::Offer, |frame| vec![frame]).await;
        story.ann.agent.linked(1).await.unwrap();
        story.bob.agent.linked(1).await.unwrap();
        let witnesses = story.end().await;
        for entries in &witnesses {
            assert_eq!(testimony(entries, "sdp_rejected"), []);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swapped_fingerprint_is_found_out() {
    within(async {
        is_found_out(SdpKind::Offer, liar::fingerprint, SdpReason::BadSignature).await;
        is_found_out(SdpKind::Answer, liar::fingerprint, SdpReason::BadSignature).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swapped_key_is_found_out() {
    within(async {
        is_found_out(
            SdpKind::Offer,
            liar::key_of_the_server,
            SdpReason::KeyMismatch,
        )
        .await;
        is_found_out(
            SdpKind::Answer,
            liar::key_of_the_server,
            SdpReason::KeyMismatch,
        )
        .await;
        is_found_out(SdpKind::Offer, liar::key_swapped, SdpReason::KeyMismatch).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swapped_sender_is_found_out() {
    within(async {
        is_found_out(
            SdpKind::Offer,
            liar::sender_swapped,
            SdpReason::BadSignature,
        )
        .await;
        is_found_out(
            SdpKind::Answer,
            liar::sender_swapped,
            SdpReason::BadSignature,
        )
        .await;
        is_found_out(SdpKind::Offer, liar::stranger, SdpReason::UnknownSource).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_without_a_signature_is_found_out() {
    within(async {
        is_found_out(
            SdpKind::Offer,
            liar::signature_stripped,
            SdpReason::Unsigned,
        )
        .await;
        is_found_out(SdpKind::Offer, liar::spoiled, SdpReason::Schema).await;
    })
    .await;
}

/// A server that has got hold of an agent's key cannot reuse what was signed for elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_that_was_signed_for_another_occasion_is_found_out() {
    within(async {
        is_found_out(SdpKind::Offer, liar::another_swarm, SdpReason::WrongSwarm).await;
        is_found_out(
            SdpKind::Offer,
            liar::another_receiver,
            SdpReason::WrongRecipient,
        )
        .await;
        is_found_out(
            SdpKind::Offer,
            liar::earlier_session,
            SdpReason::WrongSession,
        )
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_to_another_link_is_found_out() {
    within(async {
        is_found_out(SdpKind::Answer, liar::another_link, SdpReason::UnknownLink).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_from_the_one_who_should_be_dialled_is_glare() {
    within(async {
        is_found_out(SdpKind::Answer, liar::turned_round, SdpReason::Glare).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_that_comes_twice_is_refused_once_and_the_link_is_made() {
    within(async {
        let mut story = begin(SdpKind::Offer, liar::twice).await;
        let reason = story.bob.until(|event| match event {
            AgentEvent::SdpRejected { reason, .. } => Some(reason),
            _ => None,
        });
        assert_eq!(reason.await, SdpReason::Replayed);
        story.ann.agent.linked(1).await.unwrap();
        story.bob.agent.linked(1).await.unwrap();
        let [_, bob] = story.end().await;
        let rejected = testimony(&bob, "sdp_rejected");
        assert_eq!(rejected.len(), 1);
        assert_eq!(rejected[0].0.as_deref(), Some("ann"));
    })
    .await;
}
