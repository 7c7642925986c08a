//! From the rings of the gate to whoever listens: connections as they are decided, sessions as they end.

use std::{
    sync::{Arc, atomic::Ordering},
    time::SystemTime,
};

use smtp_common::{
    counter::Verdict,
    event::ConnectEvent,
    session::{SessionEvent, what},
};
use tokio::sync::{Mutex, mpsc, oneshot};

use super::{history, notices::culprit_of_stop, shared::Shared};
use crate::{
    attribution::Attempt,
    control,
    exit::{Failure, Result},
    kernel::{
        destroy::destroy,
        pins::Pins,
        portraits::{Portraits, Remembered},
        ring::Events,
        sys::boot_nanos,
    },
    stream::{
        Line, date,
        process::Process,
        session::{End, Stop},
        story::Story,
    },
};

/// Batches of sessions that may wait to be told of. Where there are more the ring fills, and what it has no room for is counted.
const BACKLOG: usize = 16;

/// What the kernel tells of processes.
pub struct Witness {
    portraits: Portraits,
    remembered: Remembered,
}

impl Witness {
    pub fn open(pins: &Pins) -> Result<Self> {
        Ok(Self { portraits: Portraits::open(pins)?, remembered: Remembered::open(pins)? })
    }
}

/// Somebody waits until all connections so far are told of.
pub type Awaited = oneshot::Sender<()>;

/// Reads the ring of connections and passes each on to whoever listens.
pub async fn connections(
    shared: Arc<Shared>,
    mut events: Events<ConnectEvent>,
    mut witness: Witness,
    mut awaited: mpsc::Receiver<Awaited>,
) -> Result<()> {
    loop {
        let mut batch = Vec::new();
        let waits = tokio::select! {
            read = events.read(|event| batch.push(event)) => {
                read.map_err(|e| Failure::from_io(&e, "the events cannot be read"))?;
                None
            }
            Some(waits) = awaited.recv() => {
                events.drain(|event| batch.push(event));
                Some(waits)
            }
        };
        shared.status.events.fetch_add(batch.len() as u64, Ordering::Relaxed);
        witness.portraits.take_in();
        for event in batch {
            let portrait = witness.portraits.of(&event);
            let heard = shared.events.receiver_count() > 0;
            let (kept, shown) = (shared.history.is_on(), shared.page.listens());
            let unnamed = shared.naming.is_new(event.account, &shared.maps());
            let told = shared.notices.of_connect(&event);
            let wanted = heard || kept || shown || told.is_some();
            if !wanted && !unnamed {
                continue;
            }
            let cgroup = shared.naming.cgroup_path(event.cgroup).filter(|path| path != "/");
            // On hybrid hosts the v2 path says nothing, and systemd's v1 path is not in the portrait.
            let mut process = match portrait {
                Some(_) if cgroup.is_some() && !unnamed => Process::default(),
                _ => Process::read(event.tgid, event.time),
            };
            process.command = shared.attributor.masked(process.command);
            if unnamed && let Err(e) = name_container(&shared, &event, process.cgroup.as_deref()) {
                tracing::warn!("a container's name cannot be kept: {e}");
            }
            if unnamed {
                shared.named.notify_one();
            }
            if !wanted {
                continue;
            }
            let account = shared.naming.label(event.account, &shared.maps());
            let cgroup = cgroup.or(process.cgroup.clone());
            let (boot_now, now) = (boot_nanos(), SystemTime::now());
            let attempt = Attempt {
                event: &event,
                portrait: portrait.as_deref(),
                cgroup: cgroup.as_deref(),
                user_name: &|uid| shared.naming.user(uid),
                date: &|time| date(time, boot_now, now),
            };
            let culprit = tokio::task::block_in_place(|| shared.attributor.tell(&attempt, &witness.remembered));
            let culprit = Box::new(culprit);
            let story = Story::tell(&event, account, process, cgroup, culprit, boot_now, now);
            if let Some(kind) = told {
                shared.notices.connect(kind, &event, &story, (*story.culprit).clone(), &shared.maps());
            }
            history::connect(&shared, &event, &story);
            let line = Line::Connect(story);
            if shown {
                shared.page.keep(&line);
            }
            if heard {
                control::publish(&shared, &line);
            }
        }
        if let Some(waits) = waits {
            // Whoever it was may have stopped waiting.
            let _ = waits.send(());
        }
        // In a flood there is always something to read: others get their turn, and so does the end of the agent.
        tokio::task::yield_now().await;
    }
}

/// What was read of sessions, and whether the agent has ended their connections.
type Read = Vec<(bool, SessionEvent)>;

