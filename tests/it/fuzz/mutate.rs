//! Changed seeds, the same for the same number: bytes, words, lines, and JSON values.
//!
//! Knows nothing of coverage; that is what cargo-fuzz is for.

use serde_json::Value;
use sha2::{Digest, Sha256};

/// Makes one input.
pub(crate) struct Mutator<'a> {
    seeds: &'a [Vec<u8>],
    words: &'a [Vec<u8>],
    random: Random,
}

/// Numbers that look random (SplitMix64).
pub(crate) struct Random(u64);

impl Random {
    /// Those of execution `n` of a target.
    pub(crate) fn new(name: &str, n: u64) -> Self {
        let digest = Sha256::digest(format!("{name} {n}"));
        Self(u64::from_be_bytes(*digest.first_chunk().unwrap()))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`; 0 where there is nothing below.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn pick<'b, T>(&mut self, items: &'b [T]) -> &'b T {
        &items[self.below(items.len())]
    }

    /// A range within `length`, short ones more often than long ones.
    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let longest = length >> self.below(8);
        let start = self.below(length + 1);
        start..(start + self.below(longest + 1) + 1).min(length).max(start)
    }
}

impl<'a> Mutator<'a> {
    pub(crate) fn new(seeds: &'a [Vec<u8>], words: &'a [Vec<u8>], random: Random) -> Self {
        Self {
            seeds,
            words,
            random,
        }
    }

    /// A seed with one change or a few.
    pub(crate) fn input(mut self) -> Vec<u8> {
        let mut input = self.random.pick(self.seeds).clone();
        for _ in 0..=self.random.below(4) {
            self.change(&mut input);
            input.truncate(LARGEST);
        }
        input
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let random = &mut self.random;
        let at = random.below(input.len());
        match random.below(16) {
            0 if !input.is_empty() => input[at] ^= 1 << random.below(8),
            1 if !input.is_empty() => input[at] = random.next() as u8,
            2 => drop(input.drain(random.range(input.len()))),
            3 => {
                let range = random.range(input.len());
                let times = [1, 1, 2, 100][random.below(4)];
                let copy = input[range.clone()].repeat(times);
                input.splice(range.end..range.end, copy);
            }
            4 => input.truncate(at),
            5 => {
                let other = random.pick(self.seeds);
                let from = random.below(other.len());
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            6 => {
                let word = random.pick(self.words).clone();
                input.splice(at..at, word);
            }
            7..=9 => {
                let word = random.pick(self.words).clone();
                input.splice(token(input, at), word);
            }
            10 => {
                let other = random.pick(self.seeds);
                let word = other[token(other, random.below(other.len()))].to_vec();
                input.splice(token(input, at), word);
            }
            11 | 12 => self.lines(input),
            _ => self.json(input),
        }
    }

    /// Drops, repeats or moves a line.
    fn lines(&mut self, input: &mut Vec<u8>) {
        let mut lines: Vec<_> = input.split_inclusive(|byte| *byte == b'\n').collect();
        if lines.len() < 2 {
            return;
        }
        let line = lines[self.random.below(lines.len())];
        let to = self.random.below(lines.len());
        match self.random.below(3) {
            0 => drop(lines.remove(to)),
            1 => lines.insert(to, line),
            _ => lines[to] = line,
        }
        *input = lines.concat();
    }

    /// Changes one value of a JSON text, or of one line of JSON.
    fn json(&mut self, input: &mut Vec<u8>) {
        let mut lines: Vec<_> = input.split(|byte| *byte == b'\n').collect();
        let place = self.random.below(lines.len());
        let Ok(mut value) = serde_json::from_slice(lines[place]) else {
            return;
        };
        let nodes = count(&value);
        let n = self.random.below(nodes);
        self.value(nth(&mut value, &mut { n }).expect("less than there are"));
        let line = value.to_string().into_bytes();
        lines[place] = &line;
        *input = lines.join(&b'\n');
    }

    fn value(&mut self, value: &mut Value) {
        let random = &mut self.random;
        let word = random.pick(self.words);
        let text = || String::from_utf8_lossy(word).into_owned();
        match (random.below(6), &mut *value) {
            (0, Value::Object(members)) => {
                let name = members.keys().nth(random.below(members.len())).cloned();
                name.and_then(|name| members.remove(&name));
            }
            (1, Value::Object(members)) => drop(members.insert(text(), Value::Null)),
            // What reads a struct may take a list of its members.
            (2, Value::Object(members)) => *value = members.values().cloned().collect(),
            (0, Value::Array(items)) if !items.is_empty() => {
                items.remove(random.below(items.len()));
            }
            (1, Value::Array(items)) => {
                let times = [1, 2, 70][random.below(3)];
                *items = std::iter::repeat_n(&*items, times)
                    .flatten()
                    .cloned()
                    .collect();
            }
            (0, Value::String(old)) => *old += &text(),
            (1, Value::String(old)) => *old = old.repeat([2, 10, 300][random.below(3)]),
            (3, value) => *value = Value::String(text()),
            (4, value) => *value = serde_json::from_slice(word).unwrap_or_default(),
            (_, value) => {
                // Wrapped, once or beyond every bound.
                for _ in 0..[1, 1, 70][random.below(3)] {
                    *value = Value::Array(vec![value.take()]);
                }
            }
        }
    }
}

/// How many values there are, this one included.
fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(members) => members.values().map(count).sum(),
        _ => 0,
    }
}

/// The value with this number, in the order of [`count`].
fn nth<'a>(value: &'a mut Value, n: &mut usize) -> Option<&'a mut Value> {
    if *n == 0 {
        return Some(value);
    }
    *n -= 1;
    match value {
        Value::Array(items) => items.iter_mut().find_map(|item| nth_or_skip(item, n)),
        Value::Object(members) => members.values_mut().find_map(|item| nth_or_skip(item, n)),
        _ => None,
    }
}

fn nth_or_skip<'a>(value: &'a mut Value, n: &mut usize) -> Option<&'a mut Value> {
    let size = count(value);
    if *n < size {
        return nth(value, n);
    }
    *n -= size;
    None
}

/// The word or number around a place, or what stands between two.
fn token(input: &[u8], at: usize) -> std::ops::Range<usize> {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-+.".contains(byte);
    let Some(kind) = input.get(at).map(is_word) else {
        return at..at;
    };
    let same = |byte: &u8| is_word(byte) == kind;
    let before = input[..at].iter().rev().take_while(|byte| same(byte));
    let after = input[at..].iter().take_while(|byte| same(byte));
    at - before.count()..at + after.count()
}

/// More than most bounds, and still quick to judge.
const LARGEST: usize = 80 * 1024;
