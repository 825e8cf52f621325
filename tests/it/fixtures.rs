//! The golden files of `fixtures/`: what this program makes, and what it must refuse.
//!
//! To make them again: `IFSWARM_WRITE_FIXTURES=1 cargo test --test it what_this_program_makes`.
//! Keys, times and randomness are fixed, so that the same program makes the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use ifswarm::identity::{AgentId, Roster};
use ifswarm::message::{Reason, verify};
use ifswarm::signal::parse_frame;
use serde_json::Value;

use crate::message_fixtures;
use crate::sdp_fixtures;
use crate::support::{AGENTS, FixtureAgent, fixtures_dir, roster};
use crate::witness_fixtures;

/// Every fixture: its path within `fixtures/` and its bytes. More kinds are added here.
fn all() -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    files.insert("roster.yaml".into(), roster_yaml().into_bytes());
    for (name, message) in message_fixtures::valid() {
        files.insert(name.into(), format!("{}\n", message.text()).into_bytes());
    }
    for (name, bytes) in message_fixtures::invalid() {
        files.insert(format!("invalid/{name}.json"), bytes);
    }
    for (name, bytes) in sdp_fixtures::valid() {
        files.insert(name.into(), bytes);
    }
    for (name, bytes) in sdp_fixtures::invalid() {
        files.insert(format!("invalid-sdp/{name}.json"), bytes);
    }
    files.extend(witness_fixtures::valid());
    files
}

#[test]
fn fixtures_are_what_this_program_makes() {
    let write = std::env::var_os("IFSWARM_WRITE_FIXTURES").is_some_and(|value| value == "1");
    for (name, bytes) in all() {
        let path = fixtures_dir().join(&name);
        if write {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &bytes).unwrap();
        }
        let found = fs::read(&path).unwrap_or_default();
        assert!(
            found == bytes,
            "fixtures/{name} is not what this program makes; to make it again: \
             IFSWARM_WRITE_FIXTURES=1 cargo test --test it what_this_program_makes"
        );
    }
}

#[test]
fn valid_fixtures_verify_under_the_keys_of_the_roster_file() {
    let roster = read_roster();
    for (name, signed) in message_fixtures::valid() {
        let bytes = fs::read(fixtures_dir().join(name)).unwrap();
        let message = verify(&bytes, &roster).expect(name);
        assert_eq!(message.digest(), signed.digest(), "{name}");
    }
}

#[test]
fn invalid_fixtures_are_refused_for_the_reason_in_their_name() {
    let roster = read_roster();
    let made = all();
    let mut shown = BTreeSet::new();
    for entry in fs::read_dir(fixtures_dir().join("invalid")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(
            made.contains_key(&format!("invalid/{name}.json")),
            "nothing makes {name}; remove it"
        );
        let expected = Reason::all()
            .iter()
            .filter(|reason| name.starts_with(reason.as_str()))
            .max_by_key(|reason| reason.as_str().len())
            .unwrap_or_else(|| panic!("{name} begins with no reason"));
        let refusal = verify(&fs::read(&path).unwrap(), &roster).expect_err(name);
        assert_eq!(refusal.reason, *expected, "{name}: {refusal}");
        shown.insert(*expected);
    }
    let offline: BTreeSet<_> = Reason::all()
        .iter()
        .copied()
        .filter(|reason| *reason <= Reason::BadSignature)
        .collect();
    assert_eq!(shown, offline, "every reason that shows offline has a file");
}

#[test]
fn the_offer_verifies_under_the_keys_of_the_roster_file() {
    let roster = read_roster();
    let bytes = fs::read(fixtures_dir().join("valid_sdp_offer.json")).unwrap();
    let frame = parse_frame(&bytes).unwrap();
    let offer = frame.sdp().unwrap();
    let key_of = |id: &AgentId| roster.key_of(id).copied();
    assert_eq!(offer.verify_offline(Some(&key_of)), Ok(()));
}

#[test]
fn invalid_offers_are_refused_for_the_reason_in_their_name() {
    let roster = read_roster();
    let key_of = |id: &AgentId| roster.key_of(id).copied();
    let made = all();
    let mut shown = BTreeSet::new();
    for entry in fs::read_dir(fixtures_dir().join("invalid-sdp")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(
            made.contains_key(&format!("invalid-sdp/{name}.json")),
            "nothing makes {name}; remove it"
        );
        let reason = match parse_frame(&fs::read(&path).unwrap()) {
            Err(err) => err.reason.sdp_reason(),
            Ok(frame) => {
                let offer = frame.sdp().unwrap();
                offer.verify_offline(Some(&key_of)).expect_err(name).reason
            }
        };
        assert!(name.starts_with(reason.as_str()), "{name}: {reason}");
        shown.insert(reason.as_str());
    }
    let offline = [
        "bad-signature",
        "key-mismatch",
        "schema",
        "unknown-source",
        "unsigned",
    ];
    assert!(shown.iter().eq(&offline), "{shown:?}");
}

/// The roster as another program would read it.
fn read_roster() -> Roster {
    let text = fs::read_to_string(fixtures_dir().join("roster.yaml")).unwrap();
    let file: Value = serde_yaml::from_str(&text).unwrap();
    let agents = file["agents"].as_array().unwrap().iter().map(|agent| {
        let member = |name: &str| agent[name].as_str().unwrap();
        (
            member("id").parse().unwrap(),
            member("public_key").parse().unwrap(),
        )
    });
    let read = Roster::new(agents).unwrap();
    assert_eq!(read, roster());
    read
}

fn roster_yaml() -> String {
    let mut text = String::from(
        "# The agents whose keys signed the fixtures. Their secret keys are PUBLIC: anybody can\n\
         # compute them (see README.md). For tests only; `ifswarm keygen` makes real ones.\n\
         swarm: five-agent\n\
         agents:\n",
    );
    for id in AGENTS {
        let key = FixtureAgent::new(id).public_key();
        let role = format!("{}{}", id[..1].to_uppercase(), &id[1..]);
        text += &format!("  - id: {id}\n    role: {role}\n    public_key: {key}\n");
    }
    text + "topology: full-mesh\n"
}
