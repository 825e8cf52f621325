//! A journal that is read from its beginning, by whoever opens it again.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use super::error::{JournalError, io_at};
use super::journal::Owner;
use super::record::{Record, VERSION};
use super::state::State;
use crate::identity::Session;

/// What a journal says, the session it was opened in, if there is one, and the length of its good
/// lines.
pub(super) fn read(
    path: &Path,
    file: &File,
    owner: Owner<'_>,
) -> Result<(State, Option<Session>, u64), JournalError> {
    let mut reader = BufReader::new(file);
    let mut state = State::default();
    let (mut session, mut good, mut number) = (None, 0, 0);
    let mut line = Vec::new();
    loop {
        line.clear();
        let length = reader.read_until(b'\n', &mut line).map_err(io_at(path))?;
        number += 1;
        let Some(text) = line.strip_suffix(b"\n") else {
            // The end, or a line that a crash has torn: nothing it tells of has gone out.
            return Ok((state, session, good));
        };
        let flawed = |detail: String| JournalError::Flawed {
            path: path.into(),
            line: number,
            detail,
        };
        let record: Record<'_> =
            serde_json::from_slice(text).map_err(|err| flawed(err.to_string()))?;
        if record.greatest() >= NUMBERS_END {
            let (found, greatest) = (record.greatest(), NUMBERS_END - 1);
            let detail = format!("found number {found}, expected at most {greatest}");
            return Err(flawed(detail));
        }
        match (&record, session) {
            (
                Record::Opened {
                    version,
                    swarm,
                    agent_id,
                    public_key,
                    session: opened,
                },
                None,
            ) => {
                if *version != VERSION {
                    let detail = format!("found version {version}, expected {VERSION}");
                    return Err(flawed(detail));
                }
                must_be(path, "swarm", &**swarm, owner.swarm)?;
                must_be(path, "agent", &**agent_id, owner.agent_id)?;
                must_be(path, "key", public_key, &owner.public_key)?;
                session = Some(*opened);
            }
            (Record::Opened { .. }, Some(_)) => return Err(flawed("opened twice".into())),
            (_, None) => return Err(flawed("expected `opened` first".into())),
            (_, Some(_)) => state.apply(&record),
        }
        good += length as u64;
    }
}

fn must_be<T: PartialEq + ToString>(
    path: &Path,
    what: &'static str,
    found: &T,
    expected: &T,
) -> Result<(), JournalError> {
    if found == expected {
        return Ok(());
    }
    Err(JournalError::Foreign {
        path: path.into(),
        what,
        found: found.to_string(),
        expected: expected.to_string(),
    })
}

/// No message has such a number: JSON has none that is exact in every reader.
const NUMBERS_END: u64 = 1 << 53;
