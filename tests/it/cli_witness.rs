//! `ifswarm witness`, and `ifswarm verify` of logs with checkpoints.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cli::{Running, ifswarm, run};
use crate::support::{FixtureAgent, fixtures_dir};
use crate::witness_fixtures::{Written, cosign};

/// Runs `verify --json` and gives the exit code and the one item.
fn item(path: &Path, args: &[&str]) -> (i32, Value) {
    let (code, items) = items(path, args);
    assert_eq!(items.len(), 1, "{items:?}");
    (code, items[0].clone())
}

fn items(path: &Path, args: &[&str]) -> (i32, Vec<Value>) {
    let (code, stdout, stderr) = run(ifswarm().args(["verify", "--json"]).arg(path).args(args));
    assert_eq!(stderr, "");
    let told: Value = serde_json::from_str(&stdout).unwrap();
    let items = told["items"].as_array().unwrap().clone();
    assert_eq!(told["ok"], items.iter().all(|item| item["ok"] == true));
    (code, items)
}

fn failed(path: &Path, args: &[&str], reason: &str) -> Value {
    let (code, item) = item(path, args);
    assert_eq!((code, &item["reason"]), (1, &json!(reason)), "{item}");
    item
}

fn roster() -> String {
    fixtures_dir().join("roster.yaml").to_str().unwrap().into()
}

