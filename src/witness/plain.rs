//! The quick way to read an entry: one look at each byte, nothing built.
//!
//! A long log is mostly lines that are right. [`follows`] finds those without making a JSON value
//! and writing it again, which is what decides how fast a log is checked. It says yes only where
//! the whole way in [`check`](mod@super::check) would, and nothing else: what it does not know (a
//! fraction, a member's name beyond ASCII, an error) it leaves to that, which also finds the words
//! for what is wrong.

use super::Event;
use super::entry::is_trace_id;
use super::tree::Hash;
use crate::identity::AgentId;
use crate::message::{MAX_DEPTH, Timestamp};

/// What happened, if `line` is for sure entry `index` of `owner`, canonical, and follows the line
/// whose hash is `prev_hash`; and is not the first, which says more than the others.
pub(super) fn follows(line: &[u8], owner: &str, index: u64, prev_hash: &Hash) -> Option<Event> {
    let mut prev = [0; 2 * size_of::<Hash>()];
    hex::encode_to_slice(prev_hash, &mut prev).ok()?;

    let mut rest = Rest(str::from_utf8(line).ok()?);
    rest.skip(r#"{"agent_id":""#)?;
    rest.skip(owner)?;
    rest.skip(r#"","event":""#)?;
    let event: Event = rest.until_quote()?.parse().ok()?;
    if event == Event::LogOpened {
        return None;
    }
    rest.skip(r#","index":"#)?;
    if rest.number()? != index {
        return None;
    }
    if rest.skip(r#","metadata":"#).is_some() {
        // Inside the entry, which is the first level.
        rest.object(1)?;
    }
    if rest.skip(r#","peer_id":""#).is_some() && !AgentId::is_valid(rest.until_quote()?) {
        return None;
    }
    rest.skip(r#","prev_hash":""#)?;
    rest.skip(str::from_utf8(&prev).ok()?)?;
    rest.skip(r#"","timestamp":""#)?;
    rest.until_quote()?.parse::<Timestamp>().ok()?;
    if rest.skip(r#","trace_id":""#).is_some() && !is_trace_id(rest.until_quote()?) {
        return None;
    }
    (rest.0 == "}").then_some(event)
}

/// What was not looked at yet. Every method takes what it found from the front, and gives none
/// where it found something else, or something that is not for sure canonical.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn skip(&mut self, expected: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(expected)?;
        Some(())
    }

    fn first(&self) -> Option<u8> {
        self.0.as_bytes().first().copied()
    }

    /// The text before the next quote. The callers take none with a backslash for good.
    fn until_quote(&mut self) -> Option<&'a str> {
        let (text, rest) = self.0.split_once('"')?;
        self.0 = rest;
        Some(text)
    }

    /// An integer from 0 upwards, as it is written.
    fn number(&mut self) -> Option<u64> {
        let digits = self.0.bytes().take_while(u8::is_ascii_digit).count();
        let (number, rest) = self.0.split_at(digits);
        if digits == 0 || digits > MAX_DIGITS || (digits > 1 && number.starts_with('0')) {
            return None;
        }
        self.0 = rest;
        number.parse().ok()
    }

    /// A value inside `around` arrays and objects.
    fn value(&mut self, around: usize) -> Option<()> {
        match self.first()? {
            b'"' => self.text(),
            b'{' => self.object(around),
            b'[' => self.array(around),
            b't' => self.skip("true"),
            b'f' => self.skip("false"),
            b'n' => self.skip("null"),
            b'-' => {
                self.skip("-")?;
                // There is no -0.
                (self.number()? != 0).then_some(())
            }
            // Of a fraction the digits are taken, and then its point is no comma and no end.
            _ => self.number().map(drop),
        }
    }

    /// An object whose members stand in order, which also means that none stands twice.
    fn object(&mut self, around: usize) -> Option<()> {
        self.skip("{")?;
        if around >= MAX_DEPTH {
            return None;
        }
        if self.skip("}").is_some() {
            return Some(());
        }
        let mut last = None;
        loop {
            self.skip("\"")?;
            let name = self.until_quote()?;
            // In ASCII the order of bytes is that of UTF-16. Escapes are left to the whole way.
            let is_plain = name
                .bytes()
                .all(|b| (b' '..0x80).contains(&b) && b != b'\\');
            if !is_plain || last.is_some_and(|last| last >= name) {
                return None;
            }
            last = Some(name);
            self.skip(":")?;
            self.value(around + 1)?;
            if self.skip(",").is_none() {
                return self.skip("}");
            }
        }
    }

    fn array(&mut self, around: usize) -> Option<()> {
        self.skip("[")?;
        if around >= MAX_DEPTH {
            return None;
        }
        if self.skip("]").is_some() {
            return Some(());
        }
        loop {
            self.value(around + 1)?;
            if self.skip(",").is_none() {
                return self.skip("]");
            }
        }
    }

    /// A string, escaped as RFC 8785, section 3.2.2.2, asks and not otherwise.
    fn text(&mut self) -> Option<()> {
        self.skip("\"")?;
        loop {
            let plain = |b: &u8| *b >= b' ' && *b != b'"' && *b != b'\\';
            // Never inside a character: the bytes of those are all above.
            let end = self.0.bytes().position(|b| !plain(&b))?;
            self.0 = &self.0[end..];
            if self.skip("\"").is_some() {
                return Some(());
            }
            // A control character that stands as itself is no backslash either.
            self.skip("\\")?;
            self.escape()?;
        }
    }

    /// What follows a backslash: the short form where there is one, else four digits of which the
    /// last two say something.
    fn escape(&mut self) -> Option<()> {
        if let b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't' = self.first()? {
            self.0 = &self.0[1..];
            return Some(());
        }
        self.skip("u00")?;
        let code = self.0.get(..2)?;
        let is_needed = matches!(
            code.as_bytes(),
            [b'0', b'0'..=b'7' | b'b' | b'e' | b'f'] | [b'1', b'0'..=b'9' | b'a'..=b'f']
        );
        self.0 = &self.0[2..];
        is_needed.then_some(())
    }
}

/// Integers of so many digits are below 2^53, doubles of their own, and written as they are.
const MAX_DIGITS: usize = 15;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::Entry;
    use super::super::check::Chain;
    use super::super::entry::{Chained, MAX_LINE};
    use super::*;
    use crate::message::{canonical, parse_strict};

    const OWNER: &str = "finance";
    const PREV: Hash = [0xab; 32];

    fn line(metadata: Value) -> Vec<u8> {
        let now = "2026-01-31T08:15:30.123Z".parse().unwrap();
        let entry = Entry::new(Event::IfmessageSent, now)
            .peer(&"if://agent/swarm/legal-1".parse().unwrap())
            .trace("0123456789abcdef01234567")
            .metadata(metadata);
        let mut out = Vec::new();
        entry.write(OWNER, 7, &PREV, &mut out);
        out
    }

    fn quick(line: &[u8]) -> bool {
        follows(line, OWNER, 7, &PREV).is_some()
    }

    /// The whole way, without the checker around it.
    fn whole(line: &[u8]) -> bool {
        let Ok(value) = parse_strict(line, MAX_LINE) else {
            return false;
        };
        let canonical = canonical(&value);
        let Ok(read) = Chained::from_value(value) else {
            return false;
        };
        let follows = read.index == 7 && read.prev_hash == PREV && read.agent_id == OWNER;
        canonical == line && follows && read.entry.event != Event::LogOpened
    }

    #[test]
    fn knows_what_logs_are_made_of() {
        for metadata in [
            json!({}),
            json!({"a": [], "b": {}, "c": [1, -1, 0, "x", null, true, false], "d": {"e": [[{}]]}}),
            json!({"text": "€\u{7}\n\r\t\u{8}\u{c}\u{1f}\"\\/\u{7f}兄弟"}),
            json!({"n": 999_999_999_999_999u64}),
        ] {
            let line = line(metadata);
            assert!(whole(&line));
            assert!(quick(&line), "{}", String::from_utf8_lossy(&line));
        }
        let bare = Entry::new(Event::PeerLost, "2026-01-31T08:15:30.123Z".parse().unwrap());
        let mut out = Vec::new();
        bare.write(OWNER, 7, &PREV, &mut out);
        assert!(quick(&out));
    }

    #[test]
    fn leaves_to_the_whole_way_what_is_not_plain() {
        let mut deep = json!(1);
        for _ in 0..63 {
            deep = json!([deep]);
        }
        for metadata in [
            json!({"n": 0.5}),
            json!({"n": 1e30}),
            json!({"n": 1_000_000_000_000_000u64}),
            json!({"é": 1}),
            json!({"a\n": 1}),
            json!({"deep": deep}),
        ] {
            assert!(!quick(&line(metadata)));
        }
        let opened = Entry::new(
            Event::LogOpened,
            "2026-01-31T08:15:30.123Z".parse().unwrap(),
        );
        let mut out = Vec::new();
        opened.write(OWNER, 7, &PREV, &mut out);
        assert!(!quick(&out));
    }

    #[test]
    fn takes_no_other_spelling_of_the_same() {
        let metadata = r#""metadata":{"a":1,"b":"x","c":[10]}"#;
        let good = String::from_utf8(line(json!({"a": 1, "b": "x", "c": [10]}))).unwrap();
        assert!(good.contains(metadata));
        for other in [
            r#"{"b":"x","a":1,"c":[10]}"#,
            r#"{"a":1,"a":1,"b":"x"}"#,
            r#"{"a":1,"b":"\u0078"}"#,
            r#"{"a":1,"b":"\/"}"#,
            r#"{"a":1,"b":"\u000A"}"#,
            r#"{"a":1,"b":"\u000a"}"#,
            r#"{"a":1,"b":"\u0022"}"#,
            r#"{"a":1,"b":"\u001F"}"#,
            r#"{"a":1,"b":"\ud83d\ude00"}"#,
            "{\"a\":1,\"b\":\"\t\"}",
            r#"{"a":1, "b":"x"}"#,
            r#"{"a":01}"#,
            r#"{"a":-0}"#,
            r#"{"a":1.0}"#,
            r#"{"a":+1}"#,
            r#"{"a":1e2}"#,
            r#"{"a":1,}"#,
            r#"{"a":[1,]}"#,
            r#"{"a":tru}"#,
            r#"{"a":nulll}"#,
            r#"{"a" :1}"#,
            r#"[1]"#,
        ] {
            let bad = good.replace(metadata, &format!("\"metadata\":{other}"));
            assert!(!quick(bad.as_bytes()), "{other}");
            assert!(!whole(bad.as_bytes()), "{other}");
        }
    }

    fn any_metadata() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
            "[\\x00-\\x7f]{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 40, 5, |inner| {
            let names = prop_oneof!["[a-c\\x00-\\x7f]{0,3}", ".{0,3}"];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(names, inner, 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn says_yes_only_where_the_whole_way_does(
            metadata in any_metadata(),
            at in any::<prop::sample::Index>(),
            bytes in prop::collection::vec(any::<u8>(), 0..3),
            likely in "[\"\\\\{}\\[\\],:0-9a-fnu.-]{0,2}",
            cut in 0usize..3,
        ) {
            let good = line(metadata);
            prop_assert!(!quick(&good) || whole(&good));
            for put in [&bytes[..], likely.as_bytes()] {
                let mut changed = good.clone();
                let at = at.index(good.len());
                let end = (at + cut).min(good.len());
                changed.splice(at..end, put.iter().copied());
                prop_assert!(!quick(&changed) || whole(&changed), "{}", changed.escape_ascii());
            }
        }
    }

    #[test]
    fn follows_nothing_but_the_line_before() {
        let mut chain = Chain::default();
        chain.push(b"another line");
        let line = line(json!({}));
        assert!(follows(&line, OWNER, 7, &PREV).is_some());
        assert!(follows(&line, OWNER, 7, &chain.last_hash).is_none());
        assert!(follows(&line, OWNER, 6, &PREV).is_none());
        assert!(follows(&line, "legal", 7, &PREV).is_none());
    }
}
