//! What must be noticed while the agent runs: new names, new addresses, a gate that was taken away.

use std::{
    collections::HashSet,
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use super::{
    reload::{Cause, reload},
    shared::Shared,
};
use crate::{
    exit::Result,
    kernel::{addresses, binaries::binaries, gate},
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
