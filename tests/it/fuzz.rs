//! Every decoder of `tests/fuzz/targets` under changed input: a fixed number of executions, the
//! same each time. `tests/fuzz/README.md` says how to run more.
//!
//! An input that a target does not hold for is written to a file, which the message names.

pub(crate) mod mutate;
#[path = "../fuzz/targets/mod.rs"]
mod targets;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::support::fixtures_dir;
use mutate::{Mutator, Random};

#[test]
fn ifmessages_hold_under_changed_input() {
    fuzz("ifmessage", &["invalid/", "valid_ifm", "signed_"], 2_500);
}

#[test]
fn signaling_frames_hold_under_changed_input() {
    fuzz("frame", &["invalid-sdp/", "valid_sdp", "valid_ice"], 5_000);
}

#[test]
fn control_frames_hold_under_changed_input() {
    fuzz("control", &[], 20_000);
}

#[test]
fn offers_and_answers_hold_under_changed_input() {
    fuzz("sdp", &["invalid-sdp/", "valid_sdp"], 4_000);
}

#[test]
fn descriptions_hold_under_changed_input() {
    fuzz("description", &[], 500);
}

#[test]
fn swarm_files_hold_under_changed_input() {
    fuzz("swarm", &["roster.yaml"], 3_000);
}

#[test]
fn witness_entries_hold_under_changed_input() {
    fuzz("entries", &["witness/"], 2_000);
}

#[test]
fn signed_notes_hold_under_changed_input() {
    fuzz("note", &[], 5_000);
}

#[test]
fn proofs_hold_under_changed_input() {
    fuzz("proof", &["valid_proof"], 3_000);
}

#[test]
fn exports_hold_under_changed_input() {
    fuzz("export", &["valid_export"], 1_000);
}

#[test]
fn key_files_hold_under_changed_input() {
    fuzz("key_file", &[], 5_000);
}

#[test]
fn every_target_has_seeds_a_test_and_a_file_for_cargo_fuzz() {
    let names: BTreeSet<_> = targets::TARGETS.iter().map(|(name, _)| *name).collect();
    let listed = |folder: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(fuzz_dir().join(folder)).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths
            .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
            .collect()
    };
    let here = include_str!("fuzz.rs");
    for name in &names {
        assert!(here.contains(&format!("    fuzz(\"{name}\", ")), "{name}");
    }
    let names: BTreeSet<_> = names.into_iter().map(String::from).collect();
    assert_eq!(listed("fuzz_targets"), names);
    assert_eq!(listed("corpus"), names);
}

#[test]
fn the_same_number_makes_the_same_input() {
    let seeds = vec![b"{\"a\":1}".to_vec(), b"b".to_vec()];
    let words = words();
    let input = |n| Mutator::new(&seeds, &words, Random::new("x", n)).input();
    let inputs: BTreeSet<_> = (0..100).map(input).collect();
    assert!(inputs.len() > 50, "inputs differ");
    assert!((0..100).all(|n| input(n) == input(n)));
}

/// Runs the target on every seed and fixture, then on `executions` changed seeds: those of its
/// corpus, and the fixtures whose path begins with one of `kinds`.
fn fuzz(name: &str, kinds: &[&str], executions: u64) {
    if let Some(path) = std::env::var_os("IFSWARM_FUZZ_INPUT") {
        return targets::named(name)(&fs::read(path).expect("IFSWARM_FUZZ_INPUT is a file"));
    }
    let mut seeds = files(&fuzz_dir().join("corpus").join(name));
    for (path, seed) in files(&fixtures_dir()) {
        run(name, &seed, &path);
        if kinds.iter().any(|kind| path.starts_with(kind)) {
            seeds.insert(path, seed);
        }
    }
    for (path, seed) in &seeds {
        run(name, seed, path);
    }
    let seeds: Vec<_> = seeds.into_values().collect();
    let words = words();
    let executions = match std::env::var("IFSWARM_FUZZ_RUNS") {
        Ok(runs) => runs.parse().expect("IFSWARM_FUZZ_RUNS is a number"),
        Err(_) => executions,
    };
    for n in 0..executions {
        let input = Mutator::new(&seeds, &words, Random::new(name, n)).input();
        run(name, &input, &format!("execution {n}"));
    }
}

fn run(name: &str, input: &[u8], from: &str) {
    let target = targets::named(name);
    if catch_unwind(AssertUnwindSafe(|| target(input))).is_ok() {
        return;
    }
    let digest = hex::encode(&Sha256::digest(input)[..8]);
    let path = std::env::temp_dir().join(format!("ifswarm-fuzz-{name}-{digest}"));
    let written = fs::write(&path, input);
    let shown = input[..input.len().min(SHOWN)].escape_ascii();
    panic!(
        "{name} does not hold for {from}, {} bytes:\n{shown}\n\
         written to {} ({written:?}); again, with this input alone:\n\
         IFSWARM_FUZZ_INPUT={} cargo test --test it fuzz:: # and the name of this test",
        input.len(),
        path.display(),
        path.display(),
    );
}

/// All files of a folder and those in it, by their path within it.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            let below = files(&path).into_iter();
            found.extend(below.map(|(below, bytes)| (format!("{name}/{below}"), bytes)));
        } else {
            found.insert(name, fs::read(&path).unwrap());
        }
    }
    found
}

/// The words of `words.dict`, which is in the form of libFuzzer.
fn words() -> Vec<Vec<u8>> {
    let text = fs::read_to_string(fuzz_dir().join("words.dict")).unwrap();
    let lines = text.lines().filter(|line| line.starts_with('"'));
    let words: Vec<_> = lines.map(word).collect();
    assert!(words.len() > 100, "the words are read whole");
    words
}

/// One line: `"…"`, with `\\`, `\"` and `\xNN`.
fn word(line: &str) -> Vec<u8> {
    let line = line
        .strip_prefix('"')
        .and_then(|line| line.strip_suffix('"'));
    let mut rest = line.expect("a word in quotes").as_bytes();
    let mut word = Vec::new();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match (first, after) {
            (b'\\', [b'x', digits @ ..]) => {
                let byte = hex::decode(&digits[..2]).expect("two hex digits");
                word.extend(byte);
                rest = &digits[2..];
            }
            (b'\\', [escaped, after @ ..]) => {
                word.push(*escaped);
                rest = after;
            }
            (byte, _) => word.push(*byte),
        }
    }
    word
}

fn fuzz_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz")
}

/// As much of an input as is worth reading in a terminal.
const SHOWN: usize = 2_000;
