//! What the tasks of one agent share.

use std::{
    path::PathBuf,
    sync::{
        Arc, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use tokio::sync::{Mutex, Notify, broadcast};

use super::{by_hand::Kept, following::Following, history::Keeper, notices::Notices};
use crate::{
    accounts::naming::Naming,
    attribution::{Attributor, mask::Mask},
    config::Config,
    control::{audit::Audit, rights::Rights},
    kernel::{cgroup::Hierarchy, gate::Gate, maps::Maps, pins::Pins},
    page::Page,
    policy::limits::Moment,
};

/// Events a slow listener may lag behind before it loses some.
const LISTENER_BACKLOG: usize = 4096;

const MINUTES_PER_DAY: u32 = 24 * 60;

pub struct Shared {
    pub config_path: PathBuf,
    pub pins: Pins,
    pub naming: Naming,
    pub attributor: Attributor,
    pub status: Status,
    /// Each event as one line of JSON.
    pub events: broadcast::Sender<Arc<str>>,
    /// The configuration in force. Held over a whole reload, so that two never mix.
    pub config: Mutex<Config>,
    /// The loaded programs, and where they hang: those that follow sessions come and go with the policy.
    pub gate: Mutex<(Gate, Hierarchy)>,
    /// What holds for cgroups that come and go.
    pub following: Mutex<Following>,
    /// A container was named: it may be one of which something was said.
    pub named: Notify,
    pub rights: Rights,
    pub audit: Audit,
    pub notices: Notices,
    pub history: Keeper,
    pub page: Page,
    said: std::sync::Mutex<Kept>,
    /// A policy has taken the place of another, whose remains are still in the maps.
    pub replaced: Notify,
    maps: RwLock<Maps>,
}

/// What an agent begins with.
pub struct Parts {
    pub gate: Gate,
    pub hierarchy: Hierarchy,
    pub naming: Naming,
    pub config: Config,
    pub maps: Maps,
    pub following: Following,
    pub rights: Rights,
    pub said: Kept,
    pub notices: Notices,
    pub history: Keeper,
}

/// What the metrics tell of the agent itself.
#[derive(Default)]
pub struct Status {
    pub ready: AtomicBool,
    pub reload_success: AtomicBool,
    /// Seconds since the epoch.
    pub reload_success_at: AtomicU64,
    pub unresolved: AtomicUsize,
    pub max_users: AtomicUsize,
    /// Events read: of connections, and of sessions.
    pub events: AtomicU64,
    pub session_events: AtomicU64,
    pub events_lost_to_slow_listeners: AtomicU64,
    /// Minutes since Monday, 0:00: the moment the policy in force was compiled for.
    compiled_for: AtomicU32,
}

impl Status {
    pub fn reloaded(&self, unresolved: usize, max_users: usize, moment: Moment) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        self.reload_success.store(true, Ordering::Relaxed);
        self.reload_success_at.store(now, Ordering::Relaxed);
        self.unresolved.store(unresolved, Ordering::Relaxed);
        self.max_users.store(max_users, Ordering::Relaxed);
        let minutes = moment.weekday as u32 * MINUTES_PER_DAY + moment.minute as u32;
        self.compiled_for.store(minutes, Ordering::Relaxed);
    }

    pub fn compiled_for(&self) -> Moment {
        let minutes = self.compiled_for.load(Ordering::Relaxed);
        Moment { weekday: (minutes / MINUTES_PER_DAY) as u8, minute: (minutes % MINUTES_PER_DAY) as u16 }
    }
}

impl Shared {
    pub fn new(config_path: PathBuf, parts: Parts) -> Self {
        Self {
            config_path,
            pins: parts.gate.pins().clone(),
            naming: parts.naming,
            attributor: Attributor::new(Mask::of(&parts.config.attribution)),
            named: Notify::new(),
            rights: parts.rights,
            history: parts.history,
            audit: Audit::new(&parts.config.paths.state),
            notices: parts.notices,
            page: Page::new(parts.config.page.clone()),
            said: std::sync::Mutex::new(parts.said),
            status: Status::default(),
            events: broadcast::channel(LISTENER_BACKLOG).0,
            config: Mutex::new(parts.config),
            gate: Mutex::new((parts.gate, parts.hierarchy)),
            following: Mutex::new(parts.following),
            replaced: Notify::new(),
            maps: RwLock::new(parts.maps),
        }
    }

    /// What is said by hand. Changed only while the configuration is held.
    pub fn said(&self) -> MutexGuard<'_, Kept> {
        self.said.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// A reader that panicked has left nothing half-done in a map.
    pub fn maps(&self) -> RwLockReadGuard<'_, Maps> {
        self.maps.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub fn maps_mut(&self) -> RwLockWriteGuard<'_, Maps> {
        self.maps.write().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
