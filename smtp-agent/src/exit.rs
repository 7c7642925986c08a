//! What the agent says when it cannot go on, and the exit code that goes with it.

use std::{fmt, io, process::ExitCode};

pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// Exit codes of the command line, a contract with scripts (sysexits.h for the last two).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    Fine = 0,
    /// The answer is no.
    No = 1,
    /// Wrong usage, or an error in the configuration.
    Usage = 2,
    /// The kernel or the daemon is not available (`EX_UNAVAILABLE`).
    Unavailable = 69,
    /// Not permitted (`EX_NOPERM`).
    NotPermitted = 77,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

/// A sentence for the person at the terminal: what is wrong and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub code: Code,
    pub message: String,
}

impl Failure {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub fn config(message: impl Into<String>) -> Self {
        Self::new(Code::Usage, message)
    }

    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Code::Unavailable, message)
    }

    pub fn not_permitted(message: impl Into<String>) -> Self {
        Self::new(Code::NotPermitted, message)
    }

    /// `what` is the beginning of a sentence the error ends. Missing rights get their own code and advice.
    pub fn from_io(error: &io::Error, what: impl fmt::Display) -> Self {
        match error.kind() {
            io::ErrorKind::PermissionDenied => Self::not_permitted(format!(
                "{what}: {error}; run as root (or give CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON, CAP_SYS_ADMIN and CAP_DAC_READ_SEARCH)"
            )),
            io::ErrorKind::ReadOnlyFilesystem => {
                Self::not_permitted(format!("{what}: {error}; name a writable directory in [paths]"))
            }
            _ => Self::unavailable(format!("{what}: {error}")),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
