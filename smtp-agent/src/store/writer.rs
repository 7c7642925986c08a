//! The thread that writes: fed by a bounded channel that nobody waits for, it writes in batches, and goes on by itself when
//! the disk has room again or the file is whole again.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rusqlite::{Error, ErrorCode};

use super::{
    backlog::{BATCH, Backlog},
    file::{self, Trouble},
    prune::Limits,
    record::{Millis, Record},
    write::{Gate, Writing},
};

/// Records that may wait for the thread.
const CHANNEL: usize = 8_192;
/// A transaction is written after this time, where it is not full before.
const PAUSE: Duration = Duration::from_secs(1);
/// How long after a failure it is tried again.
const RETRY: Duration = Duration::from_secs(5);
const TEND: Duration = Duration::from_secs(30);
/// After one round that did not get everything done.
const TEND_SOON: Duration = Duration::from_secs(1);
/// How long the start may be held up until the file is open.
const WELCOME: Duration = Duration::from_secs(1);
/// How long the end may be held up by what is still to be written.
const FAREWELL: Duration = Duration::from_secs(5);

/// Why records are not in the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Cause {
    /// More came than could be written.
    Slow = 0,
    /// The disk is full or broken.
    Unwritten = 1,
    /// The file cannot be opened.
    Unavailable = 2,
}

impl Cause {
    pub const ALL: [Self; 3] = [Self::Slow, Self::Unwritten, Self::Unavailable];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::Unwritten => "unwritten",
            Self::Unavailable => "unavailable",
        }
    }
}

#[derive(Default)]
struct Lost([AtomicU64; Cause::ALL.len()]);

impl Lost {
    fn add(&self, cause: Cause, n: u64) {
        self.0[cause as usize].fetch_add(n, Ordering::Relaxed);
    }
}

enum Message {
    Record(Record),
    /// Write what is there, and say when it is done.
    Flush(SyncSender<()>),
    Stop,
}

/// The way in. Dropping it without [`Self::stop`] loses at most the last second.
pub struct History {
    sender: SyncSender<Message>,
    limits: Arc<Mutex<Limits>>,
    lost: Arc<Lost>,
    ended: Mutex<Option<Receiver<()>>>,
    /// The last counters and the last windows, where there was no room for them.
    held: Mutex<[Option<Record>; 2]>,
}

/// Which of those that hold what the ones before have told it is.
fn standing(record: &Record) -> Option<usize> {
    match record {
        Record::Counters(..) => Some(0),
        Record::Windows(..) => Some(1),
        Record::Attempt(..) | Record::Session(..) | Record::Hosts(..) => None,
    }
}

