//! Over a reboot: windows, counters and tripped brakes go on by the wall clock where the boot before left them.
//!
//! They are saved each minute and at the end. Only a fresh gate of another boot gets them back: `detach` forgets on purpose.
//!
//! Containers have other numbers after a boot. They are saved with what they are known by, their cgroup's path or their
//! namespace's name. One whose cgroup is there gets back what it had under its new number. What another had is put under a
//! number that no container ever gets: when it turns up and is named, its namespace is charged to that account, as it is
//! with one that was only started anew. So nothing is put back into windows that are charged at the same time.

use std::{
    collections::{HashMap, HashSet},
    fs,
};

use smtp_common::{
    connection::{Account, kind},
    counter::CounterKey,
    names::Tripped,
    rule::plan_hash,
    tally::{TallyKey, family},
    window::{Span, Window, WindowKey, Windows},
};

use crate::{
    accounts::{
        label::printable,
        naming::{Naming, identity_of_cgroup},
    },
    config::Config,
    exit::Result,
    kernel::{
        cgroup::Hierarchy,
        cgroup_tree::Tree,
        maps::{Begin, Maps},
        sys::boot_nanos,
    },
    store::{
        CounterId, Millis, now,
        record::{self, what},
        saved::{self, Saved},
    },
};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const NANOS: i64 = 1_000_000;

/// Set in the number of a container that is not there. Numbers of cgroups have 32 bits and a generation above them
/// (`__kernfs_new_node`), cookies of namespaces count up from 1 (`gen_cookie_next`): neither ever comes here.
const AWAITED: u64 = 1 << 63;

/// What tells one boot from another.
fn boot_id() -> Option<String> {
    Some(fs::read_to_string(BOOT_ID).ok()?.trim().to_owned()).filter(|id| !id.is_empty())
}

/// Whether an account has the same number after a reboot.
fn lasts(of: u32) -> bool {
    !matches!(of, kind::CGROUP | kind::NETNS)
}

/// What a container is known by in any boot, as far as anybody has found out.
fn container(maps: &Maps, naming: &Naming, account: Account) -> Option<record::Container> {
    // One that has not been told of may still be there. (To find a namespace's name takes too long for each time.)
    let found = || (account.kind == kind::CGROUP).then(|| naming.find(account, None)).flatten();
    let (name, identity) = maps.identified(account).or_else(found)?;
    Some(record::Container { kind: account.kind, id: account.id, identity, name })
}

/// The windows and brakes as they stand, by the wall clock.
pub fn windows(maps: &Maps, naming: &Naming) -> Result<Option<record::Windows>> {
    let Some(boot) = boot_id() else { return Ok(None) };
    let seen: Vec<Account> = maps.accounts()?.into_iter().map(|(account, _)| account).collect();
    let (charged, brakes) = (maps.all_windows()?, maps.all_brakes()?);
    let (wall_now, boot_now) = (now(), boot_nanos());

    let with_more = charged.iter().map(|(key, _)| key.scope).chain(brakes.iter().map(|(account, _)| *account));
    let mut known = HashSet::new();
    let mut containers = Vec::new();
    for account in seen.iter().copied().chain(with_more) {
        if known.insert(account) && !lasts(account.kind) {
            containers.extend(container(maps, naming, account));
        }
    }
    known.retain(|account| lasts(account.kind));
    known.extend(containers.iter().map(|container| Account::new(container.kind, container.id)));

    let mut windows = Vec::new();
    for (key, both) in charged.into_iter().filter(|(key, _)| known.contains(&key.scope)) {
        for span in Span::ALL {
            let mut charges = Vec::new();
            both.of(span).charges(span, boot_now, |last, count| {
                charges.push((wall(last, boot_now, wall_now), count));
            });
            let (kind, id) = (key.scope.kind, key.scope.id);
            windows.push(record::Window { kind, id, lane: key.lane, span: span as u32, charges });
        }
    }
    let brake = |(account, tripped): (Account, Tripped)| record::Brake {
        kind: account.kind,
        id: account.id,
        // Rounded up, so that no reboot lets it go earlier.
        at: wall(tripped.at as i64, boot_now, wall_now) + 1,
        plan: tripped.plan,
    };
    let brakes = brakes.into_iter().filter(|(account, _)| known.contains(account)).map(brake).collect();
    let accounts = seen.iter().filter(|account| known.contains(account));
    let accounts = accounts.map(|account| (account.kind, account.id)).collect();
    Ok(Some(record::Windows { time: wall_now, boot, windows, accounts, brakes, containers }))
}

