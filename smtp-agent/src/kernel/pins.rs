//! The pin directory: what keeps the gate standing when no agent runs.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::{fd::AsFd, unix::fs::DirBuilderExt},
    path::{Path, PathBuf},
};

use aya::maps::{Array, Map, MapData};
use nix::{
    fcntl::{Flock, FlockArg},
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};
use smtp_common::names::{LAYOUT_VERSION, MAGIC, Meta, map, program};

use super::sys;
use crate::exit::{Failure, Result};

const BPFFS: &str = "/sys/fs/bpf";

/// A directory of pins. It may not exist.
#[derive(Debug, Clone)]
pub struct Pins {
    dir: PathBuf,
}

/// What lies in the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing of ours.
    Absent,
    /// Pins of this layout.
    Ours,
    /// Pins of another layout version.
    OtherLayout(u32),
    /// Pins of a start that was cut off before anything was attached: no link, and `META` not signed.
    Unfinished,
    /// Links beside maps that carry no layout we know.
    Broken,
}

/// Held by the one agent that may write these pins; released by the kernel when it ends, however it ends.
pub struct Lock(#[expect(dead_code, reason = "held, never read")] Flock<File>);

impl Pins {
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn map(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Where the link of a program is pinned.
    pub fn link(&self, program: &str) -> PathBuf {
        self.dir.join(format!("link_{program}"))
    }

    /// Every path that is ours, the links first: what is removed first stops the gate.
    fn ours(&self) -> impl Iterator<Item = PathBuf> {
        let links = program::ALL.map(|p| self.link(p));
        let maps = map::ALL.map(|m| self.map(m));
        links.into_iter().chain(maps)
    }

    /// Makes the directory on a BPF filesystem, mounting /sys/fs/bpf where nobody has, and locks it.
    pub fn prepare(&self) -> Result<Lock> {
        if self.dir.starts_with(BPFFS) && !is_bpffs(Path::new(BPFFS)) {
            mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), Some("mode=0700")).map_err(|e| {
                Failure::from_io(&e.into(), format!("{BPFFS} is no BPF filesystem and cannot be mounted"))
            })?;
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)
            .map_err(|e| Failure::from_io(&e, format!("the pin directory {:?} cannot be made", self.dir)))?;
        if !is_bpffs(&self.dir) {
            let _ = fs::remove_dir(&self.dir);
            return Err(Failure::config(format!(
                "[paths] pins = {:?} is not on a BPF filesystem; write a directory below {BPFFS}",
                self.dir
            )));
        }
        let dir = File::open(&self.dir)
            .map_err(|e| Failure::from_io(&e, format!("the pin directory {:?} cannot be opened", self.dir)))?;
        match Flock::lock(dir, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Lock(lock)),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Err(Failure::unavailable(format!(
                "another smtp-agent runs with the pins {:?}; stop it first, or give this one its own [paths] pins",
                self.dir
            ))),
            Err((_, e)) => {
                Err(Failure::from_io(&e.into(), format!("the pin directory {:?} cannot be locked", self.dir)))
            }
        }
    }

    /// Whether an agent holds the lock now.
    pub fn agent_is_running(&self) -> bool {
        let Ok(dir) = File::open(&self.dir) else { return false };
        matches!(Flock::lock(dir, FlockArg::LockSharedNonblock), Err((_, nix::errno::Errno::EWOULDBLOCK)))
    }

    pub fn state(&self) -> Result<State> {
        let mut any = false;
        for path in self.ours() {
            // Not `exists`, to which a directory that may not be looked into is an empty one.
            any |= path
                .try_exists()
                .map_err(|e| Failure::from_io(&e, format!("the pins in {:?} cannot be looked at", self.dir)))?;
        }
        if !any {
            return Ok(State::Absent);
        }
        match self.meta() {
            Ok(Meta { magic: MAGIC, layout: LAYOUT_VERSION }) => Ok(State::Ours),
            Ok(Meta { magic: MAGIC, layout }) if layout != 0 => Ok(State::OtherLayout(layout)),
            Ok(_) => Ok(self.unsigned()),
            Err(aya::maps::MapError::SyscallError(e)) if e.io_error.kind() == io::ErrorKind::PermissionDenied => {
                Err(Failure::from_io(&e.io_error, format!("the pins in {:?} cannot be opened", self.dir)))
            }
            Err(_) => Ok(self.unsigned()),
        }
    }

    /// Signing comes before attaching, so where no link is pinned nothing was ever in force.
    fn unsigned(&self) -> State {
        if program::ALL.iter().any(|p| self.link(p).exists()) { State::Broken } else { State::Unfinished }
    }

    fn meta(&self) -> Result<Meta, aya::maps::MapError> {
        Array::try_from(Map::Array(MapData::from_pin(self.map(map::META))?))?.get(&0, 0)
    }

    /// A gate of this layout that can be read, or a sentence that says why not.
    pub fn require_ours(&self) -> Result<()> {
        match self.state()? {
            State::Ours => Ok(()),
            State::Absent => Err(Failure::unavailable(format!(
                "no gate is pinned in {:?}; start it with `smtp-agent run`",
                self.dir
            ))),
            other => Err(self.refusal(other)),
        }
    }

    /// Why pins in this state are not adopted, and what to do.
    pub fn refusal(&self, state: State) -> Failure {
        let dir = &self.dir;
        Failure::unavailable(match state {
            State::OtherLayout(found) => format!(
                "the pins in {dir:?} have layout {found}, this smtp-agent has layout {LAYOUT_VERSION}; \
                 they were left as they are and still guard. Run the version that made them, or remove them with \
                 `smtp-agent detach` (which forgets all counts) and start again"
            ),
            _ => format!(
                "the pins in {dir:?} carry no layout this smtp-agent knows; they were left as they are. Remove them \
                 with `smtp-agent detach` and start again"
            ),
        })
    }

    /// Removes every pin of ours and keeps the directory. Returns how many there were.
    pub fn remove_contents(&self) -> Result<usize> {
        if let Ok(mut turn) = MapData::from_pin(self.map(map::TURN)).and_then(|m| Array::try_from(Map::Array(m))) {
            // Best effort, as the next: tracepoints are left some time after their links are gone.
            let _ = turn.set(0, 0u64, 0);
        }
        for link in program::ALL.iter().filter_map(|p| sys::open_pin(&self.link(p)).ok()) {
            // Best effort, so that the gate is gone when this returns: without its pin the link ends anyway.
            let _ = sys::detach_link(link.as_fd());
        }
        let mut removed = 0;
        for path in self.ours() {
            match fs::remove_file(&path) {
                Ok(()) => removed += 1,
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(Failure::from_io(&e, format!("the pin {path:?} cannot be removed"))),
            }
        }
        Ok(removed)
    }

    /// Removes every pin of ours and the directory, if nothing else is in it. Returns how many there were and
    /// what is left.
    pub fn remove(&self) -> Result<(usize, Vec<PathBuf>)> {
        let removed = self.remove_contents()?;
        let left: Vec<_> = match fs::read_dir(&self.dir) {
            Ok(entries) => entries.filter_map(|e| e.ok().map(|e| e.path())).collect(),
            Err(_) => return Ok((removed, Vec::new())),
        };
        if left.is_empty() {
            fs::remove_dir(&self.dir)
                .map_err(|e| Failure::from_io(&e, format!("the pin directory {:?} cannot be removed", self.dir)))?;
        }
        Ok((removed, left))
    }
}

fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|s| s.filesystem_type() == BPF_FS_MAGIC)
}
