//! `--assert`: what a measured figure must be, such as `rtt.p95<50ms`.
//!
//! ```text
//! assertion = path operator number [unit]      blanks are allowed between the parts
//! path      = name *("." name)                 members of the JSON report
//! operator  = "<" / "<=" / ">" / ">=" / "=="
//! unit      = "us" / "µs" / "ms" / "s" / "/s"  without one: that of the figure
//! ```
//!
//! `_us`, `_ms` and `_s` at the end of a member may be left out where it stays clear what is meant
//! (`rtt.p95` is `rtt_us.p95`, `setup` is `setup_ms`), and `throughput` alone is
//! `messages_per_second`.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use serde_json::Value;

/// What a figure must be.
#[derive(Debug, Clone, PartialEq)]
pub struct Assertion {
    text: String,
    path: String,
    operator: Operator,
    value: f64,
    unit: Option<Unit>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Equal,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Micros,
    Millis,
    Seconds,
    PerSecond,
}

/// Why an assertion means nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AssertionError {
    /// It is not written as one.
    #[error("`{text}` is no assertion: expected {expected}, as in `rtt.p95<50ms`")]
    Syntax {
        /// The assertion.
        text: String,
        /// What was expected.
        expected: &'static str,
    },
    /// There is no such figure in the report of this scenario.
    #[error("`{text}`: there is no figure `{path}`; there are:\n{names}")]
    Unknown {
        /// The assertion.
        text: String,
        /// The figure it names.
        path: String,
        /// Those there are.
        names: String,
    },
    /// The unit is not one of this figure.
    #[error("`{text}`: `{path}` is not measured in {unit}")]
    Unit {
        /// The assertion.
        text: String,
        /// The figure.
        path: String,
        /// The unit.
        unit: &'static str,
    },
}

/// The figures of a report, by their paths; lists are left out.
pub struct Figures(Vec<(String, f64)>);

impl Figures {
    /// Those of `report`.
    pub fn of(report: &impl Serialize) -> Self {
        let mut figures = Vec::new();
        if let Ok(value) = serde_json::to_value(report) {
            collect("", &value, &mut figures);
        }
        Self(figures)
    }

    /// All paths, a few on each line.
    fn names(&self) -> String {
        let mut lines = vec![String::from(" ")];
        for (path, _) in &self.0 {
            let line = lines.last_mut().expect("begins with one");
            if line.len() + path.len() > 96 {
                lines.push(format!("  {path}"));
            } else {
                line.push(' ');
                line.push_str(path);
            }
        }
        lines.join("\n")
    }

    fn find(&self, path: &str) -> Option<&(String, f64)> {
        let path = match path {
            "throughput" => "messages_per_second",
            path => path,
        };
        let exact = self.0.iter().find(|(name, _)| name == path);
        exact.or_else(|| {
            let mut alike = self.0.iter().filter(|(name, _)| short(name) == path);
            alike.next().filter(|_| alike.next().is_none())
        })
    }
}

impl Assertion {
    /// Whether it holds in `figures`; `Err` says what was found.
    ///
    /// # Errors
    /// [`AssertionError`] when it says nothing about these figures.
    pub fn check(&self, figures: &Figures) -> Result<Result<(), String>, AssertionError> {
        let (name, found) = figures
            .find(&self.path)
            .ok_or_else(|| AssertionError::Unknown {
                text: self.text.clone(),
                path: self.path.clone(),
                names: figures.names(),
            })?;
        let unit = Unit::of(name);
        let scale = match (self.unit, unit) {
            (None, _) => 1.0,
            (Some(asked), Some(unit)) if asked.is_time() && unit.is_time() => {
                asked.seconds() / unit.seconds()
            }
            (Some(asked), Some(unit)) if asked == unit => 1.0,
            (Some(asked), _) => {
                return Err(AssertionError::Unit {
                    text: self.text.clone(),
                    path: name.clone(),
                    unit: asked.as_str(),
                });
            }
        };
        let limit = self.value * scale;
        let holds = match self.operator {
            Operator::Less => *found < limit,
            Operator::LessOrEqual => *found <= limit,
            Operator::Greater => *found > limit,
            Operator::GreaterOrEqual => *found >= limit,
            // Both come from decimal digits; a scale may cost the last bit.
            Operator::Equal => (*found - limit).abs() <= 1e-9 * limit.abs(),
        };
        Ok(if holds {
            Ok(())
        } else {
            Err(format!("{self}: {name} is {found}"))
        })
    }
}

impl FromStr for Assertion {
    type Err = AssertionError;

    fn from_str(text: &str) -> Result<Self, AssertionError> {
        let wrong = |expected| AssertionError::Syntax {
            text: text.to_owned(),
            expected,
        };
        let at = text.find(['<', '>', '=']);
        let at = at.ok_or_else(|| wrong("one of < <= > >= =="))?;
        let (path, rest) = text.split_at(at);
        let path = path.trim();
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        if path.is_empty() || !path.chars().all(is_name) {
            return Err(wrong("the path of a figure"));
        }
        let operators = [
            ("<=", Operator::LessOrEqual),
            (">=", Operator::GreaterOrEqual),
            ("==", Operator::Equal),
            ("<", Operator::Less),
            (">", Operator::Greater),
        ];
        let operator = operators
            .into_iter()
            .find_map(|(sign, operator)| Some((operator, rest.strip_prefix(sign)?)));
        let (operator, rest) = operator.ok_or_else(|| wrong("one of < <= > >= =="))?;
        let rest = rest.trim();
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, unit) = rest.split_at(digits.unwrap_or(rest.len()));
        let value = number.parse().map_err(|_| wrong("a number"))?;
        let unit = match unit.trim() {
            "" => None,
            "us" | "µs" | "μs" => Some(Unit::Micros),
            "ms" => Some(Unit::Millis),
            "s" => Some(Unit::Seconds),
            "/s" => Some(Unit::PerSecond),
            _ => return Err(wrong("one of the units us, ms, s, /s")),
        };
        Ok(Self {
            text: text.to_owned(),
            path: path.to_owned(),
            operator,
            value,
            unit,
        })
    }
}