/// The millisecond of the wall clock that an instant of the boot clock lies in or before.
fn wall(last: i64, boot_now: u64, wall_now: Millis) -> Millis {
    wall_now - (boot_now as i64).wrapping_sub(last) / NANOS
}

/// What another boot has left.
pub struct Left {
    /// What the gate begins with.
    pub begin: Begin,
    /// The counters of containers, under the numbers they have now.
    pub counters: Vec<(CounterId, u64)>,
}

/// What this boot is, for what comes from another.
struct Here {
    wall_now: Millis,
    boot_now: u64,
    /// Number of each cgroup, by what a container in it is known by.
    cgroups: HashMap<u64, u64>,
    /// Hashes of the plans that have a brake.
    braking: HashSet<u32>,
}

/// What a fresh gate is to begin with, if another boot left anything. What cannot be read is left out, and said.
pub fn left(config: &Config, hierarchy: &Hierarchy) -> Option<Left> {
    let saved = match saved::read(&config.paths.state) {
        Ok(saved) => saved?,
        Err(e) => {
            tracing::warn!("windows and counters begin anew, those of before cannot be read: {e}");
            return None;
        }
    };
    if boot_id().is_none_or(|boot| boot == saved.windows.boot) {
        return None;
    }
    let mut cgroups = HashMap::new();
    if !saved.windows.containers.is_empty() {
        let all = Tree::of(hierarchy).all().into_iter().filter(|(cgroup, _)| !cgroup.v1);
        cgroups = all.map(|(cgroup, path)| (identity_of_cgroup(&printable(path.as_bytes())), cgroup.id)).collect();
    }
    let braking = config.plans.iter().filter(|plan| plan.brake.is_some()).map(|plan| plan_hash(&plan.name));
    let here = Here { wall_now: now(), boot_now: boot_nanos(), cgroups, braking: braking.collect() };
    let without_plan = saved.windows.brakes.iter().filter(|brake| !here.braking.contains(&brake.plan)).count();
    if without_plan > 0 {
        tracing::warn!(
            brakes = without_plan,
            "failure brakes that were tripped before the reboot are let go: their plans are gone or have no brake any more"
        );
    }
    Some(here.begin(&saved))
}

impl Here {
    fn begin(&self, saved: &Saved) -> Left {
        // Two of one path (one was started anew) are one from now on. The first seen comes first.
        let mut identities: HashMap<u64, Account> = HashMap::new();
        let mut accounts: HashMap<(u32, u64), Account> = HashMap::new();
        for record::Container { kind: of, id, identity, .. } in &saved.windows.containers {
            let account = *identities.entry(*identity).or_insert_with(|| match self.cgroups.get(identity) {
                Some(cgroup) if *of == kind::CGROUP => Account::new(kind::CGROUP, *cgroup),
                _ => Account::new(*of, AWAITED | identity),
            });
            accounts.insert((*of, *id), account);
        }
        let whose =
            |of: u32, id: u64| if lasts(of) { Some(Account::new(of, id)) } else { accounts.get(&(of, id)).copied() };

        let mut begin = Begin { windows: self.windows(&saved.windows.windows, whose), ..Begin::default() };
        begin.brakes = self.brakes(&saved.windows.brakes, whose);
        // Of a container that is not there and has used nothing for a day nobody need know any more.
        let in_force = begin.windows.iter().map(|(key, _)| key.scope).chain(begin.brakes.iter().map(|(of, _)| *of));
        let mut goes_on: HashSet<Account> = in_force.filter(|account| !lasts(account.kind)).collect();
        goes_on.extend(identities.values().filter(|account| account.id & AWAITED == 0));
        let whose = |of: u32, id: u64| whose(of, id).filter(|account| lasts(of) || goes_on.contains(account));

        let containers = counters(&saved.counters, whose, &mut begin);
        let mut listed = HashSet::new();
        let named = saved.windows.containers.iter();
        let all = saved.windows.accounts.iter().copied().chain(named.clone().map(|one| (one.kind, one.id)));
        begin.accounts = all.filter_map(|(of, id)| whose(of, id)).filter(|account| listed.insert(*account)).collect();
        let mut told = HashSet::new();
        for one in named {
            let account = whose(one.kind, one.id).filter(|account| told.insert(*account));
            begin.names.extend(account.map(|account| (account, one.name.clone(), one.identity)));
        }
        Left { begin, counters: containers }
    }

