//! How many files and sockets this process may have open.

use std::io;

/// Why there may not be as many open files and sockets as are needed.
#[derive(Debug, thiserror::Error)]
pub enum LimitError {
    /// The system's limit for this process is too low, and only its administrator may raise it.
    #[error(
        "{needed} files and sockets are needed, and this process may have no more than {hard} open: raise the hard limit (`ulimit -Hn {needed}` as root, or LimitNOFILE={needed} of its service), or take fewer agents"
    )]
    TooLow {
        /// How many are needed.
        needed: u64,
        /// How many may be had.
        hard: u64,
    },
    /// The operating system would not tell or change the limit.
    #[error("the limit of open files cannot be raised to {needed}: {source}")]
    Io {
        /// How many are needed.
        needed: u64,
        /// What it said.
        source: io::Error,
    },
}

/// Lets this process have `needed` files and sockets open, by raising its soft limit where that is
/// lower. It is never lowered.
///
/// # Errors
/// [`LimitError::TooLow`] when the hard limit does not allow it.
pub fn raise_descriptors(needed: u64) -> Result<(), LimitError> {
    let failed = |source| LimitError::Io { needed, source };
    let resource = rlimit::Resource::NOFILE;
    let (soft, hard) = resource.get().map_err(failed)?;
    if needed <= soft {
        return Ok(());
    }
    if needed > hard {
        return Err(LimitError::TooLow { needed, hard });
    }
    resource.set(needed, hard).map_err(failed)
}

/// Lets this process have `wanted` files and sockets open, or as many as its hard limit allows; how
/// many it may have now.
///
/// # Errors
/// [`LimitError::Io`].
pub fn raise_descriptors_towards(wanted: u64) -> Result<u64, LimitError> {
    let failed = |source| LimitError::Io {
        needed: wanted,
        source,
    };
    let resource = rlimit::Resource::NOFILE;
    let (_, hard) = resource.get().map_err(failed)?;
    raise_descriptors(wanted.min(hard))?;
    let (soft, _) = resource.get().map_err(failed)?;
    Ok(soft)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_number_that_is_needed_and_never_lowers_the_limit() {
        let soft = || rlimit::Resource::NOFILE.get().unwrap().0;
        let before = soft();
        raise_descriptors(1).unwrap();
        assert_eq!(soft(), before);
        let needed = u64::MAX - 1;
        let err = raise_descriptors(needed).unwrap_err();
        assert!(err.to_string().contains(&needed.to_string()), "{err}");
        let had = raise_descriptors_towards(needed).unwrap();
        let (soft, hard) = rlimit::Resource::NOFILE.get().unwrap();
        assert_eq!((soft, had), (hard, hard));
    }
}
