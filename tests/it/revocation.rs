//! Keys that are revoked, offline. (At the server and between agents: `admission`.)

use std::fs;

use ifswarm::identity::KeyPair;
use serde_json::Value;

use crate::cli::{ifswarm, run};
use crate::support::{FixtureAgent, fixtures_dir};

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
