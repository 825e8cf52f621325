//! Who is not in the roster gets no link: not past the server, and not past an agent when the
//! server lets everybody in.

use std::collections::BTreeMap;

use ifswarm::agent::{AgentEvent, StartError};
use ifswarm::identity::KeyPair;
use ifswarm::message::SdpReason;
use ifswarm::signal::{Admission, ConnectError, ErrorCode};

use crate::live::{
    LiveAgent, builder, read_witness, roster_of, serve, swarm_name, testimony, within,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_a_roster_does_not_register_a_stranger_or_another_key() {
    within(async {
        let roster = roster_of(&["ann", "bob"]);
        let admission = Admission::Rosters(BTreeMap::from([(swarm_name(), roster)]));
        let server = serve(admission).await;
        let folder = tempfile::tempdir().unwrap();
        let stranger = builder("eve", &server.url(), folder.path());
        let impostor = builder("bob", &server.url(), folder.path())
            .key(KeyPair::from_secret(&[7; 32]))
            .witness(None);
        for refused in [stranger, impostor] {
            let err = refused.start().await.expect_err("not in the roster");
            let StartError::Connect(ConnectError::Registration { code, .. }) = &err else {
                panic!("{err}")
            };
            assert_eq!(*code, ErrorCode::NotAdmitted, "{err}");
        }
        server.shutdown().await;
    })
    .await;
}

/// The server is open to all; `ann` and `bob` have a roster, in which `intruder` under `key` is not.
async fn gets_no_link(intruder: &str, key: KeyPair, reason: SdpReason) {
    let server = serve(Admission::Open).await;
    let folder = tempfile::tempdir().unwrap();
    let strict = |id| {
        let builder = builder(id, &server.url(), folder.path());
        LiveAgent::start(builder.roster(roster_of(&["abe", "bob", "cid"])))
    };
    let mut bob = strict("bob").await;
    // It believes everybody, and its id is the smaller one, so that it dials.
    let intruder = builder(intruder, &server.url(), folder.path())
        .key(key)
        .witness(None);
    let intruder = LiveAgent::start(intruder).await;
    let found = bob.until(|event| match event {
        AgentEvent::SdpRejected { peer, reason, .. } => Some((peer, reason)),
        AgentEvent::PeerUp { peer, .. } => panic!("linked with {peer}"),
        _ => None,
    });
    assert_eq!(found.await, (intruder.agent.id().clone(), reason));
    assert!(bob.links().await.is_empty());
    assert!(intruder.links().await.is_empty());

    // Those who belong to the swarm are linked all the same, and with each other only.
    let cid = strict("cid").await;
    cid.agent.linked(1).await.unwrap();
    bob.agent.linked(1).await.unwrap();
    assert_eq!(bob.links().await.len(), 1);
    assert!(intruder.links().await.is_empty());
    let (bob_id, cid_id) = (bob.agent.id().clone(), cid.agent.id().clone());
    assert!(cid.links().await.contains_key(&bob_id));
    for live in [bob, cid, intruder] {
        live.agent.shutdown("the test is over").await.unwrap();
    }
    server.shutdown().await;
    let witness = read_witness(folder.path(), bob_id.as_str());
    let rejected = testimony(&witness, "sdp_rejected");
    assert!(!rejected.is_empty());
    for (_, what) in rejected {
        assert_eq!(what["reason"], reason.as_str());
    }
    for (peer, _) in testimony(&witness, "datachannel_open") {
        assert_eq!(peer.as_deref(), Some(cid_id.as_str()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_with_a_roster_does_not_link_with_a_stranger() {
    let key = KeyPair::from_secret(&[7; 32]);
    within(gets_no_link("aaa", key, SdpReason::UnknownSource)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_with_a_roster_does_not_link_with_a_member_under_another_key() {
    let key = KeyPair::from_secret(&[7; 32]);
    within(gets_no_link("abe", key, SdpReason::KeyMismatch)).await;
}
