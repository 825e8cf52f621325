//! The section `revoked`: keys that are refused whoever shows them, and so are no agent's.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::check::{one_line, public_key};
use super::error::Fault;
use super::field::{Field, unique};
use super::{MAX_REVOKED, Revoked};
use crate::identity::PublicKey;
use crate::message::Timestamp;

/// The public half of a private key file, if it can be read. Whoever needs the key says what is
/// wrong with a file that cannot.
pub(super) type PublicHalf<'a> = &'a dyn Fn(&Path) -> Option<PublicKey>;

/// The section, checked.
pub(super) struct Revocations<'a> {
    /// In the order of the file.
    pub(super) list: Vec<Revoked>,
    /// The node at which each key stands.
    places: HashMap<PublicKey, usize>,
    public_half: PublicHalf<'a>,
}

impl<'a> Revocations<'a> {
    /// Reads the section; without one nothing is revoked.
    pub(super) fn read(
        field: Option<&Field<'_>>,
        public_half: PublicHalf<'a>,
    ) -> Result<Self, Fault> {
        let mut all = Self {
            list: Vec::new(),
            places: HashMap::new(),
            public_half,
        };
        let Some(field) = field else {
            return Ok(all);
        };
        let items = field.list("a list of keys, such as `- public_key: HEX`")?;
        if items.len() > MAX_REVOKED {
            let found = format!("{} keys", items.len());
            return Err(field.fault_found(found, format!("at most {MAX_REVOKED}")));
        }
        let mut keys = Vec::with_capacity(items.len());
        for item in &items {
            let members = item.members(&["public_key", "reason", "since"])?;
            let key = members.need("public_key", "64 lower-case hex digits")?;
            let revoked = Revoked {
                public_key: public_key(key)?,
                reason: members.read("reason", one_line)?,
                since: members.read("since", since)?,
            };
            all.places.insert(revoked.public_key, key.node().at);
            all.list.push(revoked);
            keys.push(key.clone());
        }
        let revoked = all.list.iter().map(|r| *r.public_key.as_bytes());
        unique(revoked.zip(&keys), "each key once")?;
        Ok(all)
    }

    /// The key of an agent, which must not be revoked.
    pub(super) fn not_among(&self, field: &Field<'_>, key: PublicKey) -> Result<PublicKey, Fault> {
        match self.places.get(&key) {
            None => Ok(key),
            Some(place) => Err(refuse(field.fault(EXPECTED), *place)),
        }
    }

    /// The key file of an agent, whose key must not be revoked.
    pub(super) fn not_of(&self, field: &Field<'_>, path: PathBuf) -> Result<PathBuf, Fault> {
        if self.places.is_empty() {
            return Ok(path);
        }
        let key = (self.public_half)(&path);
        let Some((key, place)) = key.and_then(|key| Some((key, self.places.get(&key)?))) else {
            return Ok(path);
        };
        let found = format!("{}, the file of the key `{key}`", field.node().describe());
        Err(refuse(field.fault_found(found, EXPECTED), *place))
    }
}

fn since(field: &Field<'_>) -> Result<Timestamp, Fault> {
    field.parse("a time in UTC with milliseconds, such as `2026-11-20T00:00:00.000Z`")
}

fn refuse(fault: Fault, place: usize) -> Fault {
    fault
        .revoked_at(place)
        .help("make another key with `ifswarm keygen --out FILE`, or take this one off `revoked`")
}

/// Of an agent's key.
const EXPECTED: &str = "a key that is not revoked";
