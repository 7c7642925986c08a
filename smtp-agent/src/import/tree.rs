//! Files below one directory, and never any other.
//!
//! The directory may be a backup or a customer's image, so nothing in it is trusted. Symbolic links are resolved as if
//! it were the root of the file system (`openat2` with `RESOLVE_IN_ROOT`, Linux 5.6), only regular files are opened,
//! and files larger than [`MAX_SIZE`] are not read. A FIFO or a device is looked at without being opened.

use std::{
    ffi::CStr,
    fs::File,
    io::{self, Read},
    os::fd::OwnedFd,
    path::Path,
};

use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
};

use super::{
    lines::{Text, shown},
    report::Report,
};
use crate::exit::{Failure, Result};

/// Of /etc/userdomains, the largest file that is read, this is about 100,000 domains.
pub(super) const MAX_SIZE: u64 = 4 << 20;
/// More accounts than any panel has.
pub(super) const MAX_ENTRIES: usize = 500_000;
/// `openat2` gives up when something is renamed while it looks.
const TRIES: usize = 16;

pub(super) struct Tree {
    root: File,
    shown: String,
}

/// What is found under a path.
enum Found<T> {
    Here(T),
    Nothing,
    /// Something that is not read, and why.
    Unusable(String),
}

impl Tree {
    pub(super) fn open(root: &Path) -> Result<Self> {
        let shown = shown(&root.display().to_string());
        match File::open(root).and_then(|file| Ok((file.metadata()?.is_dir(), file))) {
            Ok((true, root)) => Ok(Self { root, shown }),
            Ok((false, _)) => Err(Failure::config(format!("{shown} is not a directory; name one with --root DIR"))),
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Err(refused(&shown, &e)),
            Err(e) => Err(Failure::config(format!("cannot open {shown}: {e}; name another directory with --root DIR"))),
        }
    }

    /// The directory, as it was named.
    pub(super) fn shown(&self) -> String {
        self.shown.clone()
    }

    /// A file that a panel has under a fixed path; its absence is reported.
    pub(super) fn read(&self, path: &str, report: &mut Report) -> Result<Option<Text>> {
        let found = self.bytes(path)?;
        match found {
            Found::Here(_) => report.read.push(shown(path)),
            Found::Nothing => report.missing.push(shown(path)),
            Found::Unusable(_) => {}
        }
        Ok(usable(path, found, report))
    }

    /// One file of many.
    pub(super) fn read_entry(&self, path: &str, report: &mut Report) -> Result<Option<Text>> {
        Ok(usable(path, self.bytes(path)?, report))
    }

    /// The names in a directory in their order, without those that begin with a dot.
    pub(super) fn list(&self, path: &str, report: &mut Report) -> Result<Vec<String>> {
        let names = match self.names(path)? {
            Found::Here(names) => names,
            Found::Nothing => {
                report.missing.push(shown(path));
                return Ok(Vec::new());
            }
            Found::Unusable(why) => {
                report.not_read(path, &why);
                return Ok(Vec::new());
            }
        };
        report.read.push(shown(path));
        let mut texts = Vec::with_capacity(names.len());
        for name in names {
            match String::from_utf8(name) {
                Ok(name) => texts.push(name),
                Err(e) => report.not_read(
                    &format!("{path}/{}", String::from_utf8_lossy(e.as_bytes())),
                    "the name of the file is not UTF-8",
                ),
            }
        }
        if texts.len() > MAX_ENTRIES {
            report.not_read(path, &format!("only the first {MAX_ENTRIES} of {} files are read", texts.len()));
        }
        texts.sort_unstable();
        texts.truncate(MAX_ENTRIES);
        Ok(texts)
    }

    fn bytes(&self, path: &str) -> Result<Found<Vec<u8>>> {
        // Looked at before it is opened: opening a FIFO waits for a writer, opening a device may do anything.
        let looked = self.look(path, OFlag::O_PATH, |file| {
            let metadata = file.metadata()?;
            Ok(if metadata.is_file() { None } else { Some("it is not a regular file".to_owned()) })
        })?;
        match looked {
            Found::Here(None) => {}
            Found::Here(Some(why)) | Found::Unusable(why) => return Ok(Found::Unusable(why)),
            Found::Nothing => return Ok(Found::Nothing),
        }
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let read = self.look(path, flags, |file| {
            let mut bytes = Vec::new();
            if file.metadata()?.is_file() {
                file.take(MAX_SIZE + 1).read_to_end(&mut bytes)?;
            }
            Ok(bytes)
        })?;
        Ok(match read {
            Found::Here(bytes) if bytes.len() as u64 > MAX_SIZE => {
                Found::Unusable(format!("it is larger than {} MiB and not read", MAX_SIZE >> 20))
            }
            Found::Here(bytes) if bytes.contains(&0) => Found::Unusable("it is no text: it holds a NUL".to_owned()),
            found => found,
        })
    }

    fn names(&self, path: &str) -> Result<Found<Vec<Vec<u8>>>> {
        self.look(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY, |directory| {
            let mut names = Vec::new();
            for entry in Dir::from_fd(OwnedFd::from(directory))?.iter() {
                let entry = entry?;
                let name: &CStr = entry.file_name();
                if !name.to_bytes().starts_with(b".") {
                    names.push(name.to_bytes().to_vec());
                }
            }
            Ok(names)
        })
    }

    /// Opens what `path` names below the root and does something with it.
    fn look<T>(&self, path: &str, flags: OFlag, with: impl FnOnce(File) -> io::Result<T>) -> Result<Found<T>> {
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let relative = path.trim_start_matches('/');
        let mut opened = Err(Errno::EAGAIN);
        for _ in 0..TRIES {
            opened = openat2(&self.root, relative, how);
            if !matches!(opened, Err(Errno::EAGAIN | Errno::EINTR)) {
                break;
            }
        }
        let result = match opened {
            Ok(fd) => with(File::from(fd)),
            Err(Errno::ENOSYS) => {
                return Err(Failure::unavailable("the kernel has no openat2; import needs Linux 5.6 or later"));
            }
            Err(e) => Err(io::Error::from(e)),
        };
        let error = match result {
            Ok(value) => return Ok(Found::Here(value)),
            Err(e) => e,
        };
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOENT) => Ok(Found::Nothing),
            Some(Errno::EACCES | Errno::EPERM) => Err(refused(&shown(path), &error)),
            Some(Errno::ELOOP) => Ok(Found::Unusable("its symbolic links lead in circles".to_owned())),
            Some(Errno::ENOTDIR) => {
                Ok(Found::Unusable("it is, or is in, something that is not a directory".to_owned()))
            }
            Some(errno) => Ok(Found::Unusable(format!("it cannot be read: {}", errno.desc()))),
            None => Ok(Found::Unusable(format!("it cannot be read: {error}"))),
        }
    }
}

fn usable(path: &str, found: Found<Vec<u8>>, report: &mut Report) -> Option<Text> {
    match found {
        Found::Here(bytes) => Some(Text::new(path, &bytes)),
        Found::Nothing => None,
        Found::Unusable(why) => {
            report.not_read(path, &why);
            None
        }
    }
}

fn refused(path: &str, error: &io::Error) -> Failure {
    Failure::not_permitted(format!("cannot read {path}: {error}; run as root"))
}
