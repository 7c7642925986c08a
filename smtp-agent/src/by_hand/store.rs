//! The file `by-hand.json` in `[paths] state`: one JSON object,
//! `{"version": 1, "said": [{"whom": {"user": "shop"}, "says": "blocked", "since": …, "until": …, "reason": …, "by": …}]}`.
//!
//! It is replaced whole: written beside, forced to the disk and renamed, so that after a crash or a loss of power there is
//! the old one or the new one. The agent is its only writer.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{Entry, Time};

pub const NAME: &str = "by-hand.json";
const VERSION: u32 = 1;
/// More than what fits into [`MOST`] entries.
const LARGEST: u64 = 64 << 20;
/// So many may be said at a time.
pub const MOST: usize = 10_000;

#[derive(Serialize)]
struct Written<'a> {
    version: u32,
    said: &'a [Entry],
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read1 {
    #[serde(rename = "version")]
    _version: u32,
    said: Vec<Entry>,
}

/// All that every version has in common.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// What is said, and the file it is kept in.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    entries: Vec<Entry>,
}

/// A file that says nothing, and where it was moved, if it could be.
#[derive(Debug)]
pub struct Corrupt {
    pub why: String,
    pub moved_to: io::Result<PathBuf>,
}

/// Reads the file in a state directory. Without one nothing is said.
pub fn read(state: &Path) -> Result<Vec<Entry>, String> {
    let file =
        match OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(state.join(NAME)) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(e.to_string()),
        };
    let mut text = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut text).map_err(|e| e.to_string())?;
    if text.len() as u64 > LARGEST {
        return Err(format!("it is larger than {} MiB", LARGEST >> 20));
    }
    parse(&text)
}

fn parse(text: &[u8]) -> Result<Vec<Entry>, String> {
    let Version { version } = serde_json::from_slice(text).map_err(|e| e.to_string())?;
    if version != VERSION {
        return Err(format!("it is of version {version}, and this smtp-agent knows version {VERSION}"));
    }
    serde_json::from_slice(text).map(|Read1 { said, .. }| said).map_err(|e| e.to_string())
}

impl Store {
    /// Opens the store of a state directory with what holds at `now`. A file that cannot be read is moved aside, and nothing
    /// is said then.
    pub fn open(state: &Path, now: Time) -> (Self, Option<Corrupt>) {
        let (mut entries, corrupt) = match read(state) {
            Ok(entries) => (entries, None),
            Err(why) => {
                let aside = state.join(format!("{NAME}.corrupt-{now}"));
                let moved_to = fs::rename(state.join(NAME), &aside).map(|()| aside);
                (Vec::new(), Some(Corrupt { why, moved_to }))
            }
        };
        entries.retain(|entry| entry.holds(now));
        (Self { dir: state.to_owned(), entries }, corrupt)
    }

    /// The later of two speaks.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub fn path(&self) -> PathBuf {
        self.dir.join(NAME)
    }

    /// Puts others in the place of what is said. On an error what was said before stands.
    pub fn replace(&mut self, entries: Vec<Entry>) -> io::Result<()> {
        if let Err(e) = self.write(&entries) {
            // Where the new one has its name but may not be on the disk, the old one is put back.
            if read(&self.dir).is_ok_and(|written| written != self.entries) {
                let _ = self.write(&self.entries);
            }
            return Err(e);
        }
        self.entries = entries;
        Ok(())
    }

    /// The same where the file cannot be written, for what the kernel does all the same: until the next start.
    pub fn replace_in_memory(&mut self, entries: Vec<Entry>) {
        self.entries = entries;
    }

    fn write(&self, entries: &[Entry]) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(&Written { version: VERSION, said: entries })?;
        text.push(b'\n');
        let (new, path) = (self.dir.join(format!("{NAME}.new")), self.path());
        let dir = File::open(&self.dir)?;
        let written = write_new(&new, &text).and_then(|()| fs::rename(&new, &path));
        if let Err(e) = written {
            let _ = fs::remove_file(&new);
            return Err(e);
        }
        dir.sync_all()
    }
}

