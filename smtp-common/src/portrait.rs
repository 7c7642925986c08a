//! What the kernel tells of a process at the moment of its attempt, and what it remembers of executions and forks.
//!
//! A path is told as the kernel keeps it: name by name from the leaf up to the root of its mount namespace.

use crate::{names::Binary, pod};

/// Octets of a command line that are kept.
pub const ARGS_LEN: usize = 512;

/// Octets that a name may have with its NUL (`NAME_MAX`, include/uapi/linux/limits.h).
pub const NAME_ROOM: usize = 256;

/// A path's names are taken as long as they begin within so many octets; a power of two.
pub const NAMES_LEN: usize = 512;

/// Processes above it that are told.
pub const ANCESTORS: usize = 8;

/// Login uid or session of a process that nobody has logged in for (`AUDIT_UID_UNSET`), and of a kernel without audit.
pub const UNSET: u32 = u32::MAX;

/// A process: its number is used again, the two together are not.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ProcessKey {
    /// When its first thread began, in nanoseconds of the boot clock. An execve(2) changes nothing about it.
    pub start: u64,
    pub tgid: u32,
    pub _pad: u32,
}

const _: () = assert!(size_of::<ProcessKey>() == 16);
pod!(ProcessKey);

impl ProcessKey {
    pub const NONE: Self = Self { start: 0, tgid: 0, _pad: 0 };

    pub const fn is_none(&self) -> bool {
        self.tgid == 0
    }
}

/// Bits of [`Walked::flags`].
pub mod walked {
    /// The file had no name any more: the path is the one it had.
    pub const DELETED: u32 = 1;
    /// More names follow than there was room for: what is told are the last ones of the path.
    pub const CUT: u32 = 2;
    /// Something could not be read.
    pub const UNREADABLE: u32 = 4;
}

/// A path.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Walked {
    /// Octets of `names` in use.
    pub len: u32,
    /// Bits of [`walked`].
    pub flags: u32,
    /// Each with a NUL behind it, the last name of the path first. What lies beyond `len` means nothing.
    pub names: [u8; NAMES_LEN + NAME_ROOM],
}

const _: () = assert!(size_of::<Walked>() == 776);

impl Walked {
    /// Its names, the last of the path first.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        let names = &self.names[..(self.len as usize).min(self.names.len())];
        names.strip_suffix(&[0]).map(|names| names.split(|b| *b == 0)).into_iter().flatten()
    }
}

/// A process above the one that is told of.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ancestor {
    pub process: ProcessKey,
    /// [`UNSET`] where it is not known.
    pub uid: u32,
    pub _pad: u32,
    pub comm: [u8; 16],
}

const _: () = assert!(size_of::<Ancestor>() == 40);

/// Bits of [`Portrait::flags`] and [`Execution::flags`].
pub mod flag {
    /// The command line is longer than told.
    pub const ARGS_CUT: u32 = 1;
    /// What was executed is no program but names one: by its `#!` line (`bprm->interp`, fs/binfmt_script.c), or as
    /// binfmt_misc has it.
    pub const INTERPRETED: u32 = 2;
    /// The file's name is longer than told.
    pub const FILE_CUT: u32 = 4;
}

/// The process behind an event. Its record is in the ring before that of the event, which has the same time and thread.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Portrait {
    /// As [`crate::event::ConnectEvent::time`].
    pub time: u64,
    pub process: ProcessKey,
    /// The process whose execve(2) made its image: itself, or one that it is a fork of.
    pub image: ProcessKey,
    /// The file it runs, zeros where that is not known.
    pub file: Binary,
    pub tid: u32,
    /// Bits of [`flag`].
    pub flags: u32,
    /// Real uid of the login it comes from, which su(1) and sudo(8) do not change; [`UNSET`].
    pub login_uid: u32,
    /// Of audit; [`UNSET`].
    pub session: u32,
    /// Octets of `args` in use.
    pub args_len: u32,
    /// Those of `ancestors` in use.
    pub depth: u32,
    /// Its parent first.
    pub ancestors: [Ancestor; ANCESTORS],
    pub exe: Walked,
    pub cwd: Walked,
    /// The command line as it stands in the process, which may write there what it likes.
    pub args: [u8; ARGS_LEN],
}

const _: () = assert!(size_of::<Portrait>() == 2464);
pod!(Portrait);

impl Portrait {
    pub fn ancestors(&self) -> &[Ancestor] {
        &self.ancestors[..(self.depth as usize).min(ANCESTORS)]
    }

    pub fn args(&self) -> &[u8] {
        &self.args[..(self.args_len as usize).min(ARGS_LEN)]
    }
}

/// What a process was when it became the program it is.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Execution {
    /// Bits of [`flag`].
    pub flags: u32,
    /// Octets of `args` in use.
    pub args_len: u32,
    /// The file as it was named to execve(2), ended by NUL (`bprm->filename`): the script, where it is one.
    pub file: [u8; NAME_ROOM],
    /// The directory it was in.
    pub cwd: Walked,
    /// The command line, before the program could touch it.
    pub args: [u8; ARGS_LEN],
}

const _: () = assert!(size_of::<Execution>() == 1552);
pod!(Execution);

impl Execution {
    pub fn args(&self) -> &[u8] {
        &self.args[..(self.args_len as usize).min(ARGS_LEN)]
    }
}

/// Where a process comes from.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lineage {
    /// Who forked it, whether that still lives or not.
    pub parent: ProcessKey,
    /// As [`Portrait::image`].
    pub image: ProcessKey,
    /// Real uid when it was last seen to fork or to execute.
    pub uid: u32,
    pub _pad: u32,
    pub comm: [u8; 16],
}

const _: () = assert!(size_of::<Lineage>() == 56);
pod!(Lineage);
