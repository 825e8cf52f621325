//! A node seen from its place in the file, read as what is expected there.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use super::error::{Fault, quote};
use super::units;
use super::yaml::{Kind, Node};

/// A node and its name.
#[derive(Debug, Clone)]
pub(crate) struct Field<'a> {
    node: &'a Node,
    /// Such as `agents[1].udp_port`; empty for the whole file.
    name: String,
}

/// The members of a mapping whose names are all known.
#[derive(Debug)]
pub(crate) struct Members<'a> {
    owner: Field<'a>,
    fields: BTreeMap<&'static str, Field<'a>>,
}

impl<'a> Field<'a> {
    pub(crate) fn root(node: &'a Node) -> Self {
        Self {
            node,
            name: String::new(),
        }
    }

    pub(crate) fn node(&self) -> &'a Node {
        self.node
    }

    /// This is not what was expected.
    pub(crate) fn fault(&self, expected: impl Into<String>) -> Fault {
        self.fault_found(self.node.describe(), expected)
    }

    /// The same with its own words for what was found.
    pub(crate) fn fault_found(
        &self,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> Fault {
        Fault {
            at: self.node.at,
            field: self.name.clone(),
            found: found.into(),
            elsewhere: None,
            expected: expected.into(),
            help: None,
        }
    }

    /// The text; `expected` says what it should be.
    pub(crate) fn text(&self, expected: &str) -> Result<&'a str, Fault> {
        match &self.node.kind {
            Kind::Text(text) => Ok(text),
            Kind::Bool(_) | Kind::Int(_) | Kind::Float(_) => Err(self
                .fault(expected)
                .help("YAML takes this for a number or a truth value: put quotes around it")),
            _ => Err(self.fault(expected)),
        }
    }

    /// The text as what it stands for.
    pub(crate) fn parse<T: FromStr>(&self, expected: &str) -> Result<T, Fault> {
        let text = self.text(expected)?;
        text.parse().map_err(|_| self.fault(expected))
    }

    pub(crate) fn truth(&self) -> Result<bool, Fault> {
        match self.node.kind {
            Kind::Bool(value) => Ok(value),
            _ => Err(self.fault("`true` or `false`")),
        }
    }

    /// A whole number within `range`.
    pub(crate) fn whole<T>(&self, range: RangeInclusive<T>) -> Result<T, Fault>
    where
        T: TryFrom<i128> + PartialOrd + std::fmt::Display,
    {
        if let Kind::Int(value) = self.node.kind
            && let Ok(value) = T::try_from(value)
            && range.contains(&value)
        {
            return Ok(value);
        }
        let (least, most) = (range.start(), range.end());
        Err(self.fault(format!("a whole number from {least} to {most}")))
    }

    /// A size in bytes within `range`.
    pub(crate) fn size(&self, range: RangeInclusive<usize>) -> Result<usize, Fault> {
        let size = match &self.node.kind {
            Kind::Int(value) => usize::try_from(*value).ok(),
            Kind::Text(text) => units::parse_size(text),
            _ => None,
        };
        if let Some(size) = size.filter(|size| range.contains(size)) {
            return Ok(size);
        }
        let (least, most) = (
            units::show_size(*range.start()),
            units::show_size(*range.end()),
        );
        let fault = self.fault(format!("a size from {least} to {most}"));
        Err(match size {
            Some(_) => fault,
            None => fault.help(
                "sizes are written as in `512 B`, `64 KiB`, `1 MiB`, or as a number of bytes",
            ),
        })
    }

    /// A duration from a microsecond to a day.
    pub(crate) fn duration(&self) -> Result<Duration, Fault> {
        let expected = "a duration from `1us` to `24h`";
        let help =
            "durations are whole numbers with their unit, as in `500us`, `5ms`, `30s`, `2m`, `1h`";
        let duration = match &self.node.kind {
            Kind::Text(text) => units::parse_duration(text),
            _ => None,
        };
        match duration {
            Some(duration) if units::DURATIONS.contains(&duration) => Ok(duration),
            Some(_) => Err(self.fault(expected)),
            None => Err(self.fault(expected).help(help)),
        }
    }

    /// One of a few names. Says which is nearest when it is none of them.
    pub(crate) fn one_of<T: Copy>(&self, known: &[(&str, T)]) -> Result<T, Fault> {
        let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
        let fault = || self.fault(one_of(&names));
        let Kind::Text(text) = &self.node.kind else {
            return Err(fault());
        };
        match known.iter().find(|(name, _)| name == text) {
            Some((_, value)) => Ok(*value),
            None => Err(suggest(fault(), text, &names)),
        }
    }

    pub(crate) fn list(&self, expected: &str) -> Result<Vec<Self>, Fault> {
        let Kind::List(items) = &self.node.kind else {
            return Err(self.fault(expected));
        };
        let named = |(i, node)| Self {
            node,
            name: format!("{}[{i}]", self.name),
        };
        Ok(items.iter().enumerate().map(named).collect())
    }

    /// The members of a mapping that has no others than these, and none twice.
    pub(crate) fn members(&self, known: &[&'static str]) -> Result<Members<'a>, Fault> {
        let Kind::Map(entries) = &self.node.kind else {
            return Err(self.fault(format!("a mapping with {}", listed(known, "and"))));
        };
        let mut members = BTreeMap::<&'static str, (usize, Self)>::new();
        for (key, node) in entries {
            let here = Self {
                node: key,
                name: self.name.clone(),
            };
            let Kind::Text(text) = &key.kind else {
                let found = format!("{} as the name of a field", key.describe());
                return Err(here.fault_found(found, one_of(known)));
            };
            let Some(name) = known.iter().find(|name| *name == text) else {
                let found = format!("the unknown field {}", quote(text));
                return Err(suggest(here.fault_found(found, one_of(known)), text, known));
            };
            if let Some((first, _)) = members.get(name) {
                let found = format!("the field `{name}` again");
                return Err(here.fault_found(found, "each field once").repeats(*first));
            }
            let dot = if self.name.is_empty() { "" } else { "." };
            let field = Self {
                node,
                name: format!("{}{dot}{name}", self.name),
            };
            members.insert(name, (key.at, field));
        }
        Ok(Members {
            owner: self.clone(),
            // A member without a value is as good as none, such as `ice:` before lines that are
            // commented out.
            fields: members
                .into_iter()
                .map(|(name, (_, field))| (name, field))
                .filter(|(_, field)| !matches!(field.node.kind, Kind::Null))
                .collect(),
        })
    }
}

impl<'a> Members<'a> {
    pub(crate) fn get(&self, name: &str) -> Option<&Field<'a>> {
        self.fields.get(name)
    }

    /// A member that may be left out, as what `read` makes of it.
    pub(crate) fn read<T>(
        &self,
        name: &str,
        read: impl FnOnce(&Field<'a>) -> Result<T, Fault>,
    ) -> Result<Option<T>, Fault> {
        self.get(name).map(read).transpose()
    }

    /// A member that must be there; `expected` says what it should be.
    pub(crate) fn need(&self, name: &str, expected: &str) -> Result<&Field<'a>, Fault> {
        self.get(name).ok_or_else(|| {
            let expected = format!("the field `{name}`: {expected}");
            self.owner.fault_found(format!("no `{name}`"), expected)
        })
    }
}

