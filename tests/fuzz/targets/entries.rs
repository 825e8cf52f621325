//! Witness logs: `witness::check_reader`.

use std::path::Path;

use ifswarm::witness::{CheckError, Flaw, Reason, Report, check_reader};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::oracle::{assert_one_line, jcs, members};

pub(super) fn target(bytes: &[u8]) {
    judged(bytes);
    // Chained anew, so that a change is not found by the chain alone.
    judged(&chained(bytes));
}

fn judged(log: &[u8]) {
    match check(log) {
        Ok(report) => proves(log, &report),
        Err(flaw) => explained(log, &flaw),
    }
}

/// A good log is canonical lines that follow from each other, and so is its beginning.
fn proves(log: &[u8], report: &Report) {
    let lines: Vec<_> = log.split_inclusive(|byte| *byte == b'\n').collect();
    assert_eq!(report.entries, lines.len() as u64);
    let mut leaves = Vec::new();
    let mut last_hash = [0; 32];
    for (index, line) in lines.iter().enumerate() {
        let line = line.strip_suffix(b"\n").expect("whole lines");
        let members = members(line, MAX_LINE).expect("JSON");
        assert_eq!(jcs(&members), line);
        assert_eq!(members["index"], index);
        assert_eq!(members["prev_hash"], hex::encode(last_hash));
        assert_eq!(members["agent_id"], report.agent_id);
        last_hash = leaf(line);
        leaves.push(last_hash);
    }
    assert_eq!(report.last_hash, last_hash);
    assert_eq!(report.root, root(&leaves));

    let last = lines.last().expect("an empty log is none");
    let before = &log[..log.len() - last.len()];
    match check(before) {
        Ok(shorter) => assert_eq!(shorter.entries + 1, report.entries),
        Err(flaw) => assert!(before.is_empty(), "{flaw}"),
    }
    let torn = check(&log[..log.len() - 1]).expect_err("the last newline is missing");
    assert_eq!(torn.reason, Reason::TornLine);
}

fn explained(log: &[u8], flaw: &Flaw) {
    assert_one_line(&flaw.detail, MAX_DETAIL);
    let mut lines = log.split(|byte| *byte == b'\n');
    let line = usize::try_from(flaw.line).expect("few lines");
    let text = line.checked_sub(1).and_then(|line| lines.nth(line));
    let text = text.unwrap_or_else(|| panic!("there is no line {line}"));
    if let Some(column) = flaw.column {
        assert!((1..=text.len() + 1).contains(&column), "no column {column}");
    }
    // All before the line is good.
    let before: usize = log
        .split_inclusive(|byte| *byte == b'\n')
        .take(line - 1)
        .map(<[u8]>::len)
        .sum();
    match check(&log[..before]) {
        Ok(report) => assert_eq!(report.entries, flaw.line - 1),
        Err(flaw) => assert!(before == 0, "{flaw}"),
    }
}

fn check(log: &[u8]) -> Result<Report, Flaw> {
    check_reader(log, Path::new("entries.jsonl")).map_err(|err| match err {
        CheckError::Flawed { flaw, .. } => flaw,
        CheckError::Unreadable { source, .. } => panic!("memory can be read: {source}"),
    })
}

/// The same lines, those that are objects with the number and the hash that they should have.
fn chained(log: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(log.len());
    let mut last_hash = [0; 32];
    for (index, text) in log.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let line = text.strip_suffix(b"\n").unwrap_or(text);
        let start = out.len();
        match members(line, MAX_LINE) {
            Some(mut members) => {
                members.insert("index".into(), json!(index));
                members.insert("prev_hash".into(), json!(hex::encode(last_hash)));
                out.extend_from_slice(&jcs(&members));
            }
            None => out.extend_from_slice(line),
        }
        last_hash = leaf(&out[start..]);
        out.extend_from_slice(&text[line.len()..]);
    }
    out
}

/// RFC 6962, section 2.1, as it is written there.
fn root(leaves: &[[u8; 32]]) -> [u8; 32] {
    match leaves {
        [] => Sha256::digest([]).into(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            Sha256::digest([&[1][..], &root(left), &root(right)].concat()).into()
        }
    }
}

fn leaf(line: &[u8]) -> [u8; 32] {
    Sha256::digest([&[0][..], line].concat()).into()
}

const MAX_LINE: usize = 1 << 20;
/// Foreign text of 80 characters, escaped, and our own words.
const MAX_DETAIL: usize = 1_000;