/// A file that was not there before, for its owner alone, on the disk when this returns.
fn write_new(path: &Path, text: &[u8]) -> io::Result<()> {
    // Left over from a write that was interrupted.
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::by_hand::{By, Says, Subject};
    use proptest::prelude::*;
    use std::os::unix::fs::PermissionsExt;

    fn entry(user: &str, until: Option<Time>) -> Entry {
        let by = By { uid: 0, user: Some("root".into()) };
        let reason = Some("a \"quoted\" reason".to_owned());
        let whom = Subject::user(user).unwrap();
        Entry { whom, says: Says::Blocked, since: Time::EPOCH.after(5), until, reason, by }
    }

    #[test]
    fn what_is_written_is_read_back_and_is_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let now = Time::EPOCH.after(100);
        let (mut store, corrupt) = Store::open(dir.path(), now);
        assert!(store.entries().is_empty() && corrupt.is_none(), "no file says nothing");
        let entries = vec![entry("shop", None), entry("blog", Some(now.after(60)))];
        fs::write(dir.path().join("by-hand.json.new"), "left over").unwrap();
        store.replace(entries.clone()).unwrap();
        assert_eq!(fs::metadata(store.path()).unwrap().permissions().mode() & 0o777, 0o600);
        let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, [NAME]);
        assert_eq!(Store::open(dir.path(), now).0.entries(), entries);
        assert_eq!(Store::open(dir.path(), now.after(60)).0.entries(), &entries[..1], "the other has lapsed");
    }

    #[test]
    fn a_file_that_says_nothing_is_moved_aside() {
        let whole = r#"{"version":1,"said":[{"whom":{"user":"a"},"says":"blocked","since":"2026-11-20T10:17:11.639Z","until":null,"reason":null,"by":{"uid":0,"user":null}}]}"#;
        assert_eq!(parse(whole.as_bytes()).unwrap().len(), 1);
        for text in [
            "",
            "{}",
            "\0\u{ff}",
            &whole[..whole.len() - 1],
            &whole.replace("\"version\":1", "\"version\":2"),
            &whole.replace("\"reason\"", "\"why\":1,\"reason\""),
            &whole.replace("blocked", "maimed"),
            &whole.replace("10:17", "soon"),
            &whole.replace("\"uid\":0", "\"uid\":-1"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(NAME), text).unwrap();
            let (mut store, corrupt) = Store::open(dir.path(), Time::EPOCH);
            let aside = corrupt.unwrap_or_else(|| panic!("{text} is read")).moved_to.unwrap();
            assert_eq!(fs::read_to_string(&aside).unwrap(), text);
            assert!(aside.to_str().unwrap().ends_with("by-hand.json.corrupt-1970-01-01T00:00:00.000Z"));
            store.replace(vec![entry("shop", None)]).unwrap();
            assert_eq!(read(dir.path()).unwrap(), [entry("shop", None)]);
        }
    }

    #[test]
    fn a_write_that_fails_leaves_the_old_file_and_the_old_entries() {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, _) = Store::open(dir.path(), Time::EPOCH);
        store.replace(vec![entry("shop", None)]).unwrap();
        // A directory that is not empty is in the way of the new file.
        fs::create_dir_all(dir.path().join("by-hand.json.new/x")).unwrap();
        assert!(store.replace(Vec::new()).is_err());
        assert_eq!(store.entries(), [entry("shop", None)]);
        assert_eq!(read(dir.path()).unwrap(), [entry("shop", None)]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(text: Vec<u8>, at in 0_usize..300, byte: u8) {
            let _ = parse(&text);
            let mut near = br#"{"version":1,"said":[{"whom":{"user":"a"},"says":"blocked","since":"2026-11-20T10:17:11Z","until":null,"reason":"x","by":{"uid":0,"user":"root"}}]}"#.to_vec();
            let at = at % near.len();
            near[at] = byte;
            let _ = parse(&near);
        }
    }
}