pub fn now() -> Millis {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

impl History {
    /// Starts the thread and waits a moment until the file is open. Whatever is wrong with the file is said by it, and kept from nobody else's work.
    pub fn start(state: &Path, limits: Limits, gate: Gate) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(CHANNEL);
        let (ending, ended) = sync_channel(1);
        let (opening, opened) = sync_channel(1);
        let lost = Arc::new(Lost::default());
        let limits = Arc::new(Mutex::new(limits));
        let writer = Writer {
            state: state.to_owned(),
            limits: limits.clone(),
            gate,
            open: None,
            backlog: Backlog::default(),
            waits_until: None,
            said: None,
            said_refused: false,
            tends_at: Instant::now(),
            lost: lost.clone(),
        };
        thread::Builder::new().name("history".to_owned()).spawn(move || {
            writer.run(&receiver, &opening);
            // Nobody may be left to hear it.
            let _ = ending.send(());
        })?;
        // That the counters of a fresh gate are looked at from their beginning on is written there first. A disk that takes its
        // time is not waited for.
        let _ = opened.recv_timeout(WELCOME);
        let ended = Mutex::new(Some(ended));
        Ok(Self { sender, limits, lost, ended, held: Mutex::default() })
    }

    /// Hands a record over, or counts it as lost: never waits.
    pub fn tell(&self, record: Record) {
        // The next ones hold what these would have told: at the end there are none, so the last are kept for it.
        let standing = standing(&record);
        let mut held = standing.map(|_| self.held());
        match self.sender.try_send(Message::Record(record)) {
            Ok(()) => {
                if let (Some(held), Some(which)) = (&mut held, standing) {
                    held[which] = None;
                }
            }
            Err(TrySendError::Full(Message::Record(record))) => match (&mut held, standing) {
                (Some(held), Some(which)) => held[which] = Some(record),
                // It is asked for again.
                _ if matches!(record, Record::Hosts(..)) => {}
                _ => self.lost.add(Cause::Slow, 1),
            },
            Err(TrySendError::Full(_)) => {}
            Err(TrySendError::Disconnected(_)) => self.lost.add(Cause::Unavailable, 1),
        }
    }

    fn held(&self) -> MutexGuard<'_, [Option<Record>; 2]> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn lost(&self, cause: Cause) -> u64 {
        self.lost.0[cause as usize].load(Ordering::Relaxed)
    }

    /// They hold from the next time that the thread tidies up.
    pub fn set_limits(&self, limits: Limits) {
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner) = limits;
    }

    /// Returns when what was told before is written, or cannot be.
    pub fn flush(&self) {
        let (done, heard) = sync_channel(1);
        if self.sender.send(Message::Flush(done)).is_ok() {
            let _ = heard.recv_timeout(FAREWELL);
        }
    }

    /// Waits until there is room. Returns the message where there was none in time.
    fn send(&self, mut message: Message, deadline: Instant) -> Option<Message> {
        while let Err(TrySendError::Full(back)) = self.sender.try_send(message) {
            if Instant::now() > deadline {
                return Some(back);
            }
            message = back;
            thread::sleep(Duration::from_millis(10));
        }
        None
    }

    /// Has what was told written, and the thread end. Returns false where that takes too long; it is then cut off, and loses
    /// what it had not written.
    pub fn stop(&self) -> bool {
        let mut has_ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(ended) = has_ended.as_ref() else { return true };
        let deadline = Instant::now() + FAREWELL;
        for which in 0..2 {
            let held = self.held()[which].take();
            if let Some(Message::Record(back)) = held.and_then(|held| self.send(Message::Record(held), deadline)) {
                self.held()[which] = Some(back);
                return false;
            }
        }
        if self.send(Message::Stop, deadline).is_some() {
            return false;
        }
        let in_time = ended.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok();
        if in_time {
            *has_ended = None;
        }
        in_time
    }
}

struct Writer {
    state: PathBuf,
    limits: Arc<Mutex<Limits>>,
    gate: Gate,
    open: Option<Writing>,
    backlog: Backlog,
    /// After a failure.
    waits_until: Option<Instant>,
    /// The last thing that was wrong: said once.
    said: Option<String>,
    /// That some records cannot be written was said.
    said_refused: bool,
    tends_at: Instant,
    lost: Arc<Lost>,
}

impl Writer {
    fn run(mut self, receiver: &Receiver<Message>, opened: &SyncSender<()>) {
        self.reopen();
        let _ = opened.try_send(());
        let mut flushed = Instant::now();
        loop {
            let wait = PAUSE.saturating_sub(flushed.elapsed());
            let mut answer = None;
            let mut ends = false;
            match receiver.recv_timeout(wait) {
                Ok(Message::Record(record)) => self.backlog.push(record),
                Ok(Message::Flush(done)) => answer = Some(done),
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => ends = true,
                Err(RecvTimeoutError::Timeout) => {}
            }
            let due = self.backlog.len() >= BATCH || flushed.elapsed() >= PAUSE || answer.is_some() || ends;
            if due {
                self.write(answer.is_some() || ends);
                flushed = Instant::now();
                if let Some(done) = answer {
                    let _ = done.send(());
                }
            }
            if ends {
                break;
            }
            if Instant::now() >= self.tends_at {
                self.tend();
            }
        }
        self.lost.add(Cause::Unwritten, self.backlog.events());
        if let Some(open) = self.open.take()
            && let Err(e) = open.close()
        {
            tracing::warn!("the history was not closed in good order, which its next opening puts right: {e}");
        }
    }

