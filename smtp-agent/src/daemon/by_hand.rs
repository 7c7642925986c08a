//! What is said by hand, in force: first in the file, then in the kernel. And its life there: what lapses makes room for
//! what it stood before, and a wall clock that is set moves all times.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use smtp_common::{
    connection::Account,
    level::{ByHand, holds},
};

use super::{
    reload::{self, Cause, require_gate},
    shared::Shared,
};
use crate::{
    accounts::{database::user_name, naming::Naming},
    by_hand::{self, By, Clock, Entry, Says, Store, Subject, Time, store::MOST},
    config::{Config, Name, Pattern, parse_name},
    exit::{Failure, Result},
    kernel::{
        cgroup::Hierarchy,
        cgroup_tree::Tree,
        maps::Maps,
        pins::{Pins, State},
        sys::boot_nanos,
    },
    policy::{self, Said},
};

mod orders;

pub use orders::{release, say};

/// How long after the kernel could not be told it is told again.
const RETRY: Duration = Duration::from_secs(15);

/// Both clocks now.
pub fn clock() -> Clock {
    Clock::new(Time::now(), boot_nanos())
}

/// What is said, and the clock by which the kernel was told.
pub struct Kept {
    store: Store,
    clock: Clock,
}

impl Kept {
    /// Reads the file. Where it cannot be read, what the gate that stands holds takes its place.
    pub fn open(config: &Config, pins: &Pins) -> Self {
        let clock = clock();
        let (store, corrupt) = Store::open(&config.paths.state, Time::now());
        let mut kept = Self { store, clock };
        if let Some(corrupt) = corrupt {
            let path = kept.store.path();
            let recovered = recover(config, pins, clock).unwrap_or_else(|e| {
                tracing::warn!("what was said by hand cannot be read back from the gate: {e}");
                Vec::new()
            });
            let aside =
                corrupt.moved_to.map_or_else(|e| format!("cannot be moved aside ({e})"), |to| format!("is {to:?} now"));
            tracing::error!(
                recovered = recovered.len(),
                "what was said by hand cannot be read: {path:?}: {}; the file {aside}. What the gate holds of it stays in \
                 force, without its reasons: see `smtp-agent block --list`",
                corrupt.why
            );
            if let Err(e) = kept.store.replace(recovered.clone()) {
                tracing::error!("{path:?} cannot be written: {e}");
                kept.store.replace_in_memory(recovered);
            }
        }
        kept
    }

    /// What the policy of an agent that starts has of it. Names of containers are known beside the pins.
    pub fn at_start(&self, config: &Config, pins: &Pins) -> Result<Vec<Said>> {
        let entries = self.holding();
        let containers = match gate(pins)? {
            Some(maps) if names_containers(&entries) => {
                containers(&maps, &Naming::new(Hierarchy::find(&config.cgroup).ok()))?
            }
            _ => Vec::new(),
        };
        Ok(by_hand::for_policy(&entries, self.clock, called(&containers)))
    }

    /// What holds now; the later of two for the same speaks.
    pub fn holding(&self) -> Vec<Entry> {
        let now = Time::now();
        self.store.entries().iter().filter(|entry| entry.holds(now)).cloned().collect()
    }
}

/// The maps of a gate that stands.
fn gate(pins: &Pins) -> Result<Option<Maps>> {
    match pins.state() {
        Ok(State::Ours) => Maps::open(pins).map(Some),
        // Whoever loads the gate says what is wrong with them.
        _ => Ok(None),
    }
}