/// No two of these may be the same; `expected` says so.
pub(crate) fn unique<'a, T: Ord>(
    fields: impl IntoIterator<Item = (T, &'a Field<'a>)>,
    expected: &str,
) -> Result<(), Fault> {
    let mut seen = BTreeMap::new();
    for (value, field) in fields {
        if let Some(first) = seen.insert(value, field.node.at) {
            let found = format!("{} again", field.node.describe());
            return Err(field.fault_found(found, expected).repeats(first));
        }
    }
    Ok(())
}

/// Adds the known name that `text` was probably meant to be.
fn suggest(fault: Fault, text: &str, known: &[&str]) -> Fault {
    let nearest = known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(text, name), *name))
        .min();
    match nearest {
        // Names this far apart have little in common.
        Some((distance, name)) if distance <= 1 + name.len() / 3 && text.len() <= MAX_TYPO => {
            fault.help(format!("did you mean `{name}`?"))
        }
        _ => fault,
    }
}

fn one_of(names: &[&str]) -> String {
    match names {
        [name] => format!("`{name}`"),
        names => format!("one of {}", listed(names, "or")),
    }
}

fn listed(names: &[&str], last: &str) -> String {
    let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    match names.split_last() {
        Some((end, start)) if !start.is_empty() => format!("{} {last} {end}", start.join(", ")),
        _ => names.concat(),
    }
}

/// Longer text is no misspelt name, and not worth the quadratic comparison.
const MAX_TYPO: usize = 64;
