//! A folder that one process at a time may write to.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Why a folder could not be locked.
#[derive(Debug)]
pub(crate) enum LockFault {
    /// The lock file could not be made or read.
    Io { path: PathBuf, source: io::Error },
    /// Somebody has it: `process 1234`.
    Held { holder: String },
}

/// An advisory lock, in a file of its own that names the holder. It ends with the process.
pub(crate) fn lock_folder(folder: &Path) -> Result<File, LockFault> {
    let path = folder.join(LOCK_FILE);
    let io = |source| LockFault::Io {
        path: path.clone(),
        source,
    };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let mut file = options.mode(0o600).open(&path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::Error(err)) => return Err(io(err)),
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // Empty in the moment between locking and writing.
            let _ = file.take(MAX_PID).read_to_string(&mut pid);
            let holder = match pid.trim().parse::<u32>() {
                Ok(pid) => format!("process {pid}"),
                Err(_) => "another process".into(),
            };
            return Err(LockFault::Held { holder });
        }
    }
    file.set_len(0).map_err(io)?;
    // On a full disk the name is missing, and the lock holds all the same.
    let _ = writeln!(file, "{}", std::process::id());
    Ok(file)
}

const LOCK_FILE: &str = "lock";
/// A process id has at most ten digits.
const MAX_PID: u64 = 16;