impl fmt::Display for Assertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Unit {
    /// The unit that the name of a figure says.
    fn of(path: &str) -> Option<Self> {
        path.split('.').rev().find_map(|member| match member {
            member if member.ends_with("_per_second") => Some(Self::PerSecond),
            member if member.ends_with("_us") => Some(Self::Micros),
            member if member.ends_with("_ms") => Some(Self::Millis),
            member if member.ends_with("_s") || member == "seconds" => Some(Self::Seconds),
            _ => None,
        })
    }

    fn is_time(self) -> bool {
        self != Self::PerSecond
    }

    fn seconds(self) -> f64 {
        match self {
            Self::Micros => 1e-6,
            Self::Millis => 1e-3,
            Self::Seconds | Self::PerSecond => 1.0,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Micros => "µs",
            Self::Millis => "ms",
            Self::Seconds => "seconds",
            Self::PerSecond => "times per second",
        }
    }
}

fn collect(path: &str, value: &Value, figures: &mut Vec<(String, f64)>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                collect(&path, value, figures);
            }
        }
        Value::Number(number) => figures.extend(number.as_f64().map(|n| (path.to_owned(), n))),
        _ => {}
    }
}

/// A path whose members say no unit.
fn short(path: &str) -> String {
    let members = path.split('.').map(|member| {
        let units = ["_us", "_ms", "_s"];
        let bare = units.iter().find_map(|unit| member.strip_suffix(unit));
        bare.unwrap_or(member)
    });
    members.collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn figures() -> Figures {
        Figures::of(&json!({
            "rtt_us": {"p50": 300, "p95": 500, "count": 7}, "rtt_ratio": 1.4, "setup_ms": 33.5,
            "messages": {"lost": 0}, "messages_per_second": 12_345.6, "name": "x",
            "resources": {"cpu_s": 2.5, "rss_kib": 9}, "per_link": [{"setup_ms": 1}],
        }))
    }

    fn check(text: &str) -> Result<(), String> {
        let assertion: Assertion = text.parse().map_err(|e: AssertionError| e.to_string())?;
        assertion.check(&figures()).map_err(|e| e.to_string())?
    }

    #[test]
    fn compares_in_the_unit_of_the_figure_whatever_unit_is_written() {
        for holds in [
            "rtt.p95<50ms",
            "rtt_us.p95 <= 500us",
            "rtt_us.p95 == 0.5 ms",
            "rtt.p95<=500µs",
            "rtt.p50<301",
            "rtt.p50 > 0.0002s",
            "setup_ms<100ms",
            "setup<0.1s",
            "messages.lost==0",
            "rtt_ratio<=1.5",
            "throughput>=10000/s",
            "messages_per_second > 10000",
            "resources.cpu < 3s",
            "rtt.count >= 7",
        ] {
            assert_eq!(check(holds), Ok(()), "{holds}");
        }
    }

    #[test]
    fn what_does_not_hold_is_told_with_what_was_measured() {
        let text = check("rtt.p95<0.4ms").unwrap_err();
        assert_eq!(text, "rtt.p95<0.4ms: rtt_us.p95 is 500");
        assert!(check("messages.lost>0").is_err());
        assert!(check("setup==33ms").is_err());
    }

    #[test]
    fn an_unknown_figure_is_told_with_those_there_are() {
        let text = check("rtt.p90<1ms").unwrap_err();
        assert!(
            text.contains("rtt.p90") && text.contains("rtt_us.p95"),
            "{text}"
        );
        // Lists and texts are no figures.
        assert!(check("per_link<1").is_err() && check("name==1").is_err());
        assert!(!text.contains("per_link"), "{text}");
    }

    #[test]
    fn a_unit_that_does_not_fit_is_told() {
        let text = check("messages.lost<1ms").unwrap_err();
        assert!(text.contains("messages.lost"), "{text}");
        assert!(check("rtt.p95<1/s").is_err() && check("throughput>1ms").is_err());
    }

    #[test]
    fn bad_syntax_is_told_with_what_was_expected() {
        for (text, expected) in [
            ("rtt.p95", "one of < <="),
            ("<5ms", "the path"),
            ("rtt p95<5ms", "the path"),
            ("rtt.p95=5ms", "one of < <="),
            ("rtt.p95<", "a number"),
            ("rtt.p95<ms", "a number"),
            ("rtt.p95<-1ms", "a number"),
            ("rtt.p95<1.2.3", "a number"),
            ("rtt.p95<5min", "the units"),
            ("rtt.p95<>5", "a number"),
            ("", "one of < <="),
        ] {
            let told = check(text).unwrap_err();
            assert!(told.contains(expected), "{text}: {told}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text: String) {
            let _ = check(&text);
        }
    }
}
