//! `ifswarm verify`: what it recognises, what it says, and its exit code.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use ifswarm::identity::KeyPair;
use serde_json::{Value, json};

use crate::cli::{ifswarm, run};
use crate::support::{FixtureAgent, fixtures_dir};

/// Runs `verify --json` and gives exit code, object and standard error.
fn verify_json(args: &[&str], files: &[PathBuf]) -> (i32, Value, String) {
    let (code, stdout, stderr) = run(ifswarm().args(["verify", "--json"]).args(args).args(files));
    let told: Value = serde_json::from_str(&stdout).unwrap_or_else(|err| panic!("{err}: {stdout}"));
    let all_ok = told["items"]
        .as_array()
        .unwrap()
        .iter()
        .all(|item| item["ok"] == true);
    assert_eq!(told["ok"], all_ok, "{told}");
    (code, told, stderr)
}

/// Runs `verify` with a text on standard input.
fn verify_stdin(args: &[&str], text: &[u8]) -> (i32, Value) {
    let mut child = ifswarm()
        .args(["verify", "--json", "-"])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text).unwrap();
    let output = child.wait_with_output().unwrap();
    let told = serde_json::from_slice(&output.stdout).unwrap();
    (output.status.code().unwrap(), told)
}

fn fixture(name: &str) -> PathBuf {
    fixtures_dir().join(name)
}

fn roster() -> String {
    fixture("roster.yaml").to_str().unwrap().into()
}

fn read(name: &str) -> Vec<u8> {
    fs::read(fixture(name)).unwrap()
}

