//! Messages, offers and logs under keys that are revoked. (Registrations and links: `admission`.)

use std::collections::BTreeMap;
use std::fs;

use ifswarm::agent::AgentEvent;
use ifswarm::identity::KeyPair;
use ifswarm::signal::Admission;
use serde_json::Value;

use crate::cli::{ifswarm, run};
use crate::live::{
    LiveAgent, builder, read_witness, roster_of, say, serve, swarm_name, testimony, within,
};
use crate::raw::{Raw, sign_as};
use crate::support::{FixtureAgent, fixtures_dir};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_under_a_revoked_key_is_not_delivered_and_the_link_lives_on() {
    within(async {
        let old = KeyPair::from_secret(&[7; 32]);
        let roster = roster_of(&["ann", "raw"]).revoking([old.public_key()]);
        let roster = roster.unwrap();
        let admission = Admission::Rosters(BTreeMap::from([(swarm_name(), roster.clone())]));
        let server = serve(admission).await;
        let folder = tempfile::tempdir().unwrap();
        let ann = builder("ann", &server.url(), folder.path()).roster(roster);
        let mut ann = LiveAgent::start(ann).await;
        let raw = Raw::join(&server.url(), "raw", "ann").await;
        raw.say_hello();
        for (number, source, reason) in [(1, "raw", "key-mismatch"), (1, "eve", "unknown-source")] {
            let forged = sign_as(source, raw.session, &old, number, say("ann", "forged"));
            raw.send(forged.text());
            let found = ann.until(|event| match event {
                AgentEvent::Rejected { reason, .. } => Some(reason),
                AgentEvent::Message(message) => panic!("delivered: {message:?}"),
                _ => None,
            });
            assert_eq!(found.await.as_str(), reason);
        }
        raw.send(raw.sign(2, say("ann", "good")).text());
        assert_eq!(ann.message().await.payload()["text"], "good");
        ann.agent.shutdown("the test is over").await.unwrap();
        server.shutdown().await;
        let witness = read_witness(folder.path(), "ann");
        let rejected = testimony(&witness, "ifmessage_rejected");
        assert_eq!(rejected.len(), 2);
        for (_, what) in rejected {
            assert!(
                what["detail"].as_str().unwrap().contains("revoked"),
                "{what}"
            );
        }
    })
    .await;
}

#[test]
fn what_a_revoked_key_has_signed_fails_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let key = |id: &str| FixtureAgent::new(id).public_key();
    let (old, new) = (key("finance"), KeyPair::from_secret(&[5; 32]).public_key());
    let swarm = |name: &str, first: String| {
        let path = dir.path().join(name);
        let legal = key("legal");
        let text = format!(
            "swarm: five-agent\nagents:\n  - {first}\n  - {{ id: legal, public_key: {legal} }}\nrevoked:\n  - public_key: {old}\n"
        );
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let changed = swarm(
        "changed.yaml",
        format!("{{ id: finance, public_key: {new} }}"),
    );
    let gone = swarm("gone.yaml", "id: macro".into());
    let files = [
        "valid_ifmessage_escalate.json",
        "valid_sdp_offer.json",
        "witness",
    ]
    .map(|name| fixtures_dir().join(name));
    for (swarm, reasons) in [
        (&changed, ["key-mismatch"; 3]),
        (&gone, ["unknown-source", "unknown-source", "key-mismatch"]),
    ] {
        let mut command = ifswarm();
        let command = command.args(["verify", "--json", "--swarm", swarm]);
        let (code, stdout, _) = run(command.args(&files));
        let told: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!((code, told["items"].as_array().unwrap().len()), (1, 3));
        for (item, reason) in told["items"].as_array().unwrap().iter().zip(reasons) {
            assert_eq!(item["reason"], reason, "{item}");
            assert!(
                item["detail"].as_str().unwrap().contains("revoked"),
                "{item}"
            );
        }
    }
}
