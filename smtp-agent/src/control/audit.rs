//! Who changed what: `audit.log` in `[paths] state`, one JSON object a line, only ever added to.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::Serialize;

use super::{Request, rights::Peer};
use crate::{
    accounts::database::user_name,
    by_hand::{Subject, Time},
};

pub const NAME: &str = "audit.log";
/// From this size on a new file is begun; the one before is kept.
const LARGEST: u64 = 10 << 20;
/// Refusals that are written in a stretch of [`STRETCH`]: whoever is refused may come as often as he likes.
const REFUSALS: u32 = 10;
const STRETCH: Duration = Duration::from_secs(60);

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Done,
    /// There was nothing to change.
    Nothing,
    Failed,
    /// He may not.
    Refused,
}

#[derive(Debug, Serialize)]
struct Line<'a> {
    time: Time,
    /// None of a signal and of a changed file, which do not tell.
    uid: Option<u32>,
    user: Option<String>,
    pid: Option<i32>,
    what: &'a str,
    whom: Option<&'a Subject>,
    /// Seconds; none for ever.
    #[serde(rename = "for")]
    for_seconds: Option<u64>,
    reason: Option<&'a str>,
    outcome: Outcome,
    /// What went wrong.
    error: Option<&'a str>,
    /// Refusals since the line before of such that were not written.
    #[serde(skip_serializing_if = "Option::is_none")]
    left_out: Option<u32>,
}

/// Who asked: somebody at the socket, or nobody that could be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    Peer(Peer),
    Signal,
    /// Somebody who changed a file that is watched.
    Files,
}

pub struct Audit {
    path: PathBuf,
    refusals: Mutex<Refusals>,
}

struct Refusals {
    since: Instant,
    written: u32,
    left_out: u32,
}

impl Audit {
    pub fn new(state: &Path) -> Self {
        let refusals = Refusals { since: Instant::now(), written: 0, left_out: 0 };
        Self { path: state.join(NAME), refusals: Mutex::new(refusals) }
    }

    /// Tells of a change that was asked for, and has it on the disk when this returns.
    pub fn change(&self, asker: Asker, request: &Request, outcome: Result<Outcome, &str>) {
        let (what, whom, order) = match request {
            Request::Allow(order) => ("allow", Some(&order.whom), Some(order)),
            Request::Block(order) => ("block", Some(&order.whom), Some(order)),
            Request::Release { whom } => ("release", Some(whom), None),
            Request::Reload {} => ("reload", None, None),
            Request::Events {} | Request::Said {} => return,
        };
        let line = Line {
            what,
            whom,
            for_seconds: order.and_then(|order| order.for_seconds),
            reason: order.and_then(|order| order.reason.as_deref()),
            outcome: *outcome.as_ref().unwrap_or(&Outcome::Failed),
            error: outcome.err(),
            ..Line::of(asker)
        };
        let by = line.by();
        let whom = whom.map(Subject::to_string);
        tracing::info!(by, whom, seconds = line.for_seconds, reason = line.reason, outcome = ?line.outcome, "{what} was asked for");
        let _one_at_a_time = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        self.write(&line, true);
    }

    /// Tells of somebody who may not use the socket, unless there were many just now.
    pub fn refusal(&self, peer: Peer) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        if refusals.since.elapsed() >= STRETCH {
            *refusals = Refusals { since: Instant::now(), written: 0, left_out: refusals.left_out };
        }
        if refusals.written >= REFUSALS {
            refusals.left_out = refusals.left_out.saturating_add(1);
            return;
        }
        refusals.written += 1;
        let left_out = Some(std::mem::take(&mut refusals.left_out)).filter(|&n| n > 0);
        let line = Line { what: "connect", outcome: Outcome::Refused, left_out, ..Line::of(Asker::Peer(peer)) };
        tracing::warn!(by = line.by(), pid = peer.pid, left_out, "somebody who may not was refused the control socket");
        self.write(&line, false);
    }

    /// An audit that cannot be written undoes nothing: the log has the same.
    fn write(&self, line: &Line<'_>, to_disk: bool) {
        let written = serde_json::to_vec(line).map_err(Into::into).and_then(|mut text| {
            text.push(b'\n');
            append(&self.path, &text, LARGEST, to_disk)
        });
        if let Err(e) = written {
            tracing::error!("{} cannot be written: {e}", self.path.display());
        }
    }
}