/// Keeps only the first `n` entries.
fn cut(folder: &Path, n: usize) {
    let path = folder.join("entries.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<_> = text.split_inclusive('\n').take(n).collect();
    fs::write(path, lines.concat()).unwrap();
}

/// A log of finance of 20 entries, of which legal has seen 10, macro 15, and the log itself 18.
fn twenty(root: &Path) -> PathBuf {
    let mut finance = Written::open(root, "finance");
    for (size, cosigners) in [(10, &["legal"][..]), (15, &["macro"]), (18, &[])] {
        finance.grow(size);
        finance.checkpoint(cosigners);
    }
    finance.grow(20);
    finance.folder
}

#[test]
fn a_log_is_pinned_by_its_checkpoint_and_tells_what_it_covers_and_who_countersigned() {
    let dir = tempfile::tempdir().unwrap();
    let folder = twenty(dir.path());
    let roster = roster();
    let (code, item) = item(&folder, &["--swarm", &roster, "--require-identity"]);
    assert_eq!((code, &item["identity"]), (0, &json!("pinned")), "{item}");
    assert_eq!(
        (&item["entries"], &item["covered"]),
        (&json!(20), &json!(18))
    );
    assert_eq!(item["cosigners"], json!(["legal", "macro"]));
    let detail = item["detail"].as_str().unwrap();
    assert!(detail.contains("not yet covered: 2"), "{detail}");

    // The key alone pins too; without either nobody is known.
    let key = FixtureAgent::new("finance").public_key().to_string();
    let (code, item) = self::item(&folder, &["--key", &key]);
    assert_eq!((code, &item["identity"]), (0, &json!("pinned")));
    assert!(item.get("cosigners").is_none(), "{item}");
    let (code, item) = self::item(&folder, &[]);
    assert_eq!((code, &item["identity"]), (0, &json!("unpinned")));
    assert!(
        item["detail"]
            .as_str()
            .unwrap()
            .contains("keys are unknown"),
        "{item}"
    );

    // `witness verify` is the same judge.
    let verify = |args: &[&str]| run(ifswarm().args(args).arg(&folder).args(["--swarm", &roster]));
    assert_eq!(verify(&["witness", "verify"]), verify(&["verify"]));
    assert_eq!(
        verify(&["witness", "verify", "--json"]),
        verify(&["verify", "--json"])
    );

    // Without a checkpoint it is nobody's, and says what cannot be found.
    fs::remove_file(folder.join("checkpoint")).unwrap();
    fs::remove_dir_all(folder.join("cosignatures")).unwrap();
    let item = failed(
        &folder,
        &["--swarm", &roster, "--require-identity"],
        "unpinned",
    );
    assert!(item.get("covered").is_none());
    let (_, item) = self::item(&folder, &["--swarm", &roster]);
    assert!(
        item["detail"].as_str().unwrap().contains("no checkpoint"),
        "{item}"
    );
}

#[test]
fn as_many_cosigners_as_are_required_must_be_known_and_distinct() {
    let dir = tempfile::tempdir().unwrap();
    let folder = twenty(dir.path());
    let roster = roster();
    let require = |k| ["--swarm", &roster, "--require-cosigners", k].map(String::from);
    for (k, size) in [("1", 15), ("2", 10)] {
        let args = require(k);
        let (code, item) = item(&folder, &args.each_ref().map(String::as_str));
        let detail = item["detail"].as_str().unwrap();
        assert_eq!(code, 0, "{item}");
        assert!(
            detail.ends_with(&format!("the first {size} entries")),
            "{detail}"
        );
    }
    let args = require("3");
    failed(
        &folder,
        &args.each_ref().map(String::as_str),
        "too-few-cosigners",
    );

    // Of a swarm where macro is nobody there is one.
    let other = dir.path().join("other.yaml");
    let text = fs::read_to_string(&roster).unwrap();
    fs::write(&other, text.replace("- id: macro", "- id: micro")).unwrap();
    let args = [
        "--swarm",
        other.to_str().unwrap(),
        "--require-cosigners",
        "2",
    ];
    failed(&folder, &args, "too-few-cosigners");

    for bad in [
        &["--require-cosigners", "1"][..],
        &["--swarm", &roster, "--require-cosigners", "0"],
    ] {
        let (code, stdout, stderr) = run(ifswarm().arg("verify").arg(&folder).args(bad));
        assert_eq!((code, stdout.as_str()), (2, ""), "{stderr}");
        assert!(
            stderr.contains("--swarm") || stderr.contains("from 1"),
            "{stderr}"
        );
    }
}

#[test]
fn what_was_cut_rewritten_or_spoilt_is_told_with_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let folder = twenty(dir.path());
    let entries = fs::read(folder.join("entries.jsonl")).unwrap();

    cut(&folder, 19);
    assert_eq!(item(&folder, &[]).0, 0, "no checkpoint covers the last one");
    cut(&folder, 17);
    let truncated = failed(&folder, &[], "truncated");
    assert_eq!(truncated["line"], 18);
    assert!(
        truncated["detail"]
            .as_str()
            .unwrap()
            .contains("expected 18"),
        "{truncated}"
    );
    // The countersigned one is enough, wherever the log's own went.
    fs::remove_file(folder.join("checkpoint")).unwrap();
    cut(&folder, 14);
    failed(&folder, &[], "truncated");

    fs::write(folder.join("entries.jsonl"), &entries).unwrap();
    let checkpoint = folder.join("cosignatures/legal");
    let note = fs::read_to_string(&checkpoint).unwrap();
    fs::write(&checkpoint, note.replacen("\n10\n", "\n11\n", 1)).unwrap();
    let bad = failed(&folder, &[], "bad-checkpoint-signature");
    assert!(
        bad["detail"]
            .as_str()
            .unwrap()
            .contains("cosignatures/legal"),
        "{bad}"
    );
    fs::write(&checkpoint, "nothing").unwrap();
    failed(&folder, &[], "bad-checkpoint-signature");
    fs::remove_file(&checkpoint).unwrap();

    // Another log of the same agent under the same key: good by itself, and not what was signed.
    let other = tempfile::tempdir().unwrap();
    let mut anew = Written::open(other.path(), "finance");
    let early = anew.checkpoint(&[]);
    anew.grow(12);
    anew.log.append(ifswarm::witness::Entry::new(
        ifswarm::witness::Event::PeerLost,
        crate::support::now(),
    ));
    anew.grow(30);
    fs::copy(
        anew.folder.join("entries.jsonl"),
        folder.join("entries.jsonl"),
    )
    .unwrap();
    fs::write(&checkpoint, early.note().to_string()).unwrap();
    let mismatch = failed(&folder, &[], "checkpoint-mismatch");
    assert_eq!(mismatch["line"], 2, "{mismatch}");
    let detail = mismatch["detail"].as_str().unwrap();
    assert!(
        detail.contains("cosignatures/macro") && detail.contains("1 to 14"),
        "{detail}"
    );

    // A folder that has only its checkpoint has lost its entries.
    fs::write(folder.join("checkpoint"), "").unwrap();
    fs::remove_file(folder.join("entries.jsonl")).unwrap();
    let (code, _, stderr) = run(ifswarm().arg("verify").arg(dir.path()));
    assert_eq!(code, 2);
    assert!(stderr.contains("finance/entries.jsonl"), "{stderr}");
}

#[test]
fn a_log_of_another_swarm_is_none_of_this_one() {
    let dir = tempfile::tempdir().unwrap();
    let folder = twenty(dir.path());
    let other = dir.path().join("other.yaml");
    let text = fs::read_to_string(roster()).unwrap();
    fs::write(&other, text.replace("swarm: five-agent", "swarm: other")).unwrap();
    for path in [&folder, &folder.join("checkpoint")] {
        failed(path, &["--swarm", other.to_str().unwrap()], "wrong-swarm");
    }
}

