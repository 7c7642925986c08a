//! The thread that tells: whoever has a notice leaves it here and goes on.
//!
//! Each message is in the spool before it is tried. Every delivery has a thread of its own for as long as it takes, one at a
//! time for each sink, so that a sink that answers slowly holds up no other. At the end hardly anything is waited for: what
//! has not been taken by then is on the disk.

use std::{
    collections::HashSet,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicU64, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    Kind, Kinds, Notice, Seconds,
    gather::{Draft, Gather, Memory, Shares, Told},
    now, sink,
    spool::{self, Failed, Pending, Spool},
};
use crate::config::{Notify, SinkEntry, Way};

/// Notices that may lie here before any is looked at.
const ROOM: usize = 1024;
/// How often the clock is looked at: no more, and no less.
const TICK: Duration = Duration::from_secs(1);
const IDLE: Duration = Duration::from_secs(60);
/// How long the end may take.
const END: Duration = Duration::from_secs(2);
/// How long deliveries under way are waited for then.
const LAST_MOMENT: Duration = Duration::from_millis(500);
/// What was told, for the next agent.
const MEMORY: &str = "notify-memory.json";
const LARGEST_MEMORY: usize = 8 << 20;

/// What became of messages and notices, by way and result.
#[derive(Debug, Default)]
pub struct Totals {
    counts: [[AtomicU64; Self::RESULTS.len()]; Way::NAMES.len()],
    /// Notices for which there was no room here.
    overflow: AtomicU64,
}

#[derive(Clone, Copy)]
enum Outcome {
    Sent,
    Failed,
    Withheld,
    Dropped,
}

impl Totals {
    /// The `result` label, in the order of [`Outcome`].
    const RESULTS: [&str; 4] = ["sent", "failed", "withheld", "dropped"];

    fn add(&self, way: usize, outcome: Outcome, count: u64) {
        self.counts[way][outcome as usize].fetch_add(count, Ordering::Relaxed);
    }

    /// Every way and result with its count.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        Way::NAMES.into_iter().zip(&self.counts).flat_map(|(way, counts)| {
            let count = move |(result, count): (&'static str, &AtomicU64)| (way, result, count.load(Ordering::Relaxed));
            Self::RESULTS.into_iter().zip(counts).map(count)
        })
    }
}

enum Order {
    Tell(Box<Notice>),
    Change(Box<Notify>),
    /// Remember these shares of the host's budgets.
    Shares(Shares),
    /// Say when all that was left before is on the disk.
    Settle(SyncSender<()>),
    /// A delivery has ended.
    Tried {
        sink: String,
        file: String,
        outcome: Result<(), String>,
    },
    Stop(SyncSender<()>),
}

/// Where notices are left.
pub struct Desk {
    orders: SyncSender<Order>,
    wanted: Arc<AtomicU16>,
    totals: Arc<Totals>,
    /// What an agent before this one had told.
    shares: Shares,
}

impl Desk {
    /// Takes up what an agent before this one has left in the state directory.
    pub fn open(config: &Notify, state: &Path, host: String) -> io::Result<Self> {
        let (orders, inbox) = mpsc::sync_channel(ROOM);
        let wanted = Arc::new(AtomicU16::new(config.wanted().bits()));
        let totals = Arc::new(Totals::default());
        let (spool, said) = Spool::open(state);
        said.iter().for_each(|line| tracing::warn!("{line}"));
        let memory = recall(state);
        let shares = memory.shares.clone();
        let clerk = Clerk {
            config: config.clone(),
            state: state.to_owned(),
            host,
            gather: Gather::new(config, memory),
            spool,
            busy: HashSet::new(),
            number: 0,
            is_remembered: true,
            totals: totals.clone(),
            orders: orders.clone(),
        };
        thread::Builder::new().name("notices".to_owned()).spawn(move || clerk.work(&inbox))?;
        Ok(Self { orders, wanted, totals, shares })
    }

    /// Whether any sink wants to be told of this.
    pub fn wants(&self, kind: Kind) -> bool {
        Kinds::from_bits(self.wanted.load(Ordering::Relaxed)).has(kind)
    }

