//! Reading the members of a frame one by one, so that what is wrong can be named.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::errors::{FrameError, FrameReason};
use super::wire::MAX_FRAME;
use crate::message::{one_line, parse_strict};

/// The members of a frame, taken out one by one, so that what is wrong can be named.
pub(super) struct Members(Map<String, Value>);

impl Members {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, FrameError> {
        let malformed = |detail: String| FrameError {
            reason: FrameReason::Malformed,
            frame_type: None,
            from: None,
            to: None,
            link: None,
            detail: one_line(&detail, MAX_DETAIL),
        };
        match parse_strict(bytes, MAX_FRAME) {
            Ok(Value::Object(members)) => Ok(Self(members)),
            Ok(_) => Err(malformed("expected a JSON object".into())),
            Err(err) => Err(malformed(err.to_string())),
        }
    }

    /// Puts together what went wrong and what the frame claims to be.
    pub(super) fn into_frame<T>(
        mut self,
        of: impl FnOnce(&str, &mut Self) -> Result<T, Wrong>,
    ) -> Result<T, FrameError> {
        let from = self.claim("from");
        let to = self.claim("to");
        let link = self.claim("link");
        let mut known = None;
        let frame = self.take::<String>("type").and_then(|frame_type| {
            known = FRAME_TYPES.iter().copied().find(|t| *t == frame_type);
            of(&frame_type, &mut self)
        });
        frame.map_err(|wrong| FrameError {
            reason: wrong.reason,
            frame_type: known,
            from,
            to,
            link,
            detail: one_line(&wrong.detail, MAX_DETAIL),
        })
    }

    fn claim<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.0.get(name)?.as_str()?.parse().ok()
    }

    /// Takes a member that has to be there.
    pub(super) fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, Wrong> {
        self.take_optional(name)?
            .ok_or_else(|| schema_error(format!("missing member `{name}`")))
    }

    /// Takes a member that may be left out, but not be null unless `T` may.
    pub(super) fn take_optional<T: DeserializeOwned>(
        &mut self,
        name: &str,
    ) -> Result<Option<T>, Wrong> {
        let Some(value) = self.0.remove(name) else {
            return Ok(None);
        };
        serde_json::from_value(value)
            .map(Some)
            .map_err(|err| schema_error(format!("member `{name}`: {err}")))
    }

    /// Takes a member that is an object. serde would take an array of its members for one too.
    pub(super) fn take_object<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, Wrong> {
        match self.0.get(name) {
            Some(value) if !value.is_object() => {
                Err(schema_error(format!("member `{name}`: expected an object")))
            }
            _ => self.take(name),
        }
    }

    /// Takes a member that is an object, or left out.
    pub(super) fn take_optional_object<T: DeserializeOwned>(
        &mut self,
        name: &str,
    ) -> Result<Option<T>, Wrong> {
        match self.0.contains_key(name) {
            true => self.take_object(name).map(Some),
            false => Ok(None),
        }
    }

    /// Takes a member that is a list of objects.
    pub(super) fn take_objects<T: DeserializeOwned>(
        &mut self,
        name: &str,
    ) -> Result<Vec<T>, Wrong> {
        match self.0.get(name).and_then(Value::as_array) {
            Some(items) if !items.iter().all(Value::is_object) => Err(schema_error(format!(
                "member `{name}`: expected a list of objects"
            ))),
            _ => self.take(name),
        }
    }
}

/// What a frame's members are wrong about, before it is known whose frame it is.
pub(super) struct Wrong {
    pub(super) reason: FrameReason,
    pub(super) detail: String,
}

pub(super) fn schema_error(detail: String) -> Wrong {
    Wrong {
        reason: FrameReason::Schema,
        detail,
    }
}

pub(super) fn unexpected(frame_type: &str, of: &str) -> Wrong {
    schema_error(format!("`{frame_type}` is no type of a {of}'s frames"))
}

/// Characters of an explanation: a few lines of a terminal.
const MAX_DETAIL: usize = 300;
/// Every `type` there is; others are not echoed.
const FRAME_TYPES: [&str; 11] = [
    "challenge",
    "register",
    "registered",
    "agent-joined",
    "agent-left",
    "offer",
    "answer",
    "ice-candidates",
    "please-offer",
    "goodbye",
    "error",
];