#[test]
fn a_log_without_its_own_checkpoints_is_found_out_by_the_logs_of_its_peers() {
    let dir = tempfile::tempdir().unwrap();
    let mut finance = Written::open(dir.path(), "finance");
    let mut legal = Written::open(dir.path(), "legal");
    for size in [5, 12] {
        finance.grow(size);
        let signed = finance.checkpoint(&[]);
        legal.has_cosigned("finance", &signed);
        legal.grow(legal.log.len() + 3);
    }
    finance.grow(14);
    fs::remove_file(finance.folder.join("checkpoint")).unwrap();

    // Together they are pinned by what legal holds.
    let swarm = roster();
    let roster = ["--swarm", &swarm];
    let (code, told) = items(dir.path(), &roster);
    assert_eq!((code, &told[0]["covered"]), (0, &json!(12)), "{told:?}");
    assert_eq!(told[0]["cosigners"], json!(["legal"]));
    let strict = [&roster[..], &["--require-cosigners", "1"]].concat();
    let (code, told) = items(dir.path(), &strict);
    assert_eq!((code, &told[0]["ok"]), (1, &json!(true)));
    assert_eq!(
        told[1]["reason"], "too-few-cosigners",
        "nobody countersigned legal's"
    );

    cut(&finance.folder, 11);
    assert_eq!(item(&finance.folder, &roster).0, 0, "alone it is good");
    let (code, told) = items(dir.path(), &roster);
    assert_eq!((code, &told[0]["reason"]), (1, &json!("truncated")));
    let detail = told[0]["detail"].as_str().unwrap();
    assert!(detail.contains("of the log of legal"), "{detail}");
    assert_eq!(told[1]["ok"], true);
}

#[test]
fn checkpoints_are_recognised_by_themselves_and_need_a_key() {
    let dir = tempfile::tempdir().unwrap();
    let folder = twenty(dir.path());
    let swarm = roster();
    let checkpoint = folder.join("checkpoint");
    let (code, own) = item(&checkpoint, &["--swarm", &swarm]);
    assert_eq!((code, &own["kind"]), (0, &json!("checkpoint")));
    assert_eq!(
        (&own["identity"], &own["entries"]),
        (&json!("pinned"), &json!(18))
    );
    let cosigned = folder.join("cosignatures/legal");
    let one = ["--swarm", &swarm, "--require-cosigners", "1"];
    let (code, told) = item(&cosigned, &one);
    assert_eq!((code, &told["cosigners"]), (0, &json!(["legal"])));
    failed(&checkpoint, &one, "too-few-cosigners");
    failed(&checkpoint, &[], "unknown-source");
    let other = FixtureAgent::new("legal").public_key().to_string();
    failed(&checkpoint, &["--key", &other], "bad-checkpoint-signature");

    let note = fs::read_to_string(&checkpoint).unwrap();
    let spoilt = dir.path().join("spoilt");
    for (text, reason) in [
        (
            note.replacen("\n18\n", "\n19\n", 1),
            "bad-checkpoint-signature",
        ),
        (note.replacen("\n18\n", "\n018\n", 1), "malformed"),
        (note.trim_end().into(), "malformed"),
        ("ifswarm-log/".into(), "malformed"),
    ] {
        fs::write(&spoilt, text).unwrap();
        failed(&spoilt, &["--swarm", &swarm], reason);
    }
}

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
    let (code, told) = items(&file, &["--swarm", &roster()]);
    assert_eq!((code, told.len()), (1, 2500));
    for (n, item) in (1..).zip(&told) {
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
fn a_forged_countersignature_counts_for_none() {
    let dir = tempfile::tempdir().unwrap();
    let mut finance = Written::open(dir.path(), "finance");
    finance.grow(3);
    let mut signed = finance.checkpoint(&[]);
    cosign(&mut signed, "legal");
    let note = signed.note().to_string();
    // The line of legal under the name of macro.
    let (own, cosignature) = note.trim_end().rsplit_once('\n').unwrap();
    let forged = format!("{own}\n{}\n", cosignature.replace("/legal ", "/macro "));
    fs::create_dir(finance.folder.join("cosignatures")).unwrap();
    fs::write(finance.folder.join("cosignatures/macro"), forged).unwrap();
    let swarm = roster();
    let (code, told) = item(&finance.folder, &["--swarm", &swarm]);
    assert_eq!((code, &told["cosigners"]), (0, &json!([])), "{told}");
    assert!(
        told["detail"]
            .as_str()
            .unwrap()
            .contains("count for none: 1"),
        "{told}"
    );
    failed(
        &finance.folder,
        &["--swarm", &swarm, "--require-cosigners", "1"],
        "too-few-cosigners",
    );
}
