//! JSON as the wire allows it: no duplicate key, bounded depth and size, finite numbers.
//!
//! serde_json alone keeps the last of two equal keys, which would let two readers see two
//! messages in the same signed bytes.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::de::Read;
use serde_json::map::Entry;
use serde_json::{Map, Number, Value};

use super::shape::MAX_INTEGER;

/// Bytes that are no acceptable JSON text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// More bytes than allowed; nothing was allocated for them.
    #[error("{size} bytes are more than the {limit} allowed")]
    TooLarge {
        /// How many there are.
        size: usize,
        /// How many are allowed.
        limit: usize,
    },
    /// No JSON, a duplicate key, nested too deeply, not UTF-8, a lone surrogate, or a number that
    /// is not finite.
    #[error("line {line}, column {column}: {detail}")]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// Column in bytes, from 1; 0 where a line ended too soon.
        column: usize,
        /// What was found and what was expected.
        detail: String,
    },
}

/// Reads one JSON text of at most `limit` bytes, nested at most 64 deep.
///
/// # Errors
/// [`Malformed`], with line and column where there are any.
pub fn parse_strict(bytes: &[u8], limit: usize) -> Result<Value, Malformed> {
    if bytes.len() > limit {
        return Err(Malformed::TooLarge {
            size: bytes.len(),
            limit,
        });
    }
    let value = match str::from_utf8(bytes) {
        Ok(text) => read_all(serde_json::Deserializer::from_str(text)),
        // Looks at each string again, and so says in which one it is not UTF-8.
        Err(_) => read_all(serde_json::Deserializer::from_slice(bytes)),
    };
    value.map_err(|err| {
        // serde_json appends " at line L column C"; ours stands in front.
        let text = err.to_string();
        let detail = text.split(" at line ").next().unwrap_or(&text);
        Malformed::Syntax {
            line: err.line(),
            column: err.column(),
            detail: detail.into(),
        }
    })
}

fn read_all<'de, R: Read<'de>>(
    mut deserializer: serde_json::Deserializer<R>,
) -> serde_json::Result<Value> {
    let value = Strict { depth: 0 }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// Builds a [`Value`] and refuses what serde_json would let pass.
#[derive(Clone, Copy)]
struct Strict {
    /// How many arrays and objects are open around this value.
    depth: usize,
}

impl Strict {
    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        if self.depth == MAX_DEPTH {
            return Err(E::custom(format_args!(
                "nested more than {MAX_DEPTH} levels deep"
            )));
        }
        Ok(Self {
            depth: self.depth + 1,
        })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        if value.unsigned_abs() > MAX_INTEGER {
            return self.visit_f64(value as f64);
        }
        Ok(Value::Number(value.into()))
    }

    /// Beyond 2^53 a number is the double that RFC 8785 signs: else digits that no signature
    /// covers would reach the reader.
    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        if value > MAX_INTEGER {
            return self.visit_f64(value as f64);
        }
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("a number that is not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.into()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(inner)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut members = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            match members.entry(key) {
                Entry::Vacant(place) => place.insert(access.next_value_seed(inner)?),
                Entry::Occupied(place) => {
                    let short: String = place.key().chars().take(40).collect();
                    return Err(de::Error::custom(format_args!("duplicate key {short:?}")));
                }
            };
        }
        Ok(Value::Object(members))
    }
}

/// The outermost object is the first level.
pub(crate) const MAX_DEPTH: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Value, Malformed> {
        parse_strict(text.as_bytes(), 1 << 20)
    }

    #[test]
    fn refuses_a_duplicate_key_at_any_depth_and_says_where() {
        let err = parse("{\"a\":[\n{\"b\":1,\"b\":2}]}").unwrap_err();
        let Malformed::Syntax { line, detail, .. } = err else {
            panic!("{err}")
        };
        assert_eq!((line, detail.as_str()), (2, "duplicate key \"b\""));
        // The same key by another spelling is the same key.
        assert!(parse(r#"{"a":1,"\u0061":2}"#).is_err());
    }

    #[test]
    fn reads_integers_that_are_one_double_as_one_value() {
        let read = |text| parse(text).unwrap();
        assert_eq!(read("9007199254740992"), read("9007199254740993"));
        assert_eq!(read("-9007199254740992"), read("-9007199254740993"));
        assert_eq!(read("18446744073709551615"), read("18446744073709551616"));
        assert_eq!(read("9007199254740991"), 9_007_199_254_740_991u64);
        assert_eq!(read("-9007199254740991"), -9_007_199_254_740_991i64);
    }

    #[test]
    fn takes_64_levels_and_refuses_65() {
        let nested = |n: usize| "[".repeat(n) + &"]".repeat(n);
        assert!(parse(&nested(64)).is_ok());
        assert!(parse(&nested(65)).is_err());
        let objects = |n: usize| r#"{"a":"#.repeat(n) + "1" + &"}".repeat(n);
        assert!(parse(&objects(64)).is_ok());
        assert!(parse(&objects(65)).is_err());
    }

    #[test]
    fn refuses_what_other_readers_would_read_differently() {
        for bad in [
            "",
            "{",
            "1e400",
            "-1e400",
            r#""\ud800""#,
            r#"{"a":1}{"#,
            "01",
            "NaN",
            "[1,]",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse_strict(b"\"\xff\"", 100).is_err());
        assert!(
            parse_strict(b"\xef\xbb\xbf{}", 100).is_err(),
            "byte order mark"
        );
        assert_eq!(
            parse_strict(b"{}  ", 3),
            Err(Malformed::TooLarge { size: 4, limit: 3 })
        );
    }
}