/// What a gate holds, each account and cgroup for itself: of groups and patterns it knows nothing.
fn recover(config: &Config, pins: &Pins, clock: Clock) -> Result<Vec<Entry>> {
    let Some(maps) = gate(pins)? else { return Ok(Vec::new()) };
    let hierarchy = Hierarchy::find(&config.cgroup).ok();
    let naming = Naming::new(hierarchy.clone());
    let (now, since) = (boot_nanos(), Time::now());
    let entry = |whom: Option<Subject>, hand: ByHand| {
        let says = if hand.blocked == 0 { Says::Allowed } else { Says::Blocked };
        let until = (hand.until != 0).then(|| clock.wall(hand.until));
        let reason = Some("recovered from the gate".to_owned());
        let by = By { uid: nix::unistd::geteuid().as_raw(), user: None };
        holds(hand.until, now).then_some(Entry { whom: whom?, says, since, until, reason, by })
    };
    let mut all: Vec<Entry> = maps
        .said_by_hand()?
        .into_iter()
        .filter_map(|(account, hand)| entry(subject(account, &maps, &naming), hand))
        .collect();
    let of_cgroups = maps.said_of_cgroups()?;
    if let Some(hierarchy) = hierarchy.filter(|_| !of_cgroups.is_empty()) {
        let paths: HashMap<_, _> =
            Tree::of(&hierarchy).all().into_iter().map(|(cgroup, path)| ((cgroup.v1, cgroup.id), path)).collect();
        let pattern = |path: &String| Pattern::exact(path).map(Subject::Cgroup);
        let found = of_cgroups
            .into_iter()
            .filter_map(|(cgroup, hand)| entry(paths.get(&(cgroup.v1, cgroup.id)).and_then(pattern), hand));
        all.extend(found);
    }
    all.truncate(MOST);
    Ok(all)
}

fn subject(account: Account, maps: &Maps, naming: &Naming) -> Option<Subject> {
    match account.uid() {
        Some(uid) => {
            let name = user_name(uid).and_then(|name| parse_name(&name).ok());
            Some(Subject::User(name.unwrap_or(Name::Id(uid))))
        }
        None => Subject::container(&naming.label(account, maps)).ok(),
    }
}

/// Every container that was seen, with what tables call it.
fn containers(maps: &Maps, naming: &Naming) -> Result<Vec<(Account, String)>> {
    let mut all: Vec<Account> = maps.accounts()?.into_iter().map(|(account, _)| account).collect();
    all.extend(maps.named()?);
    all.retain(|account| account.is_container());
    all.sort_unstable();
    all.dedup();
    Ok(all.into_iter().map(|account| (account, naming.label(account, maps))).collect())
}

fn names_containers(entries: &[Entry]) -> bool {
    entries.iter().any(|entry| matches!(entry.whom, Subject::Container(_)))
}

/// The accounts of the containers that are called so.
fn called(containers: &[(Account, String)]) -> impl Fn(&str) -> Vec<Account> {
    move |name| {
        let is = |label: &String| label.strip_prefix("container:") == Some(name);
        containers.iter().filter(|(_, label)| is(label)).map(|(account, _)| *account).collect()
    }
}

/// What the policy has of it now.
pub fn said(shared: &Shared) -> Result<Vec<Said>> {
    let (entries, clock) = {
        let kept = shared.said();
        (kept.holding(), kept.clock)
    };
    let containers = if names_containers(&entries) { containers(&shared.maps(), &shared.naming)? } else { Vec::new() };
    Ok(by_hand::for_policy(&entries, clock, called(&containers)))
}

/// Tells the kernel what is said. What is said of cgroups is part of the policy, the rest has a map of its own.
async fn tell_kernel(shared: &Shared, current: &mut Config, cgroups: bool) -> Result<()> {
    if cgroups {
        return reload::install(shared, current, Cause::ByHand).await.map(drop);
    }
    tokio::task::block_in_place(|| {
        require_gate(shared)?;
        let said = policy::by_hand(&reload::users()?, &said(shared)?);
        shared.maps_mut().set_by_hand(&said)
    })
}