/// Reads the ring of sessions, ends connections that may not go on, and leaves the rest to [`stories`].
pub async fn sessions(
    shared: Arc<Shared>,
    mut events: Events<SessionEvent>,
    to_tell: mpsc::Sender<Read>,
) -> Result<()> {
    loop {
        let mut batch = Vec::new();
        let read = events.read(|event| batch.push(event)).await;
        read.map_err(|e| Failure::from_io(&e, "the events of sessions cannot be read"))?;
        shared.status.session_events.fetch_add(batch.len() as u64, Ordering::Relaxed);
        // First of all: whoever kills the agent in the middle of the stories finds no connection that is only held.
        let stopped = |event: &SessionEvent| event.what == what::STOP && event.verdict == Verdict::Refused as u8;
        let batch = batch.into_iter().map(|event| (stopped(&event) && end(&event), event)).collect();
        if to_tell.send(batch).await.is_err() {
            // The agent ends.
            return Ok(());
        }
        tokio::task::yield_now().await;
    }
}

/// Sessions that were read and are not told of yet.
pub struct Untold {
    read: mpsc::Receiver<Read>,
    at_hand: Read,
}

impl Untold {
    /// With the place to leave them at.
    pub fn new() -> (mpsc::Sender<Read>, Self) {
        let (to_tell, read) = mpsc::channel(BACKLOG);
        (to_tell, Self { read, at_hand: Read::new() })
    }

    fn tell_at_hand(&mut self, shared: &Shared) {
        std::mem::take(&mut self.at_hand).into_iter().for_each(|(ended, event)| tell(shared, ended, &event));
    }

    /// When the agent ends: what was taken from the ring no other agent finds there.
    pub fn tell_all(&mut self, shared: &Shared) {
        self.tell_at_hand(shared);
        while let Ok(batch) = self.read.try_recv() {
            self.at_hand = batch;
            self.tell_at_hand(shared);
        }
    }
}

/// Tells whoever listens of sessions. The connections they are of come first, with who is behind them: a conversation can be
/// over before that is found out.
pub async fn stories(
    shared: Arc<Shared>,
    untold: Arc<Mutex<Untold>>,
    connections: mpsc::Sender<Awaited>,
) -> Result<()> {
    let mut untold = untold.lock().await;
    while let Some(batch) = untold.read.recv().await {
        untold.at_hand = batch;
        let (waits, told) = oneshot::channel();
        if connections.send(waits).await.is_ok() {
            // The agent ends where nobody answers.
            let _ = told.await;
        }
        untold.tell_at_hand(&shared);
    }
    Ok(())
}

fn tell(shared: &Shared, ended: bool, event: &SessionEvent) {
    let heard = shared.events.receiver_count() > 0;
    let is_stop = event.what == what::STOP;
    let told = is_stop.then(|| shared.notices.of_stop(event)).flatten();
    let shown = is_stop && shared.page.listens();
    if !heard && !shared.history.is_on() && !shown && told.is_none() {
        return;
    }
    let account = shared.naming.label(event.account, &shared.maps());
    let (boot_now, now) = (boot_nanos(), SystemTime::now());
    let line = if is_stop {
        let mut process = Process::read(event.tgid, event.since);
        process.command = shared.attributor.masked(process.command);
        history::stop(shared, event, &account, &process);
        let stop = Stop::tell(event, account, process, ended, boot_now, now);
        if let Some(kind) = told {
            let known = history::culprit(shared, event).map(|culprit| (*culprit).clone());
            let culprit = known.unwrap_or_else(|| culprit_of_stop(&stop));
            shared.notices.stop_of(kind, event, &stop, culprit, &shared.maps());
        }
        Line::Stop(stop)
    } else {
        history::session(shared, event, &account);
        Line::Session(End::tell(event, account, boot_now, now))
    };
    if shown {
        shared.page.keep(&line);
    }
    if heard {
        control::publish(shared, &line);
    }
}

/// Ends the connection of a session that was stopped. Should that fail, the gate goes on holding back what is sent.
fn end(event: &SessionEvent) -> bool {
    match tokio::task::block_in_place(|| destroy(event)) {
        Ok(()) => true,
        // It has ended by itself.
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => true,
        Err(e) => {
            tracing::warn!(tgid = event.tgid, "a connection cannot be ended, only held: {e}");
            false
        }
    }
}

/// Finds out what a container is called and keeps it. A container that was there before, and was only started
/// anew, goes on with the account and the windows it had: a restart is no way to a fresh limit.
fn name_container(shared: &Shared, event: &ConnectEvent, proc_cgroup: Option<&str>) -> Result<()> {
    let Some((name, identity)) = shared.naming.find(event.account, proc_cgroup) else { return Ok(()) };
    let mut maps = shared.maps_mut();
    let before = maps.account_identified(identity)?;
    maps.set_name(event.account, &name, identity)?;
    if let Some(before) = before.filter(|before| *before != event.account) {
        maps.charge_namespace_to(event.netns, before)?;
        tracing::debug!(container = name, "started anew, charged as before");
    }
    Ok(())
}