    /// Nanoseconds since a time. A clock that was set back makes nothing free: it was just now.
    fn ago(&self, time: Millis) -> u64 {
        self.wall_now.saturating_sub(time).max(0).saturating_mul(NANOS) as u64
    }

    fn windows(
        &self,
        saved: &[record::Window],
        whose: impl Fn(u32, u64) -> Option<Account>,
    ) -> Vec<(WindowKey, Windows)> {
        let mut charges: HashMap<(WindowKey, Span), Vec<(u64, u32)>> = HashMap::new();
        for window in saved {
            let Some(span) = Span::ALL.into_iter().find(|span| *span as u32 == window.span) else { continue };
            let Some(scope) = whose(window.kind, window.id) else { continue };
            let key = WindowKey { scope, lane: window.lane, _pad: 0 };
            let ago = window.charges.iter().map(|(time, count)| (self.ago(*time), *count));
            charges.entry((key, span)).or_default().extend(ago);
        }
        let mut windows: HashMap<WindowKey, Windows> = HashMap::new();
        for ((key, span), charges) in charges {
            let both = windows.entry(key).or_default();
            let restored = Window::charged(span, self.boot_now, charges.into_iter());
            match span {
                Span::Hour => both.hour = restored,
                Span::Day => both.day = restored,
            }
        }
        windows.retain(|_, both| Span::ALL.iter().any(|span| both.of(*span).total > 0));
        windows.into_iter().collect()
    }

    /// Those of plans that still have a brake; of two of one container the later.
    fn brakes(&self, saved: &[record::Brake], whose: impl Fn(u32, u64) -> Option<Account>) -> Vec<(Account, Tripped)> {
        let mut latest: HashMap<Account, &record::Brake> = HashMap::new();
        for brake in saved.iter().filter(|brake| self.braking.contains(&brake.plan)) {
            let Some(account) = whose(brake.kind, brake.id) else { continue };
            let one = latest.entry(account).or_insert(brake);
            if one.at < brake.at {
                *one = brake;
            }
        }
        let tripped = |brake: &record::Brake| Tripped {
            at: Tripped::at(self.boot_now, self.ago(brake.at)),
            plan: brake.plan,
            _pad: 0,
        };
        latest.into_iter().map(|(account, brake)| (account, tripped(brake))).collect()
    }
}

/// Puts counters where they begin, and returns those of containers as the history has them.
fn counters(
    saved: &[(CounterId, u64)],
    whose: impl Fn(u32, u64) -> Option<Account>,
    begin: &mut Begin,
) -> Vec<(CounterId, u64)> {
    let mut sums: HashMap<CounterId, u64> = HashMap::new();
    for (id, count) in saved {
        let Some(account) = whose(id.kind, id.id) else { continue };
        let sum = sums.entry(CounterId { kind: account.kind, id: account.id, ..*id }).or_default();
        *sum = sum.saturating_add(*count);
    }
    for (id, count) in &sums {
        let account = Account::new(id.kind, id.id);
        let tally = |family| {
            let key = TallyKey { account, family, which: id.which, route: id.route, _pad: [0; 5] };
            (key, *count)
        };
        match id.what {
            what::CONNECTIONS => begin
                .counters
                .push((CounterKey { account, port: id.port, route: id.route, verdict: id.which, _pad: 0 }, *count)),
            what::SESSIONS => begin.tallies.push(tally(family::SESSIONS)),
            what::MESSAGES => begin.tallies.push(tally(family::MESSAGES)),
            what::RECIPIENTS => begin.tallies.push(tally(family::RECIPIENTS)),
            other => begin.tallies.extend(other.checked_sub(what::KEPT).map(tally)),
        }
    }
    sums.into_iter().filter(|(id, _)| !lasts(id.kind)).collect()
}

#[cfg(test)]
mod tests;