    /// Leaves a notice. Never waits.
    pub fn tell(&self, notice: Notice) {
        if let Err(TrySendError::Full(_)) = self.orders.try_send(Order::Tell(Box::new(notice))) {
            self.totals.overflow.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The shares of the host's budgets that an agent before this one had told.
    pub fn shares(&self) -> &Shares {
        &self.shares
    }

    /// Keeps them for the next agent, once what was left before is on the disk.
    pub fn keep_shares(&self, shares: &Shares) {
        if !self.hand_in(Instant::now() + END, || Order::Shares(shares.clone())) {
            tracing::warn!("a restart may tell of the host's budgets once more: what keeps notices does not answer");
        }
    }

    /// Waits until all that was left here before is on the disk. `false` where that takes too long.
    pub fn settle(&self) -> bool {
        self.ask(Order::Settle)
    }

    /// Goes on with other sinks. What waits for one that is gone is dropped.
    pub fn change(&self, config: &Notify) {
        self.wanted.store(config.wanted().bits(), Ordering::Relaxed);
        if !self.hand_in(Instant::now() + END, || Order::Change(Box::new(config.clone()))) {
            tracing::error!("notices go on as before the reload: what tells them does not answer");
        }
    }

    /// Leaves what must not be lost. In the middle of a flood there is no room at once.
    fn hand_in(&self, end: Instant, order: impl Fn() -> Order) -> bool {
        while self.orders.try_send(order()).is_err() {
            if Instant::now() >= end {
                return false;
            }
            thread::sleep(Duration::from_millis(5));
        }
        true
    }

    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Puts all that waits on the disk, and says whether it is there. Deliveries that take longer are left to themselves; their
    /// messages are still there.
    pub fn stop(&self) -> bool {
        let stopped = self.ask(Order::Stop);
        if !stopped {
            tracing::warn!("notices that wait may not be on the disk: it takes too long");
        }
        stopped
    }

    /// Waits for the answer to an order.
    fn ask(&self, order: impl Fn(SyncSender<()>) -> Order) -> bool {
        let (done, wait) = mpsc::sync_channel(1);
        let end = Instant::now() + END;
        self.hand_in(end, || order(done.clone()))
            && wait.recv_timeout(end.saturating_duration_since(Instant::now())).is_ok()
    }
}

struct Clerk {
    config: Notify,
    state: PathBuf,
    host: String,
    gather: Gather,
    spool: Spool,
    /// Sinks that are being told something.
    busy: HashSet<String>,
    number: u32,
    /// What was told is on the disk.
    is_remembered: bool,
    totals: Arc<Totals>,
    orders: SyncSender<Order>,
}

impl Clerk {
    fn work(mut self, inbox: &Receiver<Order>) {
        // What was left for sinks that are gone since.
        self.change(self.config.clone());
        loop {
            let now = now();
            self.close(now, false);
            self.settle(now);
            self.try_due(now);
            let first = match inbox.recv_timeout(self.next_look(now)) {
                Ok(order) => order,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            for order in std::iter::once(first).chain(inbox.try_iter()) {
                match order {
                    Order::Tell(notice) => {
                        self.gather.offer(*notice, super::now());
                    }
                    Order::Change(config) => self.change(*config),
                    Order::Shares(shares) => {
                        self.gather.set_shares(shares);
                        self.is_remembered = false;
                    }
                    Order::Settle(done) => {
                        self.settle(super::now());
                        let _ = done.try_send(());
                    }
                    Order::Tried { sink, file, outcome } => self.tried(&sink, &file, outcome),
                    Order::Stop(done) => {
                        self.close(super::now(), true);
                        self.is_remembered = false;
                        self.settle(super::now());
                        self.wait_for_tried(inbox);
                        // Whoever asked may have stopped waiting.
                        let _ = done.try_send(());
                        return;
                    }
                }
            }
        }
    }

    fn sink(&self, name: &str) -> Option<&SinkEntry> {
        self.config.sinks.iter().find(|sink| sink.name == name)
    }

    fn count(&self, sink: &str, outcome: Outcome, count: u64) {
        if let Some(sink) = self.sink(sink) {
            self.totals.add(sink.way.index(), outcome, count);
        }
    }

    /// When something may be due.
    fn next_look(&self, now: Seconds) -> Duration {
        let spooled = self.spool.due_at(now, |sink| self.busy.contains(sink));
        let next = self.gather.due_at(now).into_iter().chain(spooled).min();
        next.map_or(IDLE, |at| Duration::from_secs(at.saturating_sub(now)).clamp(TICK, IDLE))
    }

    fn change(&mut self, config: Notify) {
        let old = std::mem::replace(&mut self.config, config);
        let waits: Vec<_> = old.sinks.iter().map(|sink| self.gather.waits_for(&sink.name)).collect();
        self.gather.change(&self.config);
        for (sink, waits) in old.sinks.iter().zip(waits) {
            let waiting = self.spool.len_of(&sink.name) as u64 + u64::from(waits);
            if self.sink(&sink.name).is_none() && waiting > 0 {
                self.totals.add(sink.way.index(), Outcome::Dropped, waiting);
            }
        }
        let names: HashSet<&str> = self.config.sinks.iter().map(|sink| sink.name.as_str()).collect();
        let gone = self.spool.retain(|sink| names.contains(sink));
        if gone > 0 {
            tracing::warn!(messages = gone, "notices were dropped that waited for sinks which are gone");
        }
    }

    /// Puts what is to be told now into the spool.
    fn close(&mut self, now: Seconds, force: bool) {
        let overflow = self.totals.overflow.swap(0, Ordering::Relaxed);
        if overflow > 0 {
            tracing::warn!(notices = overflow, "more notices came at once than there was room for");
            self.config.sinks.iter().for_each(|sink| self.totals.add(sink.way.index(), Outcome::Dropped, overflow));
        }
        let told = self.gather.due(now, force, &self.host, ids(&mut self.number, now));
        for Told { sink, message, next } in told {
            self.is_remembered = false;
            let (dropped, written) = self.spool.push(sink.clone(), message, now, next);
            if dropped > 0 {
                tracing::warn!(sink, dropped, "messages were dropped: too many wait for their sink");
                self.count(&sink, Outcome::Dropped, dropped as u64);
            }
            if let Err(e) = written {
                tracing::warn!(sink, "a notice cannot be kept on the disk, only told: {e}");
            }
        }
    }

    /// Puts on the disk what waits for others, and what was told; counts what was not.
    fn settle(&mut self, now: Seconds) {
        for Draft { sink, message } in self.gather.drafts(now, &self.host, ids(&mut self.number, now)) {
            if let Err(e) = self.spool.draft(&sink, message, now) {
                // It is said aloud once it is to be told, and still cannot be kept.
                tracing::debug!(sink, "what waits for others cannot be kept on the disk: {e}");
            }
        }
        let withheld: Vec<_> = self.gather.uncounted().map(|(sink, count)| (sink.to_owned(), count)).collect();
        withheld.iter().for_each(|(sink, count)| self.count(sink, Outcome::Withheld, *count));
        if !std::mem::replace(&mut self.is_remembered, true) {
            self.remember();
        }
    }

    fn try_due(&mut self, now: Seconds) {
        let hold = self.config.repeat + self.config.group_wait + Duration::from_secs(60);
        for (file, pending) in self.spool.due(now, |sink| self.busy.contains(sink)) {
            let Some(sink) = self.sink(&pending.sink).cloned() else { continue };
            let name = sink.name.clone();
            self.busy.insert(name.clone());
            let (orders, own_file) = (self.orders.clone(), file.clone());
            let deliver = move |pending: Pending| {
                let outcome = sink::deliver(&sink, &pending.message, hold);
                // Nobody is there any more only at the end.
                let _ = orders.send(Order::Tried { sink: sink.name, file: own_file, outcome });
            };
            if let Err(e) = thread::Builder::new().name("notice".to_owned()).spawn(move || deliver(pending)) {
                self.tried(&name, &file, Err(format!("there is no thread for it: {e}")));
            }
        }
    }

    fn tried(&mut self, sink: &str, file: &str, outcome: Result<(), String>) {
        self.busy.remove(sink);
        // What is counted is on the disk and in the log already.
        let Err(why) = outcome else {
            self.spool.delivered(file);
            tracing::debug!(sink, "a notice was taken");
            return self.count(sink, Outcome::Sent, 1);
        };
        match self.spool.failed(file, now()) {
            Some(Failed::GivenUp) => {
                tracing::error!(sink, "a notice is given up after a day: {why}");
                self.count(sink, Outcome::Dropped, 1);
            }
            Some(Failed::Again) => tracing::warn!(sink, "a notice was not taken and will be tried again: {why}"),
            None => {}
        }
        self.count(sink, Outcome::Failed, 1);
    }

    /// What is being delivered and is taken in this moment need not be told again by the next agent.
    fn wait_for_tried(&mut self, inbox: &Receiver<Order>) {
        let end = Instant::now() + LAST_MOMENT;
        while !self.busy.is_empty() {
            match inbox.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(Order::Tried { sink, file, outcome }) => self.tried(&sink, &file, outcome),
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }

    /// Keeps what was told, so that a restart does not tell it again.
    fn remember(&self) {
        let written = serde_json::to_vec(self.gather.memory()).map_err(io::Error::from);
        if let Err(e) = written.and_then(|text| spool::replace(&self.state, MEMORY, &text)) {
            tracing::warn!("{} cannot be written: {e}", self.state.join(MEMORY).display());
        }
    }
}

/// Ids of messages, which no other of this host has.
fn ids(number: &mut u32, now: Seconds) -> impl FnMut() -> String {
    let process = std::process::id();
    move || {
        *number = number.wrapping_add(1);
        format!("{now:x}-{process:x}-{number:x}")
    }
}

/// What an agent before this one had told. Without it, it may be told once more.
fn recall(state: &Path) -> Memory {
    let path = state.join(MEMORY);
    let text = match spool::read(&path, LARGEST_MEMORY) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Memory::default(),
        read => read.map_err(|e| e.to_string()),
    };
    text.and_then(|text| serde_json::from_slice(&text).map_err(|e| e.to_string())).unwrap_or_else(|why| {
        tracing::warn!("{} says nothing and will be replaced: {why}", path.display());
        Memory::default()
    })
}

#[cfg(test)]
mod tests;
