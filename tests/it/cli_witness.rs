//! `ifswarm witness`: prove, export, tail.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::cli::{Running, ifswarm, run};
use crate::cli_checkpoints::{cut, failed, item, roster, twenty};
use crate::support::{FixtureAgent, fixtures_dir};
use crate::witness_fixtures::Written;

#[test]
fn an_entry_is_proved_to_whoever_has_nothing_but_the_proof_and_a_key() {
    let dir = tempfile::tempdir().unwrap();
    let folder = twenty(dir.path());
    let prove = |n: &str, at: &Path| run(ifswarm().args(["witness", "prove", n]).arg(at));
    let proof = dir.path().join("proof.json");
    let swarm = roster();
    for (n, covered) in [("0", 10), ("9", 10), ("10", 15), ("17", 18)] {
        let (code, stdout, stderr) = prove(n, &folder);
        assert_eq!((code, stderr.as_str()), (0, ""));
        fs::write(&proof, &stdout).unwrap();
        let (code, told) = item(&proof, &["--swarm", &swarm, "--require-identity"]);
        assert_eq!((code, &told["kind"]), (0, &json!("proof")), "{told}");
        assert_eq!(
            (&told["signer"], &told["entries"]),
            (&json!("finance"), &json!(covered))
        );
        assert!(
            told["detail"]
                .as_str()
                .unwrap()
                .starts_with(&format!("entry {n} (")),
            "{told}"
        );
        assert_eq!(item(&proof, &[]).1["identity"], "unpinned");
    }
    let text = fs::read_to_string(&proof).unwrap();
    for (from, to, reason) in [
        (
            "\\\"sequence_num\\\":17",
            "\\\"sequence_num\\\":18",
            "bad-proof",
        ),
        ("\"index\":17,\"o", "\"index\":16,\"o", "schema"),
        ("proof/1", "proof/2", "schema"),
        ("\\n18\\n", "\\n17\\n", "bad-checkpoint-signature"),
    ] {
        assert!(text.contains(from), "{from}");
        fs::write(&proof, text.replacen(from, to, 1)).unwrap();
        failed(&proof, &[], reason);
    }
    fs::write(&proof, &text).unwrap();
    let other = FixtureAgent::new("legal").public_key().to_string();
    failed(&proof, &["--key", &other], "key-mismatch");
    failed(
        &proof,
        &["--swarm", &swarm, "--require-cosigners", "1"],
        "too-few-cosigners",
    );

    let (code, stdout, stderr) = prove("18", &folder);
    assert_eq!((code, stdout.as_str()), (3, ""));
    assert!(stderr.contains("no checkpoint covers entry 18"), "{stderr}");
    cut(&folder, 16);
    let (code, _, stderr) = prove("17", &folder);
    assert_eq!(code, 1);
    assert!(stderr.contains("truncated"), "{stderr}");
}

#[test]
fn one_log_must_be_named_where_there_are_several() {
    let dir = tempfile::tempdir().unwrap();
    let folder = twenty(dir.path());
    let prove = |at: &Path| run(ifswarm().args(["witness", "prove", "0"]).arg(at));
    // The only one below is found.
    assert_eq!(prove(dir.path()), prove(&folder));
    Written::open(dir.path(), "legal").grow(2);
    for (path, said) in [
        (dir.path(), "found 2 logs"),
        (&dir.path().join("missing"), "expected the folder of a log"),
        (&fixtures_dir().join("invalid"), "without witness logs"),
    ] {
        for args in [
            &["witness", "prove", "0"][..],
            &["witness", "export"],
            &["witness", "tail"],
        ] {
            let (code, stdout, stderr) = run(ifswarm().args(args).arg(path));
            assert_eq!((code, stdout.as_str()), (2, ""), "{args:?}");
            assert!(stderr.contains(said), "{stderr}");
        }
    }
}

