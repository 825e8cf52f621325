//! Who is not in the roster gets no link: not past the server, and not past an agent when the
//! server lets everybody in.

use std::collections::BTreeMap;
use std::fs;

use ifswarm::agent::{AgentEvent, Builder, StartError};
use ifswarm::identity::{KeyPair, Roster};
use ifswarm::message::SdpReason;
use ifswarm::signal::{Admission, ConnectError, ErrorCode};

use crate::cli::Running;
use crate::live::{
    LiveAgent, builder, read_witness, roster_of, serve, swarm_name, testimony, within,
};
use crate::support::FixtureAgent;

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

/// The server is open to all; `bob` and `cid` are `strict`: not towards each other, but towards
/// `intruder` under `key`. What is said of it.
async fn gets_no_link(
    intruder: &str,
    key: KeyPair,
    reason: SdpReason,
    strict: impl Fn(Builder) -> Builder,
) -> String {
    let server = serve(Admission::Open).await;
    let folder = tempfile::tempdir().unwrap();
    let strict = |id| LiveAgent::start(strict(builder(id, &server.url(), folder.path())));
    let mut bob = strict("bob").await;
    // It believes everybody, and its id is the smaller one, so that it dials.
    let intruder = builder(intruder, &server.url(), folder.path())
        .key(key)
        .witness(None);
    let intruder = LiveAgent::start(intruder).await;
    let found = bob.until(|event| match event {
        AgentEvent::SdpRejected {
            peer,
            reason,
            detail,
        } => Some((peer, reason, detail)),
        AgentEvent::PeerUp { peer, .. } => panic!("linked with {peer}"),
        _ => None,
    });
    let (peer, found, detail) = found.await;
    assert_eq!((&peer, found), (intruder.agent.id(), reason));
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
        assert_eq!(what["detail"], detail);
    }
    for (peer, _) in testimony(&witness, "datachannel_open") {
        assert_eq!(peer.as_deref(), Some(cid_id.as_str()));
    }
    detail
}

fn key() -> KeyPair {
    KeyPair::from_secret(&[7; 32])
}

fn roster() -> Roster {
    roster_of(&["abe", "bob", "cid"])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_with_a_roster_does_not_link_with_a_stranger() {
    let strict = |builder: Builder| builder.roster(roster());
    within(gets_no_link("aaa", key(), SdpReason::UnknownSource, strict)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_with_a_roster_does_not_link_with_a_member_under_another_key() {
    let strict = |builder: Builder| builder.roster(roster());
    let detail = within(gets_no_link("abe", key(), SdpReason::KeyMismatch, strict)).await;
    assert!(!detail.contains("revoked"), "{detail}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_does_not_link_with_a_member_under_its_old_key_and_says_that_it_is_revoked() {
    let strict = |builder: Builder| {
        let roster = roster().revoking([key().public_key()]);
        builder.roster(roster.unwrap())
    };
    let detail = within(gets_no_link("abe", key(), SdpReason::KeyMismatch, strict)).await;
    assert!(detail.contains("revoked"), "{detail}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_without_a_roster_does_not_pin_a_revoked_key() {
    let strict = |builder: Builder| builder.revoked([key().public_key()]);
    let detail = within(gets_no_link("abe", key(), SdpReason::UnknownSource, strict)).await;
    assert!(detail.contains("revoked"), "{detail}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_of_a_swarm_file_refuses_revoked_keys_whoever_shows_them() {
    within(async {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("s.yaml");
        let new = |id| FixtureAgent::new(id).public_key();
        let text = format!(
            "swarm: {}\nagents:\n  - {{ id: ann, public_key: {} }}\n  - {{ id: bob, public_key: {} }}\nrevoked:\n  - {{ public_key: {}, reason: stolen }}\n",
            swarm_name(),
            new("ann"),
            new("bob"),
            key().public_key()
        );
        fs::write(&file, text).unwrap();
        let file = file.to_str().unwrap();
        let mut server = Running::signal(&["--listen", "127.0.0.1:0", "--swarm", file]);
        let line = server.line();
        let url = line.strip_prefix("listening on ").unwrap();
        for id in ["bob", "eve"] {
            let old = builder(id, url, folder.path()).witness(None).key(key());
            let err = old.start().await.expect_err("its key is revoked");
            let StartError::Connect(ConnectError::Registration { code, message, .. }) = &err else {
                panic!("{err}")
            };
            assert_eq!(*code, ErrorCode::NotAdmitted, "{err}");
            assert!(message.contains("revoked"), "{message}");
        }
        let bob = builder("bob", url, folder.path());
        let bob = bob.start().await.expect("the new key is good");
        bob.shutdown("the test is over").await.unwrap();
        server.kill("TERM");
        assert_eq!(server.end().0, 0);
    })
    .await;
}