impl Line<'_> {
    fn of(asker: Asker) -> Self {
        let peer = match asker {
            Asker::Peer(peer) => Some(peer),
            Asker::Signal | Asker::Files => None,
        };
        let user = match asker {
            Asker::Peer(peer) => user_name(peer.uid),
            Asker::Signal => Some("signal".to_owned()),
            Asker::Files => Some("changed files".to_owned()),
        };
        Self {
            time: Time::now(),
            uid: peer.map(|peer| peer.uid),
            user,
            pid: peer.and_then(|peer| peer.pid),
            what: "",
            whom: None,
            for_seconds: None,
            reason: None,
            outcome: Outcome::Done,
            error: None,
            left_out: None,
        }
    }

    fn by(&self) -> String {
        let user = self.user.as_deref().unwrap_or("?");
        self.uid.map_or_else(|| user.to_owned(), |uid| format!("{user} (uid {uid})"))
    }
}

/// Adds a whole line or none.
fn append(path: &Path, line: &[u8], largest: u64, to_disk: bool) -> io::Result<()> {
    let open = || {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(flags).open(path)
    };
    let mut file = open()?;
    let mut length = file.metadata()?.len();
    if length > 0 && length + line.len() as u64 > largest {
        fs::rename(path, path.with_extension("log.1"))?;
        file = open()?;
        length = 0;
    }
    if let Err(e) = file.write_all(line) {
        let _ = file.set_len(length);
        return Err(e);
    }
    if to_disk {
        file.sync_data()?;
        if length == 0 {
            path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Order;
    use serde_json::{Value, json};
    use std::os::unix::fs::PermissionsExt;

    const PEER: Peer = Peer { uid: 0, gid: 0, pid: Some(77) };

    fn lines(dir: &Path) -> Vec<Value> {
        let text = fs::read_to_string(dir.join(NAME)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_change_is_one_line_that_says_who_and_why() {
        let dir = tempfile::tempdir().unwrap();
        let audit = Audit::new(dir.path());
        let order = Order {
            whom: Subject::user("shop").unwrap(),
            for_seconds: Some(7200),
            reason: Some("spam\" {}".into()),
            force: false,
        };
        audit.change(Asker::Peer(PEER), &Request::Block(order), Ok(Outcome::Done));
        audit.change(Asker::Signal, &Request::Reload {}, Err("two\nlines"));
        audit.change(Asker::Signal, &Request::Said {}, Ok(Outcome::Done));
        let [mut block, mut reload] = lines(dir.path()).try_into().expect("looking is no change");
        for line in [&mut block, &mut reload] {
            assert!(Time::try_from(line["time"].take().as_str().unwrap().to_owned()).is_ok());
        }
        let expected = json!({"time": null, "uid": 0, "user": "root", "pid": 77, "what": "block", "whom": {"user": "shop"},
            "for": 7200, "reason": "spam\" {}", "outcome": "done", "error": null});
        assert_eq!(block, expected);
        let expected = json!({"time": null, "uid": null, "user": "signal", "pid": null, "what": "reload", "whom": null,
            "for": null, "reason": null, "outcome": "failed", "error": "two\nlines"});
        assert_eq!(reload, expected);
        assert_eq!(fs::metadata(dir.path().join(NAME)).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn many_refusals_are_counted_and_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let audit = Audit::new(dir.path());
        (0..1000).for_each(|_| audit.refusal(Peer { uid: 61_001, ..PEER }));
        assert_eq!(lines(dir.path()).len(), REFUSALS as usize);
        let later = Instant::now().checked_sub(STRETCH).expect("this machine runs for a minute");
        audit.refusals.lock().unwrap().since = later;
        audit.refusal(Peer { uid: 61_001, ..PEER });
        let last = lines(dir.path()).pop().unwrap();
        assert_eq!(
            (&last["left_out"], &last["outcome"], &last["uid"]),
            (&990.into(), &"refused".into(), &61_001.into())
        );
    }

    #[test]
    fn a_file_that_is_full_is_kept_once_and_a_new_one_begun() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        for text in ["first\n", "second\n", "third\n", "a very long line that fits nowhere\n", "fifth\n"] {
            append(&path, text.as_bytes(), 15, true).unwrap();
        }
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        assert_eq!(read(&path), "fifth\n");
        assert_eq!(read(&dir.path().join("audit.log.1")), "a very long line that fits nowhere\n");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_link_in_its_place_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), &path).unwrap();
        assert!(append(&path, b"x\n", 100, false).is_err());
        assert!(!dir.path().join("elsewhere").exists());
    }
}
