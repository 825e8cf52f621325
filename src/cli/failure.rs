//! What a verb cannot do, with the exit code it ends with; and how it is told.

use std::fmt::{self, Write as _};
use std::process::ExitCode;

use super::output::tell;

/// Which kind of failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The answer is no: a check, an assertion or a verification failed.
    No,
    /// The call or its input is unusable.
    Unusable,
    /// It could not be done: no server, no peer, a port in use, time ran out.
    Impossible,
    /// Somebody pressed Ctrl-C.
    Interrupted,
}

/// An error with its kind. Shown as the error alone.
#[derive(Debug)]
struct Failed {
    kind: Failure,
    error: anyhow::Error,
}

impl Failure {
    /// The exit code (`cli.md`).
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::No => 1,
            Self::Unusable => 2,
            Self::Impossible => 3,
            Self::Interrupted => 130,
        }
    }

    /// `error` as a failure of this kind.
    pub(crate) fn of(self, error: impl Into<anyhow::Error>) -> anyhow::Error {
        let error = error.into();
        Failed { kind: self, error }.into()
    }

    /// The kind of `error`. One that nobody gave a kind is something that could not be done.
    fn kind_of(error: &anyhow::Error) -> Self {
        let failed = error.downcast_ref::<Failed>();
        failed.map_or(Self::Impossible, |failed| failed.kind)
    }
}

/// For `map_err`: the input cannot be used; exit code 2.
pub(crate) fn unusable(error: impl Into<anyhow::Error>) -> anyhow::Error {
    Failure::Unusable.of(error)
}

/// For `map_err`: it could not be done; exit code 3.
pub(crate) fn impossible(error: impl Into<anyhow::Error>) -> anyhow::Error {
    Failure::Impossible.of(error)
}

/// Tells `error` on standard error in one block; the exit code to end with.
pub(super) fn report(error: &anyhow::Error) -> ExitCode {
    tell(&format!("error: {}", chain(error)));
    Failure::kind_of(error).into()
}

/// The error and its causes. Most of our errors have their cause in their own text; it is not
/// said twice.
fn chain(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            let _ = write!(text, "\n  because: {cause}");
        }
    }
    text
}

impl From<Failure> for ExitCode {
    fn from(failure: Failure) -> Self {
        failure.code().into()
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl std::error::Error for Failed {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context, anyhow};

    #[test]
    fn a_kind_is_found_below_context_and_an_error_without_one_could_not_be_done() {
        let wrapped = Err::<(), _>(Failure::Unusable.of(anyhow!("bad"))).context("while reading");
        assert_eq!(Failure::kind_of(&wrapped.unwrap_err()), Failure::Unusable);
        assert_eq!(Failure::kind_of(&anyhow!("bad")), Failure::Impossible);
    }

    #[test]
    fn tells_every_cause_once() {
        let io = std::io::Error::other("disk on fire");
        let err = unusable(io).context("reading the file");
        assert_eq!(chain(&err), "reading the file\n  because: disk on fire");
        let said = anyhow!("disk on fire").context("reading: disk on fire");
        assert_eq!(chain(&said), "reading: disk on fire");
    }
}
