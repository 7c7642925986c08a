//! What must be noticed while the agent runs: new names, new addresses, a gate that was taken away.

use std::{
    collections::HashSet,
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant, SystemTime},
};

use smtp_common::{
    counter::Verdict,
    event::ConnectEvent,
    session::{SessionEvent, what},
};

use super::{
    history,
    notices::culprit_of_stop,
    reload::{Cause, reload},
    shared::Shared,
};
use crate::{
    attribution::Attempt,
    control,
    exit::Result,
    kernel::{
        addresses,
        binaries::binaries,
        destroy::destroy,
        gate,
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

/// Files that say which uid a name is. Programs replace them by renaming, which a watch on the file misses and
/// a look at it each second does not.
const NAME_FILES: [&str; 3] = ["/etc/passwd", "/etc/group", "/etc/subuid"];

/// How long after names could not be read they are tried again, should nothing change before.
const RETRY: Duration = Duration::from_secs(15);

/// Device, inode, time of change and size of each file; `None` for one that is not there.
pub(super) type Seen = Vec<Option<(u64, u64, i64, i64, u64)>>;

pub(super) fn look(files: &[impl AsRef<Path>]) -> Seen {
    let identity = |m: fs::Metadata| (m.dev(), m.ino(), m.mtime(), m.mtime_nsec(), m.size());
    files.iter().map(|path| fs::metadata(path).ok().map(identity)).collect()
}

/// Installs the policy anew when names have changed. `since` is how the files looked before the policy in force
/// was compiled.
pub async fn names(shared: Arc<Shared>, mut since: NamesSeen) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    let mut failed: Option<Instant> = None;
    loop {
        tick.tick().await;
        let now = look(&NAME_FILES);
        if now != since.0 || failed.is_some_and(|at| at.elapsed() >= RETRY) {
            since.0 = now;
            // What went wrong is logged and counted there.
            failed = reload(&shared, Cause::Names).await.err().map(|_| Instant::now());
        }
    }
}

/// How the files of names look.
pub struct NamesSeen(Seen);

impl NamesSeen {
    pub fn now() -> Self {
        Self(look(&NAME_FILES))
    }
}

/// Keeps the set of sendmail-compatible programs that of the files at their paths: an upgrade puts others there.
pub async fn programs(shared: Arc<Shared>) -> Result<()> {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    let mut known = None;
    loop {
        tick.tick().await;
        let paths = shared.config.lock().await.sendmail.clone();
        let seen = look(&paths);
        // The kernel's idea of a file costs a look through every mount.
        if known.as_ref() != Some(&seen) {
            shared.maps_mut().set_sendmail(&binaries(&paths))?;
            known = Some(seen);
        }
    }
}

/// Keeps the set of local addresses that of the host.
pub async fn addresses(shared: Arc<Shared>, mut watch: addresses::Watch) -> Result<()> {
    loop {
        watch.changed().await?;
        let current: HashSet<_> = watch.current().await?;
        tell_left_out(shared.maps_mut().set_local(&current)?);
        tracing::debug!(addresses = current.len(), "the host's addresses have changed");
    }
}

pub(super) fn tell_left_out(addresses: usize) {
    if addresses > 0 {
        tracing::error!(
            addresses,
            "this host has more addresses than the gate has room for: the others count as remote"
        );
    }
}

/// Notices when somebody detaches the gate under a running agent.
pub async fn gate(shared: Arc<Shared>) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    let mut stood = true;
    loop {
        tick.tick().await;
        let stands = gate::stands(&shared.pins);
        if stood && !stands {
            tracing::error!(
                "the gate was detached: SMTP connections are neither limited nor counted until smtp-agent is started again"
            );
        }
        stood = stands;
        shared.status.ready.store(stands, Ordering::Relaxed);
    }
}

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

/// Reads the ring and passes each event on to whoever listens.
pub async fn events(shared: Arc<Shared>, mut events: Events<ConnectEvent>, mut witness: Witness) -> Result<()> {
    loop {
        let mut batch = Vec::new();
        let read = events.read(|event| batch.push(event)).await;
        read.map_err(|e| crate::exit::Failure::from_io(&e, "the events cannot be read"))?;
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
        // In a flood there is always something to read: others get their turn, and so does the end of the agent.
        tokio::task::yield_now().await;
    }
}

/// Reads the ring of sessions: ends connections that may not go on, and tells whoever listens.
pub async fn sessions(shared: Arc<Shared>, mut events: Events<SessionEvent>) -> Result<()> {
    loop {
        let mut batch = Vec::new();
        let read = events.read(|event| batch.push(event)).await;
        read.map_err(|e| crate::exit::Failure::from_io(&e, "the events of sessions cannot be read"))?;
        shared.status.session_events.fetch_add(batch.len() as u64, Ordering::Relaxed);
        // First of all: whoever kills the agent in the middle of the stories finds no connection that is only held.
        let stopped = |event: &SessionEvent| event.what == what::STOP && event.verdict == Verdict::Refused as u8;
        let batch: Vec<_> = batch.into_iter().map(|event| (stopped(&event) && end(&event), event)).collect();
        for (ended, event) in batch {
            let heard = shared.events.receiver_count() > 0;
            let is_stop = event.what == what::STOP;
            let told = is_stop.then(|| shared.notices.of_stop(&event)).flatten();
            let shown = is_stop && shared.page.listens();
            if !heard && !shared.history.is_on() && !shown && told.is_none() {
                continue;
            }
            let account = shared.naming.label(event.account, &shared.maps());
            let (boot_now, now) = (boot_nanos(), SystemTime::now());
            let line = if is_stop {
                let mut process = Process::read(event.tgid, event.since);
                process.command = shared.attributor.masked(process.command);
                history::stop(&shared, &event, &account, &process);
                let stop = Stop::tell(&event, account, process, ended, boot_now, now);
                if let Some(kind) = told {
                    let known = history::culprit(&shared, &event).map(|culprit| (*culprit).clone());
                    let culprit = known.unwrap_or_else(|| culprit_of_stop(&stop));
                    shared.notices.stop_of(kind, &event, &stop, culprit, &shared.maps());
                }
                Line::Stop(stop)
            } else {
                history::session(&shared, &event, &account);
                Line::Session(End::tell(&event, account, boot_now, now))
            };
            if shown {
                shared.page.keep(&line);
            }
            if heard {
                control::publish(&shared, &line);
            }
        }
        tokio::task::yield_now().await;
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
