//! YAML text as a tree of nodes whose lines can be found again.
//!
//! serde_yaml hands out no position with a value, only with an error. So every node gets the
//! number at which it was met, and when one turns out wrong, the text is read once more by the
//! same code, which stops at this number with an error: its position is the node's. A good file
//! pays nothing, and every check, also one between fields far apart, can point at its place.

use std::cell::Cell;
use std::fmt;
use std::path::Path;

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, Visitor};

use super::error::{InvalidSwarm, SwarmError, quote};
use super::text::{self, Place};

/// A value as it is written.
#[derive(Debug)]
pub(crate) struct Node {
    /// The number at which it was met; finds its line again.
    pub(crate) at: usize,
    /// What it is.
    pub(crate) kind: Kind,
}

/// What a node is, by the core schema of YAML 1.2 (section 10.3).
#[derive(Debug)]
pub(crate) enum Kind {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

impl Node {
    /// What it is, for a message.
    pub(crate) fn describe(&self) -> String {
        match &self.kind {
            Kind::Null => "nothing".into(),
            Kind::Bool(value) => format!("`{value}`"),
            Kind::Int(value) => format!("the number {value}"),
            Kind::Float(value) => format!("the number {value}"),
            Kind::Text(text) if text.is_empty() => "an empty text".into(),
            Kind::Text(text) => quote(text),
            Kind::List(_) => "a list".into(),
            Kind::Map(_) => "a mapping".into(),
        }
    }
}

/// Reads the one document of `text`. A text without any is [`Kind::Null`].
pub(super) fn parse(text: &str, path: &Path) -> Result<Node, SwarmError> {
    text::check(text, path)?;
    let pass = Pass::new(None);
    let mut documents = serde_yaml::Deserializer::from_str(text);
    let Some(document) = documents.next() else {
        return Ok(Node {
            at: 0,
            kind: Kind::Null,
        });
    };
    let node = pass
        .deserialize(document)
        .map_err(|err| pass.explain(&err, text, path))?;
    match documents.next() {
        None => Ok(node),
        Some(second) => {
            let pass = Pass::new(Some(0));
            let place = pass
                .deserialize(second)
                .err()
                .map_or(Place::START, |err| place_of(&err, text));
            let message = "found a second document, expected one swarm in one file".into();
            let help = Some("put each swarm into a file of its own".into());
            Err(InvalidSwarm::at(place, message, help, text, path))
        }
    }
}

/// Where the node with number `at` stands in `text`.
pub(super) fn locate(text: &str, at: usize) -> Place {
    let stop = Pass::new(Some(at)).deserialize(serde_yaml::Deserializer::from_str(text));
    // Every number comes from reading this very text, so that this pass does stop.
    stop.err().map_or(Place::START, |err| place_of(&err, text))
}

fn place_of(err: &serde_yaml::Error, text: &str) -> Place {
    let Some(location) = err.location() else {
        return Place::START;
    };
    let place = Place {
        line: location.line(),
        column: location.column(),
    };
    // The reader reads on behind a last line that has no line end, as if there were one more.
    let end = Place::after(text);
    if place.line > end.line { end } else { place }
}

/// One reading of the text.
struct Pass {
    /// How many nodes were met.
    met: Cell<usize>,
    /// What they weighed: one each, and the bytes of their text.
    weight: Cell<usize>,
    /// The number to stop at.
    stop_at: Option<usize>,
    /// Why we, and not the YAML reader, gave up.
    refusal: Cell<Option<Refusal>>,
}

#[derive(Clone, Copy)]
enum Refusal {
    Tag,
    TooMuch,
}

impl Pass {
    fn new(stop_at: Option<usize>) -> Self {
        Self {
            met: Cell::new(0),
            weight: Cell::new(0),
            stop_at,
            refusal: Cell::new(None),
        }
    }

    fn refuse<E: Error>(&self, refusal: Refusal) -> E {
        self.refusal.set(Some(refusal));
        E::custom("refused")
    }