fn files_of(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(fixture(folder)).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn every_valid_fixture_is_recognised_and_good() {
    let key = |id| json!(FixtureAgent::new(id).public_key());
    for (name, kind, signer) in [
        (
            "valid_ifmessage_escalate.json",
            "ifmessage",
            Some("finance"),
        ),
        (
            "signed_message_with_citation.json",
            "ifmessage",
            Some("markets"),
        ),
        ("valid_sdp_offer.json", "sdp", Some("finance")),
        ("valid_ice_candidates.json", "frame", None),
        ("roster.yaml", "swarm", None),
    ] {
        for (args, identity) in [
            (vec![], "unpinned"),
            (vec!["--swarm".into(), roster()], "pinned"),
        ] {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let (code, told, stderr) = verify_json(&args, &[fixture(name)]);
            let item = &told["items"][0];
            assert_eq!((code, stderr.as_str()), (0, ""), "{told}");
            assert_eq!(item["kind"], kind);
            assert_eq!(item["file"], json!(fixture(name)));
            assert!(
                item.get("line").is_none() && item.get("reason").is_none(),
                "{told}"
            );
            let Some(signer) = signer else {
                assert!(
                    item.get("signer").is_none() && item.get("identity").is_none(),
                    "{told}"
                );
                continue;
            };
            assert_eq!(
                (&item["signer"], &item["identity"]),
                (&json!(signer), &json!(identity))
            );
            assert_eq!(item["public_key"], key(signer));
        }
    }
}

#[test]
fn every_spoilt_fixture_fails_for_the_reason_in_its_name() {
    let mut seen = 0;
    for (folder, kind) in [("invalid", "ifmessage"), ("invalid-sdp", "sdp")] {
        for path in files_of(folder) {
            let (code, told, _) = verify_json(&["--swarm", &roster()], std::slice::from_ref(&path));
            let item = &told["items"][0];
            let reason = item["reason"].as_str().unwrap();
            let name = path.file_stem().unwrap().to_str().unwrap();
            assert_eq!(code, 1, "{told}");
            assert!(name.starts_with(&format!("{reason}-")), "{name}: {told}");
            let expected = if reason == "malformed" {
                "unknown"
            } else {
                kind
            };
            assert_eq!(item["kind"], expected, "{told}");
            assert!(!item["detail"].as_str().unwrap().is_empty());
            seen += 1;
        }
    }
    assert!(seen > 40, "{seen}");
}

#[test]
fn tells_one_line_each_and_a_summary() {
    let good = fixture("valid_ifmessage_escalate.json");
    let bad = fixture("invalid/bad-signature-sent-to-all.json");
    let (code, stdout, stderr) = run(ifswarm().arg("verify").arg(&good).arg(&bad));
    assert_eq!((code, stderr.as_str()), (1, ""));
    let lines: Vec<_> = stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{stdout}");
    assert!(lines[0].starts_with(&format!(
        "ok      {}: ifmessage signed by finance",
        good.display()
    )));
    assert!(lines[0].ends_with("identity: unpinned"), "{stdout}");
    assert!(lines[1].starts_with(&format!(
        "FAILED  {}: ifmessage: bad-signature: ",
        bad.display()
    )));
    assert_eq!(lines[2], "2 checked: 1 ok, 1 FAILED");

    let (code, stdout, _) = run(ifswarm().arg("verify").arg(&good));
    assert_eq!(
        (code, stdout.lines().count()),
        (0, 1),
        "one file needs no summary"
    );
}

#[test]
fn who_is_not_proved_fails_where_identity_is_required() {
    let message = fixture("valid_ifmessage_escalate.json");
    let finance = FixtureAgent::new("finance").public_key().to_string();
    let legal = FixtureAgent::new("legal").public_key().to_string();
    let roster = roster();
    for (args, expected) in [
        (&["--require-identity"][..], Some("unpinned")),
        (&["--require-identity", "--swarm", &roster], None),
        (&["--require-identity", "--key", &finance], None),
        (&["--key", &legal], Some("key-mismatch")),
        (&["--key", &finance, "--swarm", &roster], None),
        (&["--key", &legal, "--swarm", &roster], Some("key-mismatch")),
    ] {
        for file in [&message, &fixture("valid_sdp_offer.json")] {
            let (code, told, _) = verify_json(args, std::slice::from_ref(file));
            let reason = told["items"][0].get("reason").and_then(Value::as_str);
            assert_eq!(reason, expected, "{args:?}: {told}");
            assert_eq!(code, i32::from(expected.is_some()), "{told}");
        }
    }
    // Nothing in these tells who made them.
    for name in ["valid_ice_candidates.json", "roster.yaml", "witness"] {
        let (code, told, _) = verify_json(&["--require-identity"], &[fixture(name)]);
        assert_eq!((code, &told["items"][0]["reason"]), (1, &json!("unpinned")));
    }
}

#[test]
fn an_offer_of_another_swarm_is_none_of_this_one() {
    let dir = tempfile::tempdir().unwrap();
    let other = dir.path().join("other.yaml");
    let text = String::from_utf8(read("roster.yaml")).unwrap();
    fs::write(&other, text.replace("swarm: five-agent", "swarm: other")).unwrap();
    let args = ["--swarm", other.to_str().unwrap()];
    let (code, told, _) = verify_json(&args, &[fixture("valid_sdp_offer.json")]);
    assert_eq!(
        (code, &told["items"][0]["reason"]),
        (1, &json!("wrong-swarm"))
    );
}

#[test]
fn reads_messages_and_frames_one_per_line_from_a_file_or_standard_input() {
    let text = [
        read("valid_ifmessage_escalate.json"),
        b"\n   \n".to_vec(),
        read("valid_sdp_offer.json"),
        b"{\"cut\n".to_vec(),
        read("valid_ice_candidates.json"),
        b"{\"t\":1,\"type\":\"ping\"}\n".to_vec(),
        b"{\"t\":-1,\"type\":\"ping\"}\n".to_vec(),
        b"{\"type\":\"poke\"}\n".to_vec(),
        read("signed_message_with_citation.json"),
    ]
    .concat();
    let expected = json!([
        [1, "ifmessage", null],
        [4, "sdp", null],
        [5, "unknown", "malformed"],
        [6, "frame", null],
        [7, "frame", null],
        [8, "frame", "schema"],
        [9, "ifmessage", "schema"],
        [10, "ifmessage", null],
    ]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("mix.jsonl");
    fs::write(&file, &text).unwrap();
    let (from_file, told, _) = verify_json(&[], &[file]);
    let (from_stdin, piped) = verify_stdin(&[], &text);
    assert_eq!((from_file, from_stdin), (1, 1));
    for told in [told, piped] {
        let items = told["items"].as_array().unwrap();
        let shown: Vec<_> = items
            .iter()
            .map(|item| json!([item["line"], item["kind"], item["reason"]]))
            .collect();
        assert_eq!(json!(shown), expected);
    }
}

#[test]
fn messages_are_judged_on_all_cores_and_told_in_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("many.jsonl");
    let good = fs::read_to_string(fixtures_dir().join("valid_ifmessage_escalate.json")).unwrap();
    let bad = good.replacen("\"level\":", "\"levels\":", 1);
    let forged = fs::read_to_string(fixtures_dir().join("invalid/bad-signature-malleable-s.json"));
    let forged = forged.unwrap();
    let line = |n: usize| match n {
        n if n % 1009 == 7 => &bad,
        n if n % 501 == 3 => &forged,
        _ => &good,
    };
    // More than are judged together.
    let text: String = (1..=2500)
        .map(|n| line(n).trim_end().to_owned() + "\n")
        .collect();
    fs::write(&file, text).unwrap();
    let (code, told, _) = verify_json(&["--swarm", &roster()], &[file]);
    let items = told["items"].as_array().unwrap();
    assert_eq!((code, items.len()), (1, 2500));
    for (n, item) in (1..).zip(items) {
        assert_eq!(item["line"], n);
        let reason = match n {
            n if n % 1009 == 7 => json!("schema"),
            n if n % 501 == 3 => json!("bad-signature"),
            _ => Value::Null,
        };
        assert_eq!(item["reason"], reason, "{item}");
    }
}

#[test]
fn reads_one_message_over_several_lines_and_none_over_the_limits() {
    let message: Value = serde_json::from_slice(&read("valid_ifmessage_escalate.json")).unwrap();
    let pretty = serde_json::to_vec_pretty(&message).unwrap();
    let (code, told) = verify_stdin(&["--swarm", &roster()], &pretty);
    assert_eq!((code, &told["items"][0]["identity"]), (0, &json!("pinned")));

    let reason = |text: &[u8]| {
        let (code, told) = verify_stdin(&[], text);
        assert_eq!(code, 1, "{told}");
        told["items"][0]["reason"].as_str().unwrap().to_owned()
    };
    let long = "x".repeat(300 * 1024);
    assert_eq!(
        reason(format!("{{\"a\":\"{long}\"}}").as_bytes()),
        "malformed"
    );
    assert_eq!(reason(&vec![b'['; 3 << 20]), "malformed");
    for nothing in [&b""[..], b"\n\n", b"null", b"hello", b"\xff\xfe", b"\0"] {
        assert_eq!(reason(nothing), "malformed");
    }
    // A line that is too long is one item, and the next line is read as usual.
    let text = [
        read("valid_ifmessage_escalate.json"),
        format!("\"{}\"\n", "x".repeat(2 << 20)).into_bytes(),
        read("valid_ifmessage_escalate.json"),
    ];
    let (code, told) = verify_stdin(&[], &text.concat());
    let oks: Vec<_> = told["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| &i["ok"])
        .collect();
    assert_eq!(
        (code, oks),
        (1, vec![&json!(true), &json!(false), &json!(true)])
    );
}

#[test]
fn finds_a_changed_byte_wherever_it_is_in_a_log_and_says_which_line() {
    let log = read("witness/entries.jsonl");
    let (code, told) = verify_stdin(&[], &log);
    let item = &told["items"][0];
    assert_eq!(
        (code, &item["kind"], &item["ok"]),
        (0, &json!("witness"), &json!(true))
    );
    let detail = item["detail"].as_str().unwrap();
    assert!(detail.contains("6 entries, root "), "{detail}");

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("entries.jsonl");
    let last_line = log[..log.len() - 1]
        .iter()
        .rposition(|b| *b == b'\n')
        .unwrap();
    // The last line can still be changed: a checkpoint will seal it.
    for at in (0..last_line).step_by(97) {
        let mut changed = log.clone();
        changed[at] ^= 0x04;
        fs::write(&file, &changed).unwrap();
        let (code, told, _) = verify_json(&[], std::slice::from_ref(&file));
        let item = &told["items"][0];
        assert_eq!(
            (code, &item["kind"]),
            (1, &json!("witness")),
            "byte {at}: {told}"
        );
        let line = 1 + log[..at].iter().filter(|b| **b == b'\n').count() as u64;
        let found = item["line"].as_u64().unwrap();
        assert!(
            found == line || found == line + 1,
            "byte {at} of line {line}: {told}"
        );
    }

    fs::write(&file, &log[..log.len() - 1]).unwrap();
    let (code, told, _) = verify_json(&[], &[file]);
    let item = &told["items"][0];
    assert_eq!(
        (code, &item["reason"], &item["line"]),
        (1, &json!("torn-line"), &json!(6))
    );
}

#[test]
fn checks_a_log_by_its_file_its_folder_and_every_log_below_one() {
    let dir = tempfile::tempdir().unwrap();
    for agent in ["a", "b"] {
        let folder = dir.path().join("five-agent").join(agent);
        fs::create_dir_all(&folder).unwrap();
        fs::copy(
            fixture("witness/entries.jsonl"),
            folder.join("entries.jsonl"),
        )
        .unwrap();
    }
    let below = |path: &str| dir.path().join(path);
    for (path, expected) in [
        ("", 2),
        ("five-agent", 2),
        ("five-agent/a", 1),
        ("five-agent/a/entries.jsonl", 1),
    ] {
        let (code, told, _) = verify_json(&[], &[below(path)]);
        assert_eq!(code, 0, "{told}");
        assert_eq!(told["items"].as_array().unwrap().len(), expected, "{told}");
    }
    // The log says that it is finance's, under finance's key of this roster, and no other.
    let (code, told, _) = verify_json(&["--swarm", &roster()], &[below("five-agent/a")]);
    assert_eq!(code, 0, "{told}");
    let other = KeyPair::from_secret(&[9; 32]).public_key().to_string();
    let (code, told, _) = verify_json(&["--key", &other], &[below("five-agent/a")]);
    assert_eq!(
        (code, &told["items"][0]["reason"]),
        (1, &json!("key-mismatch"))
    );
}

#[test]
fn what_cannot_be_read_is_2_whatever_else_there_is() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing.json");
    let good = fixture("valid_ifmessage_escalate.json");
    for file in [&missing, &dir.path().join("missing.yaml"), dir.path()] as [&Path; 3] {
        let (code, told, stderr) = verify_json(&[], &[file.into(), good.clone()]);
        assert_eq!(code, 2, "{told}");
        assert_eq!(
            told["items"][1]["ok"], true,
            "the others are checked all the same"
        );
        assert!(stderr.starts_with("error: "), "{stderr}");
        assert!(stderr.contains(file.to_str().unwrap()), "{stderr}");
    }
    let (code, stdout, stderr) = run(ifswarm().arg("verify").arg(&missing));
    assert_eq!((code, stdout.as_str()), (2, ""));
    assert_eq!(stderr.lines().count(), 1, "{stderr}");

    let empty = run(ifswarm().arg("verify").arg(dir.path())).2;
    assert!(empty.contains("SWARM/AGENT/entries.jsonl"), "{empty}");
}

#[test]
fn a_bad_swarm_file_shows_line_and_caret() {
    let dir = tempfile::tempdir().unwrap();
    let bad = dir.path().join("bad.yaml");
    fs::write(&bad, "swarm: five\nagents:\n  - id: a\n  - id: 'no id'\n").unwrap();
    let (code, stdout, _) = run(ifswarm().arg("verify").arg(&bad));
    assert_eq!(code, 1);
    assert!(
        stdout.contains("bad.yaml:4:") && stdout.contains('^'),
        "{stdout}"
    );
    let (code, told, _) = verify_json(&[], std::slice::from_ref(&bad));
    let item = &told["items"][0];
    assert_eq!(
        (code, &item["kind"], &item["line"]),
        (1, &json!("swarm"), &json!(4))
    );
    assert_eq!(item["reason"], "malformed");

    // As the roster it is not what is judged, but what is judged by.
    let message = fixture("valid_ifmessage_escalate.json");
    let (code, stdout, stderr) = run(ifswarm()
        .arg("verify")
        .arg(message)
        .arg("--swarm")
        .arg(&bad));
    assert_eq!((code, stdout.as_str()), (2, ""));
    assert!(
        stderr.contains("bad.yaml:4:") && stderr.contains('^'),
        "{stderr}"
    );

    fs::write(&bad, "swarm: five\nagents:\n  - id: a\n  - id: b\n").unwrap();
    let (code, _, stderr) = run(ifswarm().arg("verify").arg("-").arg("--swarm").arg(&bad));
    assert_eq!(code, 2);
    assert!(stderr.contains("public_key"), "{stderr}");
}

#[test]
fn a_reader_that_goes_away_changes_no_verdict() {
    let bad = fixture("invalid/unsigned-no-signature.json");
    let mut child = ifswarm()
        .arg("verify")
        .args(std::iter::repeat_n(bad, 2000))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
