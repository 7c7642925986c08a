//! Messages that have not been taken yet: `notify/` in `[paths] state`, one file for each message and sink.
//!
//! A file is written beside, forced to the disk and renamed, before its message is tried for the first time: so nothing is
//! lost with the agent, and at worst one is delivered twice. What is no such file is moved aside, and what grows beyond
//! bounds is dropped, the oldest first.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{Message, Notice, Seconds};

pub(super) const DIR: &str = "notify";
const VERSION: u32 = 1;
const SUFFIX: &str = ".json";
const ASIDE: &str = ".corrupt";
const NEW: &str = ".new";

/// Messages of one sink, and of all.
const MOST_OF_ONE: usize = 200;
const MOST: usize = 1000;
/// Bytes of a file.
const LARGEST: usize = 1 << 20;
/// Entries of the directory that are looked at, and files that are kept aside.
const MOST_ENTRIES: usize = 10_000;
const MOST_ASIDE: usize = 10;

/// How long after a failed attempt there is another one: doubled each time.
const FIRST_WAIT: Seconds = 30;
const LONGEST_WAIT: Seconds = 3600;
/// How long it is tried.
const GIVE_UP: Seconds = 24 * 3600;

/// A message that waits for its sink.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pending {
    version: u32,
    pub(super) sink: String,
    /// Seconds since the epoch.
    created: Seconds,
    next: Seconds,
    pub(super) attempts: u32,
    pub(super) message: Message,
}

impl Pending {
    fn new(sink: String, message: Message, now: Seconds) -> Self {
        Self { version: VERSION, sink, created: now, next: now, attempts: 0, message }
    }

    /// When it is tried next. A clock that was set back holds nothing up.
    fn due_at(&self, now: Seconds) -> Seconds {
        if self.next > now + LONGEST_WAIT { now } else { self.next }
    }

    fn postpone(&mut self, now: Seconds) {
        self.created = self.created.min(now);
        let doubled = FIRST_WAIT.checked_shl(self.attempts.min(20)).unwrap_or(LONGEST_WAIT);
        self.next = now + doubled.min(LONGEST_WAIT);
        self.attempts = self.attempts.saturating_add(1);
    }

    fn is_hopeless(&self, now: Seconds) -> bool {
        now.saturating_sub(self.created) >= GIVE_UP
    }
}

/// What became of a message that could not be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failed {
    Again,
    GivenUp,
}

pub(super) struct Spool {
    dir: PathBuf,
    /// By the names of their files, which begin with the time: the oldest first.
    pending: BTreeMap<String, Pending>,
    /// By sink, the file of what still waits for others and is tried by the next agent alone, should this one be killed.
    drafts: HashMap<String, String>,
    number: u32,
}

impl Spool {
    /// Reads what an agent before this one has left. The sentences say what could not be read.
    pub(super) fn open(state: &Path) -> (Self, Vec<String>) {
        let dir = state.join(DIR);
        let mut spool = Self { dir, pending: BTreeMap::new(), drafts: HashMap::new(), number: 0 };
        let mut said = Vec::new();
        if let Err(e) = spool.read(&mut said) {
            said.push(format!("{} cannot be read: {e}", spool.dir.display()));
        }
        (spool, said)
    }

    fn read(&mut self, said: &mut Vec<String>) -> io::Result<()> {
        let entries = match fs::read_dir(&self.dir) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        let mut aside = 0;
        for entry in entries.take(MOST_ENTRIES).flatten() {
            // Names that are not UTF-8 are none of ours, and are left alone.
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path = entry.path();
            if name.ends_with(ASIDE) {
                aside += 1;
            }
            if name.ends_with(NEW) || name.ends_with(ASIDE) && aside > MOST_ASIDE {
                // Half written, or one too many: what cannot be removed does no harm.
                let _ = fs::remove_file(&path);
            }
            if !name.ends_with(SUFFIX) {
                continue;
            }
            match load(&path) {
                Ok(pending) => drop(self.pending.insert(name, pending)),
                Err(why) => {
                    aside += 1;
                    let to = self.dir.join(format!("{name}{ASIDE}"));
                    let moved = match fs::rename(&path, &to) {
                        Ok(()) => format!("it is {} now", to.display()),
                        Err(e) => format!("and it cannot be moved aside: {e}"),
                    };
                    said.push(format!("{} holds no notice: {why}; {moved}", path.display()));
                }
            }
        }
        while self.pending.len() > MOST {
            self.drop_oldest(|_| true);
        }
        Ok(())
    }

    pub(super) fn len_of(&self, sink: &str) -> usize {
        self.pending.values().filter(|pending| pending.sink == sink).count()
    }

    /// Keeps what waits for a sink so far, which another agent would deliver at `next`; with nothing, keeps it no more.
    pub(super) fn draft(&mut self, sink: &str, message: Option<(Message, Seconds)>, now: Seconds) -> io::Result<()> {
        let known = self.drafts.remove(sink);
        let Some((message, next)) = message else {
            known.iter().for_each(|name| self.delivered(name));
            return Ok(());
        };
        let name = known.unwrap_or_else(|| self.new_name(now));
        let written = self.write(&name, &mut Pending { next, ..Pending::new(sink.to_owned(), message, now) });
        self.drafts.insert(sink.to_owned(), name);
        written
    }

    fn new_name(&mut self, now: Seconds) -> String {
        loop {
            self.number = self.number.wrapping_add(1);
            let name = format!("{now:012}-{:08}{SUFFIX}", self.number);
            if !self.pending.contains_key(&name) {
                return name;
            }
        }
    }

