//! A second program checks the witnesses that agents really wrote, and finds what was changed.

use std::fs;

use ifswarm::witness;

use crate::live::{LiveSwarm, say, within, witness_file};
use crate::python::{lines, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_finds_the_same_tree_over_the_witnesses_of_a_live_swarm() {
    within(async {
        let ids = ["ann", "bob", "eve"];
        let mut swarm = LiveSwarm::start(&ids).await;
        for n in 0..10 {
            swarm
                .agent(0)
                .broadcast(say("*", &format!("兄弟 {n}")))
                .await
                .unwrap();
            for live in &mut swarm.agents[1..] {
                live.message().await;
            }
        }
        let (_, folder) = swarm.end_in_folder().await;
        let files = ids.map(|id| witness_file(folder.path(), id));
        let paths = files.each_ref().map(|file| file.to_str().unwrap());
        let output = run("witness.py", &paths, "");
        let verdicts = lines(&output);
        assert_eq!(verdicts.len(), ids.len());
        for ((id, file), verdict) in ids.iter().zip(&files).zip(&verdicts) {
            let report = witness::check(file).unwrap();
            let root = hex::encode(report.root);
            // Each link has an offer and an answer, of which both ends keep both.
            let expected = format!("ok {id} {} {root} {}", report.entries, 2 * (ids.len() - 1));
            assert_eq!(*verdict, expected);
        }
        assert!(output.status.success());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_and_rust_find_any_change_to_a_witness() {
    within(async {
        let swarm = LiveSwarm::start(&["ann", "bob"]).await;
        let (_, folder) = swarm.end_in_folder().await;
        let bytes = fs::read(witness_file(folder.path(), "ann")).unwrap();
        let lines_of: Vec<_> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
        let last = lines_of.len() - 1;
        let mut changed = Vec::new();
        // The last line is covered by no later one: what was changed there, checkpoints find.
        for (place, line) in lines_of[..last].iter().enumerate() {
            for at in [0, line.len() / 3, line.len() / 2, line.len() - 2] {
                let mut copy = lines_of
                    .iter()
                    .map(|line| line.to_vec())
                    .collect::<Vec<_>>();
                copy[place][at] ^= 1;
                changed.push(copy.concat());
            }
            let mut without = lines_of.clone();
            without.remove(place);
            changed.push(without.concat());
            let mut swapped = lines_of.clone();
            swapped.swap(place, place + 1);
            changed.push(swapped.concat());
        }
        changed.push(bytes[..bytes.len() - 1].to_vec());
        let files: Vec<_> = (0..changed.len())
            .map(|n| folder.path().join(format!("changed-{n}.jsonl")))
            .collect();
        for (file, bytes) in files.iter().zip(&changed) {
            fs::write(file, bytes).unwrap();
            assert!(witness::check(file).is_err(), "{}", file.display());
        }
        let paths: Vec<_> = files.iter().map(|file| file.to_str().unwrap()).collect();
        let verdicts = lines(&run("witness.py", &paths, ""));
        assert_eq!(verdicts.len(), changed.len());
        for (path, verdict) in paths.iter().zip(verdicts) {
            assert!(verdict.starts_with("broken "), "{path}: {verdict}");
        }
    })
    .await;
}
