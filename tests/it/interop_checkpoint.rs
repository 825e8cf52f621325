//! A second program, which follows the texts of the C2SP and no code of ours, reads what is signed
//! of a log: checkpoints, countersignatures, proofs, exports.

use std::fs;

use ifswarm::witness::{self, COSIGNATURES_FOLDER, export, prove};
use serde_json::Value;

use crate::cli::{self, ifswarm};
use crate::live::{LiveSwarm, say, within, witness_file};
use crate::python::{lines, run};
use crate::support::{AGENTS, FixtureAgent, fixtures_dir, roster};
use crate::witness_fixtures::{Written, cosign, origin};

/// `--key NAME=HEX` for each agent of the fixtures.
fn keys() -> Vec<String> {
    let keys = AGENTS.map(|id| {
        let key = FixtureAgent::new(id).public_key();
        ["--key".to_owned(), format!("{}={key}", origin(id))]
    });
    keys.concat()
}

/// What the other program says of each file.
fn verdicts(keys: &[String], files: &[String]) -> Vec<String> {
    let args: Vec<_> = keys.iter().chain(files).map(String::as_str).collect();
    let told = lines(&run("witness.py", &args, ""));
    assert_eq!(told.len(), files.len());
    told
}

#[test]
fn python_accepts_the_checkpoints_proofs_and_exports_that_this_program_makes() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    let mut expected = Vec::new();
    let mut put = |name: String, bytes: &[u8], verdict: String| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        files.push(path.to_str().unwrap().to_owned());
        expected.push(verdict);
    };
    let (finance, legal, third) = (origin("finance"), origin("legal"), origin("macro"));
    for size in [1, 2, 7, 8, 13] {
        let root = tempfile::tempdir().unwrap();
        let mut log = Written::open(root.path(), "finance");
        log.grow(size);
        let mut signed = log.checkpoint(&["legal", "macro"]);
        let head = hex::encode(signed.checkpoint().root);
        let note = signed.note().to_string();
        let says = |by: &str| format!("ok checkpoint {finance} {size} {head} {by}");
        put(format!("bare-{size}"), note.as_bytes(), says("-"));
        cosign(&mut signed, "macro");
        cosign(&mut signed, "legal");
        let note = signed.note().to_string();
        put(
            format!("both-{size}"),
            note.as_bytes(),
            says(&format!("{legal},{third}")),
        );

        for index in 0..size {
            let proof = prove(&log.folder, index).unwrap().to_line();
            let verdict = format!("ok proof {finance} {index} {size} {head} ");
            put(format!("proof-{size}-{index}"), proof.as_bytes(), verdict);
        }
        let covered = size;
        log.grow(size + 2);
        let mut bytes = Vec::new();
        export(&log.folder, Some(&roster()), &mut bytes).unwrap();
        let report = witness::check(&log.folder).unwrap();
        let (entries, root) = (report.entries, hex::encode(report.root));
        let verdict = format!("ok export {finance} {entries} {root} {covered} {legal},{third}");
        put(format!("export-{size}"), &bytes, verdict);
    }
    for (verdict, expected) in verdicts(&keys(), &files).iter().zip(&expected) {
        // Which of the checkpoints of one size a proof takes is not said.
        assert!(
            verdict.starts_with(expected.as_str()),
            "{verdict}, not {expected}"
        );
    }
}