    /// Keeps a message for a sink, in the place of its draft, to be tried at `next`. Returns how many others were dropped for
    /// it. On an error it is kept in memory alone.
    pub(super) fn push(
        &mut self,
        sink: String,
        message: Message,
        now: Seconds,
        next: Seconds,
    ) -> (usize, io::Result<()>) {
        let mut dropped = 0;
        while self.len_of(&sink) >= MOST_OF_ONE {
            self.drop_oldest(|pending| pending.sink == sink);
            dropped += 1;
        }
        while self.pending.len() >= MOST {
            self.drop_oldest(|_| true);
            dropped += 1;
        }
        let name = self.drafts.remove(&sink).unwrap_or_else(|| self.new_name(now));
        let mut pending = Pending { next, ..Pending::new(sink, message, now) };
        let written = self.write(&name, &mut pending);
        self.pending.insert(name, pending);
        (dropped, written)
    }

    fn drop_oldest(&mut self, which: impl Fn(&Pending) -> bool) {
        let oldest = self.pending.iter().find(|(_, pending)| which(pending)).map(|(name, _)| name.clone());
        if let Some(name) = oldest {
            self.delivered(&name);
        }
    }

    /// What may be tried now, the oldest of each sink but those that are busy.
    pub(super) fn due(&self, now: Seconds, is_busy: impl Fn(&str) -> bool) -> Vec<(String, Pending)> {
        let mut due: Vec<(String, Pending)> = Vec::new();
        for (name, pending) in &self.pending {
            let taken = is_busy(&pending.sink) || due.iter().any(|(_, other)| other.sink == pending.sink);
            if !taken && pending.due_at(now) <= now {
                due.push((name.clone(), pending.clone()));
            }
        }
        due
    }

    /// When the next one may be tried.
    pub(super) fn due_at(&self, now: Seconds, is_busy: impl Fn(&str) -> bool) -> Option<Seconds> {
        let waiting = self.pending.values().filter(|pending| !is_busy(&pending.sink));
        waiting.map(|pending| pending.due_at(now)).min()
    }

    /// A message was taken, or is for nobody any more.
    pub(super) fn delivered(&mut self, name: &str) {
        self.pending.remove(name);
        match fs::remove_file(self.dir.join(name)) {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                tracing::warn!("{} cannot be removed from the notices that wait: {e}", self.dir.join(name).display());
            }
            _ => {}
        }
    }

    /// A message was not taken. `None` if it has been dropped meanwhile.
    pub(super) fn failed(&mut self, name: &str, now: Seconds) -> Option<Failed> {
        let mut pending = self.pending.get(name)?.clone();
        pending.postpone(now);
        if pending.is_hopeless(now) {
            self.delivered(name);
            return Some(Failed::GivenUp);
        }
        if let Err(e) = self.write(name, &mut pending) {
            tracing::warn!("{} cannot be written: {e}", self.dir.join(name).display());
        }
        self.pending.insert(name.to_owned(), pending);
        Some(Failed::Again)
    }

    /// Drops what is for sinks that are gone. Returns how many messages that were.
    pub(super) fn retain(&mut self, is_there: impl Fn(&str) -> bool) -> usize {
        let gone = self.pending.iter().filter(|(_, pending)| !is_there(&pending.sink));
        let gone: Vec<_> = gone.map(|(name, _)| name.clone()).collect();
        gone.iter().for_each(|name| self.delivered(name));
        let drafts: Vec<_> = self.drafts.extract_if(|sink, _| !is_there(sink)).collect();
        drafts.iter().for_each(|(_, name)| self.delivered(name));
        gone.len() + drafts.len()
    }

    fn write(&self, name: &str, pending: &mut Pending) -> io::Result<()> {
        let mut text = serde_json::to_vec(pending)?;
        if text.len() > LARGEST {
            // Command lines may be long: what is said without them is still worth saying.
            shorten(&mut pending.message, text.len() - LARGEST);
            text = serde_json::to_vec(pending)?;
        }
        replace(&self.dir, name, &text)
    }
}

/// Says less of culprits, each time of the one of whom most is said, until so many bytes are gone.
fn shorten(message: &mut Message, mut over: usize) {
    let of = |notice: &Notice| (notice.weight(), 0);
    let mut weights: Vec<_> = message.notices.iter().map(of).collect();
    while over > 0 {
        let largest = (0..weights.len()).filter(|n| weights[*n].1 < Notice::STEPS).max_by_key(|n| weights[*n]);
        let Some(largest) = largest else { return };
        let (weight, step) = &mut weights[largest];
        message.notices[largest].shorten(*step);
        let left = message.notices[largest].weight();
        over = over.saturating_sub(weight.saturating_sub(left));
        (*weight, *step) = (left, *step + 1);
    }
}

fn load(path: &Path) -> Result<Pending, String> {
    let text = read(path, LARGEST).map_err(|e| e.to_string())?;
    let pending: Pending = serde_json::from_slice(&text).map_err(|e| e.to_string())?;
    if pending.version != VERSION {
        return Err(format!("it is of version {}, and this smtp-agent knows version {VERSION}", pending.version));
    }
    Ok(pending)
}

/// A regular file up to a size, whoever has put what in its place.
pub(super) fn read(path: &Path, largest: usize) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut text = Vec::new();
    file.take(largest as u64 + 1).read_to_end(&mut text)?;
    if text.len() > largest {
        return Err(io::Error::new(ErrorKind::InvalidData, format!("it is larger than {} KiB", largest >> 10)));
    }
    Ok(text)
}

/// Puts a file in the place of another, so that after a loss of power there is the old one or the new one.
pub(super) fn replace(dir: &Path, name: &str, text: &[u8]) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let (new, path) = (dir.join(format!("{name}{NEW}")), dir.join(name));
    match fs::remove_file(&new) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(dir)?.sync_all()
    };
    write().inspect_err(|_| drop(fs::remove_file(&new)))
}

#[cfg(test)]
mod tests;