#[test]
fn an_export_verifies_elsewhere_and_no_line_of_it_can_be_changed() {
    let dir = tempfile::tempdir().unwrap();
    let folder = twenty(dir.path());
    let swarm = roster();
    let file = dir.path().join("finance.export");
    fs::write(&file, "an older one").unwrap();
    let export = |args: &[&str]| {
        run(ifswarm()
            .args(["witness", "export"])
            .arg(&folder)
            .args(args))
    };
    let out = ["--swarm", &swarm, "--out", file.to_str().unwrap()];
    let (code, stdout, stderr) = export(&out);
    assert_eq!((code, stdout.as_str()), (0, ""), "{stderr}");
    assert!(stderr.contains("20 entries of finance"), "{stderr}");
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let text = fs::read_to_string(&file).unwrap();
    let (code, stdout, _) = export(&["--swarm", &swarm]);
    assert_eq!((code, &stdout), (0, &text), "the same on standard output");
    let entries = fs::read_to_string(folder.join("entries.jsonl")).unwrap();
    assert!(text.ends_with(&entries) && text.lines().count() == 21);

    fs::remove_dir_all(dir.path().join("five-agent")).unwrap();
    let args = [
        "--swarm",
        &swarm,
        "--require-identity",
        "--require-cosigners",
        "2",
    ];
    let (code, told) = item(&file, &args);
    assert_eq!((code, &told["kind"]), (0, &json!("export")), "{told}");
    assert_eq!(
        (&told["entries"], &told["covered"]),
        (&json!(20), &json!(18))
    );
    // By its own roster it says who, and pins nothing.
    let (code, told) = item(&file, &[]);
    assert_eq!((code, &told["identity"]), (0, &json!("unpinned")));
    assert!(
        told["detail"]
            .as_str()
            .unwrap()
            .contains("legal (10), macro (15), by the roster in")
    );

    let lines: Vec<_> = text.split_inclusive('\n').collect();
    let spoilt = |text: String, reason: &str| {
        fs::write(&file, text).unwrap();
        failed(&file, &["--swarm", &swarm], reason)
    };
    for n in 1..lines.len() {
        let mut without = lines.clone();
        without.remove(n);
        let reason = if n == 20 { "truncated" } else { "chain-broken" };
        let told = spoilt(without.concat(), reason);
        assert_eq!(told["line"], n as u64 + 1, "{told}");
    }
    let changed = text.replacen("\"sequence_num\":7", "\"sequence_num\":8", 1);
    let told = spoilt(changed, "chain-broken");
    assert_eq!(
        told["line"], 10,
        "the line after entry 7, which stands in line 9"
    );
    spoilt(
        text.replacen("\"entries\":20", "\"entries\":19", 1),
        "schema",
    );
    spoilt(text.replacen("export/1", "export/9", 1), "schema");
    spoilt(
        text.replacen("\"entries\":20", "\"entries\":20,\"more\":1", 1),
        "schema",
    );
    spoilt(
        text.replacen("\\n18\\n", "\\n17\\n", 1),
        "bad-checkpoint-signature",
    );
    spoilt(lines[0].into(), "malformed");
    spoilt(text.trim_end().into(), "torn-line");
}

#[test]
fn what_is_not_good_is_not_exported() {
    let dir = tempfile::tempdir().unwrap();
    let folder = twenty(dir.path());
    let out = dir.path().join("out");
    fs::create_dir(&out).unwrap();
    let export = |args: &[&str]| {
        let mut command = ifswarm();
        let command = command.args(["witness", "export"]).arg(&folder);
        let told = run(command.arg("--out").arg(out.join("file")).args(args));
        assert_eq!(
            fs::read_dir(&out).unwrap().count(),
            0,
            "nothing is left behind"
        );
        told
    };
    let other = dir.path().join("other.yaml");
    let text = fs::read_to_string(roster()).unwrap();
    let key = |id| FixtureAgent::new(id).public_key().to_string();
    let swapped = text
        .replace(&key("finance"), "x")
        .replace(&key("legal"), &key("finance"));
    fs::write(&other, swapped.replace('x', &key("legal"))).unwrap();
    let (code, _, stderr) = export(&["--swarm", other.to_str().unwrap()]);
    assert_eq!(code, 1);
    assert!(stderr.contains("key-mismatch"), "{stderr}");

    cut(&folder, 16);
    let (code, _, stderr) = export(&[]);
    assert_eq!(code, 1);
    assert!(
        stderr.contains("truncated: found 16 entries, expected 18"),
        "{stderr}"
    );
    cut(&folder, 0);
    assert_eq!(export(&[]).0, 1);
}