    /// An error of this pass as one of the file.
    fn explain(&self, err: &serde_yaml::Error, text: &str, path: &Path) -> SwarmError {
        let place = place_of(err, text);
        let said = err.to_string();
        // As in "did not find expected ',' or ']' at line 2 column 2, while parsing a flow
        // sequence at line 1 column 4".
        let (problem, context) = said.split_once(", while").unwrap_or((&said, ""));
        let problem = problem.split(" at line ").next().unwrap_or(problem);
        let line = text::line(text, place.line);
        let character = line
            .as_ref()
            .and_then(|line| line.chars().nth(place.column - 1));
        let (message, help) = match (self.refusal.get(), problem) {
            (Some(Refusal::Tag), _) => (
                "found a tag (`!…`), expected a plain value".into(),
                Some("a value that begins with `!` stands in quotes"),
            ),
            (Some(Refusal::TooMuch), _) | (None, "repetition limit exceeded") => (
                format!("found aliases (`*…`) that stand for more than {MAX_WEIGHT} bytes, expected a file that is no larger written out"),
                Some("write the values out, without `&` and `*`"),
            ),
            (None, "recursion limit exceeded") => (
                "found nesting more than 128 levels deep, expected lists and mappings as in `swarms/five-agent.yaml`".into(),
                None,
            ),
            (None, "unknown anchor") => (
                "found an alias (`*…`), expected one whose anchor (`&…`) stands before it".into(),
                Some("a value that begins with `*` stands in quotes"),
            ),
            (None, _) if character == Some('\t') => (
                "found a tab, expected spaces: YAML is indented with them alone".into(),
                Some("replace each tab by two spaces"),
            ),
            (None, problem) => {
                let found = match character {
                    Some(c) => quote(c.encode_utf8(&mut [0; 4])),
                    None if place == Place::after(text) => "the end of the file".into(),
                    None => "the end of the line".into(),
                };
                let context = match context {
                    "" => String::new(),
                    context => format!(" while{context}"),
                };
                let help = match problem {
                    "mapping values are not allowed in this context" => Some(
                        "lines of one mapping begin in the same column; text with `: ` in it stands in quotes",
                    ),
                    "found character that cannot start any token" => {
                        Some("text that begins with this character stands in quotes")
                    }
                    "found unexpected end of stream" => Some("a quotation mark is not closed"),
                    _ => None,
                };
                (format!("found {found}, expected YAML: {problem}{context}"), help)
            }
        };
        InvalidSwarm::at(place, message, help.map(Into::into), text, path)
    }
}

impl<'de> DeserializeSeed<'de> for &Pass {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        let at = self.met.get();
        self.met.set(at + 1);
        let kind = deserializer.deserialize_any(Visit { pass: self, at })?;
        Ok(Node { at, kind })
    }
}

/// One node of a pass. An error raised in its methods carries the node's position.
struct Visit<'a> {
    pass: &'a Pass,
    at: usize,
}

impl Visit<'_> {
    fn enter<E: Error>(&self, bytes: usize) -> Result<(), E> {
        if self.pass.stop_at == Some(self.at) {
            return Err(E::custom("here"));
        }
        let weight = self.pass.weight.get() + 1 + bytes;
        self.pass.weight.set(weight);
        if weight > MAX_WEIGHT {
            return Err(self.pass.refuse(Refusal::TooMuch));
        }
        Ok(())
    }

    fn leaf<E: Error>(self, kind: Kind) -> Result<Kind, E> {
        let bytes = match &kind {
            Kind::Text(text) => text.len(),
            _ => 0,
        };
        self.enter(bytes).map(|()| kind)
    }
}

impl<'de> Visitor<'de> for Visit<'_> {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a plain value")
    }

    fn visit_unit<E: Error>(self) -> Result<Kind, E> {
        self.leaf(Kind::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Kind, E> {
        self.leaf(Kind::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Kind, E> {
        self.leaf(Kind::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Kind, E> {
        self.leaf(Kind::Int(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Kind, E> {
        self.leaf(Kind::Int(value.into()))
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<Kind, E> {
        self.leaf(Kind::Int(value))
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<Kind, E> {
        // Far beyond every bound; only its being so counts.
        self.leaf(Kind::Int(value.try_into().unwrap_or(i128::MAX)))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Kind, E> {
        self.leaf(Kind::Float(value))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Kind, E> {
        self.leaf(Kind::Text(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Kind, A::Error> {
        self.enter(0)?;
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(self.pass)? {
            items.push(item);
        }
        Ok(Kind::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Kind, A::Error> {
        self.enter(0)?;
        let mut entries = Vec::new();
        while let Some(key) = access.next_key_seed(self.pass)? {
            entries.push((key, access.next_value_seed(self.pass)?));
        }
        Ok(Kind::Map(entries))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<Kind, A::Error> {
        self.enter(0)?;
        Err(self.pass.refuse(Refusal::Tag))
    }
}

/// Without aliases a node takes at least one byte of the file, as does every byte of its text:
/// only aliases get beyond twice the largest file.
const MAX_WEIGHT: usize = 2 * super::read::MAX_FILE;
