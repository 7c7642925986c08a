//! Counting the messages in a directory, and finding the oldest, without asking the mail server.
//!
//! `exim -bpc` and `postqueue` count the same files, but wait for locks or for the server. What is looked at is
//! bounded; symbolic links are never followed, since users may write into some of these directories.

use std::{
    fs::{self, DirEntry, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Directory entries looked at; no queue that still works has more.
const MOST_ENTRIES: u64 = 5_000_000;
/// Files opened for their age.
const MOST_OPENED: u64 = 20_000;
/// How much of a file is read for it.
const HEAD: u64 = 4096;

/// Where messages are, and which files are messages.
pub(super) struct Queue {
    pub(super) path: PathBuf,
    /// Directories below each other that may hold messages.
    pub(super) depth: u32,
    pub(super) kind: Kind,
    pub(super) age: Age,
}

pub(super) enum Kind {
    Any,
    Named(&'static str),
    Prefix(&'static str),
    Suffix(&'static str),
}

/// What tells when a message came. Times of files do not always: Postfix keeps the next try there, Exim rewrites.
pub(super) enum Age {
    Modified,
    /// The first six characters of the name are seconds in base 62.
    EximName,
    /// A record of type T.
    PostfixRecord,
    /// A line that begins with T.
    SendmailLine,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) messages: u64,
    pub(super) oldest: Option<SystemTime>,
    /// There are more than were looked at.
    pub(super) cut: bool,
    /// Messages that were not opened for their age, since too many were.
    pub(super) undated: u64,
}

impl Counted {
    pub(super) fn add(&mut self, other: &Self) {
        self.messages += other.messages;
        self.oldest = [self.oldest, other.oldest].into_iter().flatten().min();
        self.cut |= other.cut;
        self.undated += other.undated;
    }
}

struct Count<'a> {
    queue: &'a Queue,
    counted: Counted,
    entries: u64,
    opened: u64,
    /// Files that may be opened.
    openable: u64,
}

pub(super) fn count(queue: &Queue) -> io::Result<Counted> {
    opening_at_most(MOST_OPENED, queue)
}

/// Counts all, and opens no more than so many.
pub(super) fn opening_at_most(openable: u64, queue: &Queue) -> io::Result<Counted> {
    let mut count = Count { queue, counted: Counted::default(), entries: 0, opened: 0, openable };
    count.directory(&queue.path, queue.depth)?;
    Ok(count.counted)
}

impl Count<'_> {
    fn directory(&mut self, path: &Path, depth: u32) -> io::Result<()> {
        for entry in fs::read_dir(path)? {
            self.entries += 1;
            if self.entries > MOST_ENTRIES {
                self.counted.cut = true;
                return Ok(());
            }
            let entry = entry?;
            let kind = match entry.file_type() {
                // Messages are delivered while they are counted: what is gone is left out.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                kind => kind?,
            };
            if kind.is_file() {
                self.file(&entry);
            } else if kind.is_dir() && depth > 0 {
                match self.directory(&entry.path(), depth - 1) {
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    done => done?,
                }
            }
        }
        Ok(())
    }

    fn file(&mut self, entry: &DirEntry) {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_message = match self.queue.kind {
            Kind::Any => !name.starts_with('.'),
            Kind::Named(named) => name == named,
            Kind::Prefix(prefix) => name.starts_with(prefix),
            Kind::Suffix(suffix) => name.ends_with(suffix),
        };
        if !is_message {
            return;
        }
        self.counted.messages += 1;
        let came = match self.queue.age {
            Age::Modified => entry.metadata().ok().and_then(|found| found.modified().ok()),
            Age::EximName => exim_time(&name),
            Age::PostfixRecord => self.head(entry).and_then(|head| postfix_time(&head)),
            Age::SendmailLine => self.head(entry).and_then(|head| sendmail_time(&head)),
        };
        self.counted.oldest = [self.counted.oldest, came].into_iter().flatten().min();
    }

    fn head(&mut self, entry: &DirEntry) -> Option<Vec<u8>> {
        if self.opened >= self.openable {
            self.counted.undated += 1;
            return None;
        }
        self.opened += 1;
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_NOFOLLOW;
        let file: File = OpenOptions::new().read(true).custom_flags(flags).open(entry.path()).ok()?;
        let mut head = Vec::new();
        file.take(HEAD).read_to_end(&mut head).ok()?;
        Some(head)
    }
}

fn at(seconds: u64) -> Option<SystemTime> {
    // Nothing that is no time at all: year 2001 to 2286.
    (1_000_000_000..10_000_000_000).contains(&seconds).then(|| UNIX_EPOCH + Duration::from_secs(seconds))
}

/// `1tABCD-000abc-2x-H`, of any version (Exim specification, "Message identification").
pub(super) fn exim_time(name: &str) -> Option<SystemTime> {
    let (first, _) = name.split_once('-')?;
    if first.len() != 6 {
        return None;
    }
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'A'..=b'Z' => Some(byte - b'A' + 10),
        b'a'..=b'z' => Some(byte - b'a' + 36),
        _ => None,
    };
    let seconds = first.bytes().try_fold(0, |seconds, byte| Some(seconds * 62 + u64::from(digit(byte)?)))?;
    at(seconds)
}

/// Records of a type, a length in groups of seven bits with the lowest first, and that many octets (Postfix
/// `src/global/record.c`). The time of arrival is one of the first.
pub(super) fn postfix_time(head: &[u8]) -> Option<SystemTime> {
    const FIRST: usize = 8;
    let mut rest = head;
    for _ in 0..FIRST {
        let (kind, mut after) = rest.split_first()?;
        let (mut length, mut shift) = (0usize, 0);
        loop {
            let (octet, next) = after.split_first()?;
            after = next;
            length |= usize::from(octet & 0x7f).checked_shl(shift)?;
            shift += 7;
            if octet & 0x80 == 0 {
                break;
            }
            if shift > 28 {
                return None;
            }
        }
        let data = after.get(..length)?;
        if *kind == b'T' {
            return at(number(data)?);
        }
        rest = &after[length..];
    }
    None
}

/// `T1700000000`
pub(super) fn sendmail_time(head: &[u8]) -> Option<SystemTime> {
    let line = head.split(|octet| *octet == b'\n').find(|line| line.first() == Some(&b'T'))?;
    at(number(&line[1..])?)
}

/// Digits at the beginning, after blanks.
fn number(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?.trim_start();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}