/// Puts others in the place of what is said. What this acknowledges is on the disk and in the kernel; what it does not
/// acknowledge is in neither, or its sentence says so.
async fn put(shared: &Shared, current: &mut Config, new: Vec<Entry>, cgroups: bool) -> Result<()> {
    let old = shared.said().store.entries().to_vec();
    let path = shared.said().store.path();
    tokio::task::block_in_place(|| shared.said().store.replace(new))
        .map_err(|e| Failure::from_io(&e, format!("{path:?} cannot be written, so nothing has changed")))?;
    let Err(told) = tell_kernel(shared, current, cgroups).await else { return Ok(()) };
    let undone = tokio::task::block_in_place(|| shared.said().store.replace(old.clone()));
    let rest = match undone {
        Ok(()) => "nothing has changed".to_owned(),
        Err(e) => {
            shared.said().store.replace_in_memory(old);
            format!("it is still in {path:?}, which cannot be written ({e}), and would hold from the next start")
        }
    };
    // Half of it may have been told.
    if let Err(e) = tell_kernel(shared, current, cgroups).await {
        tracing::error!("what was said by hand before cannot be put back in force: {e}");
    }
    Err(Failure::new(told.code, format!("the gate does not take it: {}; {rest}", told.message)))
}

/// What is to be done because time goes on.
#[derive(Default, Clone, Copy)]
struct Due {
    accounts: bool,
    cgroups: bool,
}

/// Keeps the kernel told: of what lies behind what has lapsed, of times after the wall clock was set, of containers that
/// have just got their name.
pub async fn keep(shared: Arc<Shared>) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    let mut failed: Option<(Due, Instant)> = None;
    loop {
        let mut due = Due::default();
        tokio::select! {
            _ = tick.tick() => {}
            () = shared.named.notified() => due.accounts = names_containers(&shared.said().holding()),
        }
        if !due.accounts && failed.is_none() && !is_due(&shared) {
            continue;
        }
        let mut current = shared.config.lock().await;
        pass(&shared, &mut due);
        if let Some((before, at)) = failed {
            let again = at.elapsed() >= RETRY;
            due.accounts |= before.accounts && again;
            due.cgroups |= before.cgroups && again;
        }
        if !due.accounts && !due.cgroups {
            continue;
        }
        failed = match tell_kernel(&shared, &mut current, due.cgroups).await {
            Ok(()) => None,
            Err(e) => {
                tracing::error!(
                    "what is said by hand cannot be kept current in the gate, where it lapses all the same: {e}"
                );
                Some((due, Instant::now()))
            }
        };
    }
}

fn is_due(shared: &Shared) -> bool {
    let kept = shared.said();
    let now = Time::now();
    clock().has_jumped(kept.clock) || kept.store.entries().iter().any(|entry| !entry.holds(now))
}

/// Takes out what has lapsed, and the wall clock as it is now.
fn pass(shared: &Shared, due: &mut Due) {
    let mut kept = shared.said();
    let of_cgroup = |entry: &Entry| matches!(entry.whom, Subject::Cgroup(_));
    let clock = clock();
    if clock.has_jumped(kept.clock) {
        kept.clock = clock;
        due.cgroups |= kept.store.entries().iter().any(of_cgroup);
        due.accounts |= !kept.store.entries().is_empty();
        if due.accounts {
            tracing::info!("the wall clock was set: what is said by hand lapses by its new time");
        }
    }
    let now = Time::now();
    let (holding, lapsed): (Vec<_>, Vec<_>) =
        kept.store.entries().to_vec().into_iter().partition(|entry| entry.holds(now));
    if lapsed.is_empty() {
        return;
    }
    for entry in &lapsed {
        due.accounts = true;
        due.cgroups |= of_cgroup(entry);
        tracing::info!(whom = %entry.whom, said = entry.says.name(), "what was said by hand has lapsed");
    }
    if let Err(e) = tokio::task::block_in_place(|| kept.store.replace(holding.clone())) {
        // Whoever reads the file passes over what has lapsed.
        tracing::warn!("{:?} cannot be written: {e}", kept.store.path());
        kept.store.replace_in_memory(holding);
    }
}