#[test]
fn python_refuses_what_was_changed() {
    let dir = tempfile::tempdir().unwrap();
    let read = |name: &str| fs::read(fixtures_dir().join(name)).unwrap();
    let mut files = Vec::new();
    for (name, step) in [
        ("witness/checkpoint", 1),
        ("valid_proof.json", 7),
        ("valid_export.jsonl", 11),
    ] {
        let bytes = read(name);
        // In the header of an export the rosters and countersignatures of others may be changed:
        // they count for less then. Its entries may not.
        let entries = bytes.iter().position(|byte| *byte == b'\n').unwrap();
        let start = if name.ends_with('l') { entries } else { 0 };
        // What stands at the end of a proof or a checkpoint is no more than a newline.
        for at in (start..bytes.len() - 1).step_by(step) {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 5);
            let path = dir.path().join(format!("{}-{at}", name.replace('/', "-")));
            fs::write(&path, changed).unwrap();
            files.push(path.to_str().unwrap().to_owned());
        }
    }
    assert!(files.len() > 500, "{}", files.len());
    let mut uncounted = 0;
    for (file, verdict) in files.iter().zip(verdicts(&keys(), &files)) {
        // A changed countersignature counts for none, and the log's own still holds.
        let is_uncounted = file.contains("proof") && verdict.ends_with(" -");
        uncounted += usize::from(is_uncounted);
        assert!(
            verdict.starts_with("broken ") || is_uncounted,
            "{file}: {verdict}"
        );
    }
    assert!(
        uncounted < 30,
        "the line of one countersignature has 134 bytes: {uncounted}"
    );
    // Nor under another key.
    let checkpoint = fixtures_dir().join("witness/checkpoint");
    let checkpoint = checkpoint.to_str().unwrap().to_owned();
    let other = FixtureAgent::new("legal").public_key();
    let key = ["--key".to_owned(), format!("{}={other}", origin("finance"))];
    let verdict = verdicts(&key, std::slice::from_ref(&checkpoint));
    assert!(verdict[0].starts_with("broken "), "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_live_swarm_leaves_is_countersigned_and_one_log_cannot_be_cut_alone() {
    within(async {
        let ids = ["ann", "bob", "zoe"];
        let mut swarm = LiveSwarm::start(&ids).await;
        swarm.agent(0).send(say("bob", "hello")).await.unwrap();
        swarm.agents[1].message().await;
        // The others stay until it has gone, and countersign all that it said.
        let ann = swarm.agents.remove(0);
        ann.agent.shutdown("done").await.unwrap();
        let (_, dir) = swarm.end_in_folder().await;

        let roster = dir.path().join("live.yaml");
        let mut text = String::from("swarm: live\nagents:\n");
        let mut keys = Vec::new();
        for id in ids {
            let key = FixtureAgent::new(id).public_key();
            text += &format!("  - {{ id: {id}, public_key: {key} }}\n");
            keys.extend(["--key".into(), format!("ifswarm-log/live/{id}={key}")]);
        }
        fs::write(&roster, text).unwrap();
        let verify = |path: &std::path::Path, args: &[&str]| {
            let mut command = ifswarm();
            let command = command.args(["witness", "verify", "--json"]).arg(path);
            let (code, stdout, _) = cli::run(command.arg("--swarm").arg(&roster).args(args));
            let told: Value = serde_json::from_str(&stdout).unwrap();
            (code, told["items"].as_array().unwrap().clone())
        };
        let folder = witness_file(dir.path(), "ann").with_file_name("");
        let (code, told) = verify(&folder, &["--require-cosigners", "2"]);
        assert_eq!(code, 0, "{told:?}");
        assert_eq!(told[0]["identity"], "pinned");
        let (code, told) = verify(dir.path(), &[]);
        assert_eq!((code, told.len()), (0, 3), "{told:?}");

        let file = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        let files = [
            file("checkpoint"),
            file("cosignatures/bob"),
            file("cosignatures/zoe"),
        ];
        for (verdict, by) in verdicts(&keys, &files).iter().zip(["-", "bob", "zoe"]) {
            assert!(
                verdict.starts_with("ok checkpoint ifswarm-log/live/ann "),
                "{verdict}"
            );
            assert!(verdict.ends_with(by), "{verdict}");
        }

        // What ann can do to her own folder is found out by what the others hold.
        fs::remove_file(folder.join("checkpoint")).unwrap();
        fs::remove_dir_all(folder.join(COSIGNATURES_FOLDER)).unwrap();
        let text = fs::read_to_string(file("entries.jsonl")).unwrap();
        let few: Vec<_> = text.split_inclusive('\n').take(3).collect();
        fs::write(file("entries.jsonl"), few.concat()).unwrap();
        assert_eq!(verify(&folder, &[]).0, 0, "alone it is good");
        let (code, told) = verify(dir.path(), &[]);
        assert_eq!(
            (code, &told[0]["reason"]),
            (1, &"truncated".into()),
            "{told:?}"
        );
    })
    .await;
}