    fn write(&mut self, at_once: bool) {
        if self.waits_until.is_some_and(|until| Instant::now() < until) && !at_once {
            return self.shed();
        }
        self.waits_until = None;
        if self.open.is_none() {
            self.reopen();
        }
        if let Some(open) = &mut self.open {
            let outcome = self.backlog.write(|batch| open.write(batch));
            self.lost.add(Cause::Unwritten, outcome.lost);
            if let Some(error) = outcome.refused.filter(|_| !std::mem::replace(&mut self.said_refused, true)) {
                tracing::error!(
                    "an event cannot be written to the history and is left out ({error}); this and others are counted in \
                     smtp_agent_history_lost_total"
                );
            }
            match outcome.error {
                Some(error) => self.failed(&error),
                None if outcome.wrote => self.well(),
                None => {}
            }
        }
        self.shed();
    }

    /// Lets go of what nobody will take any more.
    fn shed(&mut self) {
        let cause = if self.open.is_some() { Cause::Unwritten } else { Cause::Unavailable };
        self.lost.add(cause, self.backlog.shed());
    }

    fn limits(&self) -> Limits {
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reopen(&mut self) {
        let limits = self.limits();
        match Writing::open(&self.state, self.gate.clone()) {
            Ok((mut open, aside)) => {
                if let Some(aside) = aside {
                    tracing::error!(
                        "the history could not be read ({}) and is {:?} now; a new one is begun. What holds in the kernel is \
                         not affected",
                        aside.why,
                        aside.to
                    );
                }
                // Whatever comes after this, the counters have been looked at.
                self.gate = Gate::Adopted;
                self.tends_at = Instant::now() + TEND;
                if let Ok(true) = open.tend(&limits, now()) {
                    self.tends_at = Instant::now() + TEND_SOON;
                }
                self.open = Some(open);
            }
            Err(trouble) => {
                self.waits_until = Some(Instant::now() + RETRY);
                let path = self.state.join(file::NAME);
                self.say(format!("nothing is added to the history {path:?}: {trouble}"));
            }
        }
    }

    /// The next thing that is written begins a new one.
    fn set_aside(&mut self, why: &str) {
        // Dropped, not closed: a checkpoint of a broken file helps nobody.
        self.open = None;
        self.waits_until = None;
        match file::move_aside(&self.state) {
            Ok(to) => tracing::error!(
                "the history is broken ({why}) and is {to:?} now; a new one is begun. What holds in the kernel is not affected"
            ),
            Err(e) => self.say(format!("the history is broken ({why}) and cannot be moved aside: {e}")),
        }
    }

    /// Looks at the file as others see it: what was read before stands in memory, whatever became of the file.
    fn look(&mut self) {
        match file::open_to_read(&self.state) {
            Err(Trouble::Corrupt(why)) => self.set_aside(&why),
            Err(Trouble::Absent) if self.open.take().is_some() => {
                tracing::error!("the history was removed while it was written; a new one is begun");
            }
            _ => {}
        }
    }

    fn failed(&mut self, error: &Error) {
        self.waits_until = Some(Instant::now() + RETRY);
        if file::is_corrupt(error) {
            return self.set_aside(&error.to_string());
        }
        let path = self.state.join(file::NAME);
        if error.sqlite_error_code() == Some(ErrorCode::DiskFull) {
            // Where it is the history's own limit that was met, tidying up makes room.
            self.tends_at = Instant::now();
            self.say(format!(
                "the history {path:?} cannot be written: no room on the disk, or [history] max_size is reached; it goes on by \
                 itself when there is room. What is lost meanwhile is counted in smtp_agent_history_lost_total"
            ));
        } else {
            self.say(format!("the history {path:?} cannot be written and is tried again: {error}"));
        }
    }

    fn tend(&mut self) {
        self.tends_at = Instant::now() + TEND;
        self.look();
        let limits = self.limits();
        let Some(open) = &mut self.open else { return };
        match open.tend(&limits, now()) {
            Ok(true) => self.tends_at = Instant::now() + TEND_SOON,
            Ok(false) => {}
            Err(e) => self.failed(&e),
        }
    }

    fn say(&mut self, sentence: String) {
        if self.said.as_ref() != Some(&sentence) {
            tracing::error!("{sentence}");
            self.said = Some(sentence);
        }
    }

    fn well(&mut self) {
        if self.said.take().is_some() {
            tracing::info!("the history is written again");
        }
    }
}