#[test]
fn tail_shows_the_last_entries_as_they_are_or_for_people() {
    let dir = tempfile::tempdir().unwrap();
    let folder = twenty(dir.path());
    let tail = |args: &[&str]| run(ifswarm().args(["witness", "tail"]).arg(&folder).args(args));
    let text = fs::read_to_string(folder.join("entries.jsonl")).unwrap();
    let last = |n: usize| text.split_inclusive('\n').skip(20 - n).collect::<String>();
    for (args, expected) in [
        (&["--json"][..], last(10)),
        (&["--json", "-n", "3"], last(3)),
        (&["--json", "-n", "0"], String::new()),
        (&["--json", "-n", "1000"], text.clone()),
    ] {
        assert_eq!(tail(args), (0, expected, String::new()), "{args:?}");
    }
    // A line that is not whole is not there yet.
    let mut file = fs::OpenOptions::new()
        .append(true)
        .open(folder.join("entries.jsonl"))
        .unwrap();
    file.write_all(b"{\"agent_id\"").unwrap();
    assert_eq!(tail(&["--json", "-n", "3"]).1, last(3));

    let (code, stdout, _) = tail(&["-n", "2"]);
    assert_eq!((code, stdout.lines().count()), (0, 2));
    let line = stdout.lines().next().unwrap();
    assert!(
        line.starts_with("    18  2026-01-31T08:15:35.018Z  ifmessage_sent"),
        "{line}"
    );
    assert!(
        line.contains("  legal  ") && line.contains("\"sequence_num\":18"),
        "{line}"
    );
    assert!(!line.chars().any(char::is_control), "{line}");
}

#[test]
fn tail_follows_what_comes_and_ends_on_ctrl_c() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("five-agent/finance");
    let follow = |folder: &Path| {
        let mut command = ifswarm();
        Running::start(
            command
                .args(["witness", "tail", "--follow", "--json"])
                .arg(folder),
        )
    };
    let mut waiting = follow(&folder);
    assert!(waiting.error_line().starts_with("waiting for "));
    let mut finance = Written::open(dir.path(), "finance");
    let index = |line: String| serde_json::from_str::<Value>(&line).unwrap()["index"].clone();
    assert_eq!(index(waiting.line()), 0);
    let mut running = follow(&folder);
    assert_eq!(index(running.line()), 0);
    for size in [2, 5] {
        let from = finance.log.len();
        finance.grow(size);
        for n in from..size {
            assert_eq!(index(waiting.line()), n);
            assert_eq!(index(running.line()), n);
        }
    }
    running.kill("INT");
    assert_eq!(running.end(), (0, String::new(), String::new()));

    // A log that becomes shorter is none that is only appended to.
    cut(&folder, 2);
    let (code, _, stderr) = waiting.end();
    assert_eq!(code, 1);
    assert!(stderr.contains("was cut or replaced"), "{stderr}");

    let mut nowhere = follow(&dir.path().join("nowhere"));
    nowhere.error_line();
    nowhere.kill("INT");
    assert_eq!(nowhere.end().0, 0);
    // Without --follow there is nothing to wait for.
    let (code, _, stderr) = run(ifswarm()
        .args(["witness", "tail"])
        .arg(dir.path().join("no")));
    assert_eq!(code, 2);
    assert!(stderr.contains("expected the folder of a log"), "{stderr}");
}
