//! `ifswarm verify` of logs with checkpoints, and of checkpoints by themselves.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cli::{ifswarm, run};
use crate::support::{FixtureAgent, fixtures_dir};
use crate::witness_fixtures::{Written, cosign};

/// Runs `verify --json` and gives the exit code and the one item.
pub(crate) fn item(path: &Path, args: &[&str]) -> (i32, Value) {
    let (code, items) = items(path, args);
    assert_eq!(items.len(), 1, "{items:?}");
    (code, items[0].clone())
}

pub(crate) fn items(path: &Path, args: &[&str]) -> (i32, Vec<Value>) {
    let (code, stdout, stderr) = run(ifswarm().args(["verify", "--json"]).arg(path).args(args));
    assert_eq!(stderr, "");
    let told: Value = serde_json::from_str(&stdout).unwrap();
    let items = told["items"].as_array().unwrap().clone();
    assert_eq!(told["ok"], items.iter().all(|item| item["ok"] == true));
    (code, items)
}

pub(crate) fn failed(path: &Path, args: &[&str], reason: &str) -> Value {
    let (code, item) = item(path, args);
    assert_eq!((code, &item["reason"]), (1, &json!(reason)), "{item}");
    item
}

pub(crate) fn roster() -> String {
    fixtures_dir().join("roster.yaml").to_str().unwrap().into()
}

/// Keeps only the first `n` entries.
pub(crate) fn cut(folder: &Path, n: usize) {
    let path = folder.join("entries.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<_> = text.split_inclusive('\n').take(n).collect();
    fs::write(path, lines.concat()).unwrap();
}

/// A log of finance of 20 entries, of which legal has seen 10, macro 15, and the log itself 18.
pub(crate) fn twenty(root: &Path) -> PathBuf {
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
