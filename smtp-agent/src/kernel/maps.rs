//! The pinned maps, typed: what the daemon writes and every command reads.

use std::{collections::HashSet, os::fd::AsFd};

use aya::{
    Pod,
    maps::{Array, HashMap, IterableMap, LpmTrie, Map, MapData, MapError, lpm_trie::Key},
};
use smtp_common::{
    connection::{Account, Address, AddressHint, Attempt, Route, kind},
    counter::{AccountState, CounterKey, Loss, Verdict},
    names::{Binary, LAYOUT_VERSION, MAGIC, Meta, Name, PortSet, capacity, map},
    rule::{GENERATIONS, PlanKey, PlanLimits, Policy, Rule, RuleKey, Rules, SubuidKey, select},
    tally::{TallyKey, family},
    window::{Both, Lane, LockedWindows, WindowKey, Windows},
};

use super::{pins::Pins, sys};
use crate::{
    exit::{Failure, Result},
    policy::Compiled,
};

/// Look up a value with its spin lock held, so that it is not torn (`BPF_F_LOCK`, Linux 5.1).
const BPF_F_LOCK: u64 = 4;
const BPF_NOEXIST: u64 = 1;

pub struct Maps {
    meta: Array<MapData, Meta>,
    active: Array<MapData, u32>,
    ports: Array<MapData, PortSet>,
    policy: Array<MapData, Policy>,
    rules: HashMap<MapData, RuleKey, Rule>,
    subuids: LpmTrie<MapData, SubuidKey, u32>,
    local: HashMap<MapData, Address, u32>,
    local_hint: Array<MapData, AddressHint>,
    windows: HashMap<MapData, WindowKey, LockedWindows>,
    counters: HashMap<MapData, CounterKey, u64>,
    accounts: HashMap<MapData, Account, AccountState>,
    namespaces: HashMap<MapData, u64, Account>,
    names: HashMap<MapData, Account, Name>,
    losses: Array<MapData, u64>,
    plans: HashMap<MapData, PlanKey, PlanLimits>,
    brakes: HashMap<MapData, Account, u64>,
    tallies: HashMap<MapData, TallyKey, u64>,
    sendmail: HashMap<MapData, Binary, u32>,
    turn: Array<MapData, u64>,
}

/// Entries in use and room, for one map.
#[derive(Debug, Clone, Copy)]
pub struct Fill {
    pub map: &'static str,
    pub entries: usize,
    pub capacity: usize,
}

/// Hash maps answer E2BIG, the prefix trie of subordinate uids ENOSPC (`trie_update_elem`).
fn is_full(error: &MapError) -> bool {
    matches!(error, MapError::SyscallError(e) if matches!(e.io_error.raw_os_error(), Some(libc::E2BIG | libc::ENOSPC)))
}

fn failed(what: &str, error: &MapError) -> Failure {
    if is_full(error) {
        Failure::unavailable(format!("the map {what} is full: the kernel gate has no room for so many entries"))
    } else {
        match error {
            MapError::SyscallError(e) => Failure::from_io(&e.io_error, format!("the map {what} cannot be used")),
            other => Failure::unavailable(format!("the map {what} cannot be used: {other}")),
        }
    }
}

impl Maps {
    /// Opens the maps of a pinned gate.
    pub fn open(pins: &Pins) -> Result<Self> {
        fn typed<T: TryFrom<Map, Error = MapError>>(pins: &Pins, name: &str, wrap: fn(MapData) -> Map) -> Result<T> {
            let open = || T::try_from(wrap(MapData::from_pin(pins.map(name))?));
            open().map_err(|e| failed(name, &e))
        }
        Ok(Self {
            meta: typed(pins, map::META, Map::Array)?,
            active: typed(pins, map::ACTIVE, Map::Array)?,
            ports: typed(pins, map::PORTS, Map::Array)?,
            policy: typed(pins, map::POLICY, Map::Array)?,
            rules: typed(pins, map::RULES, Map::HashMap)?,
            subuids: typed(pins, map::SUBUIDS, Map::LpmTrie)?,
            local: typed(pins, map::LOCAL, Map::HashMap)?,
            local_hint: typed(pins, map::LOCAL_HINT, Map::Array)?,
            windows: typed(pins, map::WINDOWS, Map::HashMap)?,
            counters: typed(pins, map::COUNTERS, Map::HashMap)?,
            accounts: typed(pins, map::ACCOUNTS, Map::HashMap)?,
            namespaces: typed(pins, map::NAMESPACES, Map::HashMap)?,
            names: typed(pins, map::NAMES, Map::HashMap)?,
            losses: typed(pins, map::LOSSES, Map::Array)?,
            plans: typed(pins, map::PLANS, Map::HashMap)?,
            brakes: typed(pins, map::BRAKES, Map::HashMap)?,
            tallies: typed(pins, map::TALLIES, Map::HashMap)?,
            sendmail: typed(pins, map::SENDMAIL, Map::HashMap)?,
            turn: typed(pins, map::TURN, Map::Array)?,
        })
    }

    /// Signs fresh pins with the layout: the last step of making them, so that half-made ones are known.
    pub fn sign(&mut self) -> Result<()> {
        self.meta.set(0, Meta { magic: MAGIC, layout: LAYOUT_VERSION }, 0).map_err(|e| failed(map::META, &e))
    }

    /// Number of the generation in force.
    pub fn active(&self) -> Result<u32> {
        self.active.get(&0, 0).map(|n| n & (GENERATIONS - 1)).map_err(|e| failed(map::ACTIVE, &e))
    }

    /// The policy in force, without its rules.
    pub fn policy(&self) -> Result<Policy> {
        self.policy.get(&self.active()?, 0).map_err(|e| failed(map::POLICY, &e))
    }

    pub fn ports(&self) -> Result<PortSet> {
        self.ports.get(&self.active()?, 0).map_err(|e| failed(map::PORTS, &e))
    }

    /// The rule an account meets, picked as the kernel picks it.
    pub fn rule_for(&self, policy: &Policy, account: Account) -> Rule {
        let host_uid = (account.kind == kind::ROOTLESS).then_some(account.id as u32);
        select(policy, self, &Attempt { account, route: Route::Remote, host_uid })
    }

    /// The rule of one account in the generation in force.
    fn own_rule(&self, account: Account) -> Result<Option<Rule>> {
        match self.rules.get(&RuleKey::new(self.active()?, account), 0) {
            Ok(rule) => Ok(Some(rule)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(e) => Err(failed(map::RULES, &e)),
        }
    }

    /// Writes a policy beside the one in force and then makes it the one in force, in one step.
    /// Until that step nothing has changed; when anything fails, nothing will.
    pub fn install(&mut self, compiled: &Compiled) -> Result<u64> {
        let old = self.active()?;
        let new = old ^ 1;
        self.forget(new)?;
        let serial = self.policy.get(&old, 0).map_err(|e| failed(map::POLICY, &e))?.serial + 1;
        if let Err(e) = self.write(new, serial, compiled) {
            let _ = self.forget(new);
            return Err(e);
        }
        // Executions of sendmail have no port.
        for &port in compiled.ports.iter().chain(&[0]) {
            self.make_overflow_counters(port)?;
        }
        self.active.set(0, new, 0).map_err(|e| failed(map::ACTIVE, &e))?;
        // A connect that still reads the old generation must have ended before its rules go.
        sys::wait_for_running_programs();
        self.forget(old)?;
        Ok(serial)
    }

    fn write(&mut self, generation: u32, serial: u64, compiled: &Compiled) -> Result<()> {
        for (account, rule) in &compiled.rules {
            self.rules.insert(RuleKey::new(generation, *account), rule, 0).map_err(|e| failed(map::RULES, &e))?;
        }
        for (number, limits) in compiled.plans.iter().enumerate() {
            let key = PlanKey { generation, plan: number as u32 };
            self.plans.insert(key, limits, 0).map_err(|e| failed(map::PLANS, &e))?;
        }
        for range in &compiled.subuids {
            let key = Key::new(32 + range.bits, SubuidKey::new(generation, range.first));
            self.subuids.insert(&key, range.owner, 0).map_err(|e| failed(map::SUBUIDS, &e))?;
        }
        let mut ports = PortSet::EMPTY;
        compiled.ports.iter().for_each(|&port| ports.insert(port));
        self.ports.set(generation, ports, 0).map_err(|e| failed(map::PORTS, &e))?;
        let policy = Policy { serial, ..compiled.policy };
        self.policy.set(generation, policy, 0).map_err(|e| failed(map::POLICY, &e))
    }

    /// Removes the rules of a generation that is not in force.
    fn forget(&mut self, generation: u32) -> Result<()> {
        let all = entries(&self.rules, map::RULES)?;
        for (key, _) in all.into_iter().filter(|(key, _)| key.generation == generation) {
            self.rules.remove(&key).map_err(|e| failed(map::RULES, &e))?;
        }
        let all = entries(&self.plans, map::PLANS)?;
        for (key, _) in all.into_iter().filter(|(key, _)| key.generation == generation) {
            self.plans.remove(&key).map_err(|e| failed(map::PLANS, &e))?;
        }
        let stale: Vec<_> =
            self.subuids.keys().filter_map(|k| k.ok()).filter(|k| k.data().generation == generation.to_be()).collect();
        for key in stale {
            self.subuids.remove(&key).map_err(|e| failed(map::SUBUIDS, &e))?;
        }
        Ok(())
    }

    /// Makes the windows shared by accounts that find no room, before they can be needed.
    pub fn make_overflow_windows(&mut self) -> Result<()> {
        for lane in Lane::ALL {
            for scope in [Account::OTHER, Account::HOST] {
                let made = self.windows.insert(WindowKey::new(scope, lane), LockedWindows::default(), BPF_NOEXIST);
                accept_existing(made).map_err(|e| failed(map::WINDOWS, &e))?;
            }
        }
        Ok(())
    }

    /// The same for what is counted of sessions.
    pub fn make_overflow_tallies(&mut self) -> Result<()> {
        for route in Route::ALL {
            for (family, count) in family::ALL {
                for which in 0..count {
                    let key = TallyKey::new(Account::OTHER, family, which, route);
                    accept_existing(self.tallies.insert(key, 0, BPF_NOEXIST)).map_err(|e| failed(map::TALLIES, &e))?;
                }
            }
        }
        Ok(())
    }

    fn make_overflow_counters(&mut self, port: u16) -> Result<()> {
        for route in Route::ALL {
            for verdict in Verdict::ALL {
                let made = self.counters.insert(CounterKey::new(Account::OTHER, port, route, verdict), 0, BPF_NOEXIST);
                accept_existing(made).map_err(|e| failed(map::COUNTERS, &e))?;
            }
        }
        Ok(())
    }

    /// Makes the set of the host's own addresses the given one. Addresses in both stay throughout. Returns how many
    /// found no room: those count as remote, the safe side.
    pub fn set_local(&mut self, addresses: &HashSet<Address>) -> Result<usize> {
        let old: HashSet<Address> = entries(&self.local, map::LOCAL)?.into_iter().map(|(address, _)| address).collect();
        // The hint knows the new ones before the map does, and the old ones until they are gone.
        let mut hint = AddressHint::EMPTY;
        old.union(addresses).for_each(|address| hint.insert(address));
        self.local_hint.set(0, hint, 0).map_err(|e| failed(map::LOCAL_HINT, &e))?;
        for address in old.difference(addresses) {
            self.local.remove(address).map_err(|e| failed(map::LOCAL, &e))?;
        }
        let mut left_out = 0;
        for address in addresses.difference(&old) {
            match self.local.insert(address, 1, 0) {
                Err(e) if is_full(&e) => left_out += 1,
                done => done.map_err(|e| failed(map::LOCAL, &e))?,
            }
        }
        let mut hint = AddressHint::EMPTY;
        addresses.iter().for_each(|address| hint.insert(address));
        self.local_hint.set(0, hint, 0).map_err(|e| failed(map::LOCAL_HINT, &e))?;
        Ok(left_out)
    }

    /// Makes the set of sendmail-compatible programs the given one. Those in both stay throughout.
    pub fn set_sendmail(&mut self, binaries: &HashSet<Binary>) -> Result<()> {
        let old: HashSet<_> = entries(&self.sendmail, map::SENDMAIL)?.into_iter().map(|(binary, _)| binary).collect();
        for binary in binaries.difference(&old) {
            self.sendmail.insert(binary, 1, 0).map_err(|e| failed(map::SENDMAIL, &e))?;
        }
        for binary in old.difference(binaries) {
            self.sendmail.remove(binary).map_err(|e| failed(map::SENDMAIL, &e))?;
        }
        Ok(())
    }

    /// Says which load of the probe counts executions; 0 for none.
    pub fn set_turn(&mut self, instance: u64) -> Result<()> {
        self.turn.set(0, instance, 0).map_err(|e| failed(map::TURN, &e))
    }

    pub fn is_local(&self, address: &Address) -> bool {
        address.is_loopback() || self.local.get(address, 0).is_ok()
    }

    /// The user a subordinate uid is charged to.
    pub fn owner_of(&self, uid: u32) -> Result<Option<u32>> {
        match self.subuids.get(&Key::new(SubuidKey::BITS, SubuidKey::new(self.active()?, uid)), 0) {
            Ok(owner) => Ok(Some(owner)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(e) => Err(failed(map::SUBUIDS, &e)),
        }
    }

    pub fn windows(&self, key: &WindowKey) -> Result<Option<Windows>> {
        match self.windows.get(key, BPF_F_LOCK) {
            Ok(locked) => Ok(Some(locked.windows)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(e) => Err(failed(map::WINDOWS, &e)),
        }
    }

    /// Connections admitted to an account (or the host): its windows, slid to now.
    pub fn usage(&self, scope: Account) -> Result<Windows> {
        self.used(scope, Lane::Admitted)
    }

    /// Units of a lane that an account (or the host) was charged with: its windows, slid to now.
    pub fn used(&self, scope: Account, lane: Lane) -> Result<Windows> {
        let mut windows = self.windows(&WindowKey::new(scope, lane))?.unwrap_or_default();
        windows.advance(Both::slots(sys::boot_nanos()));
        Ok(windows)
    }

    /// When the failure brake of an account was tripped, in nanoseconds of the boot clock. It may have let go since.
    pub fn tripped(&self, account: Account) -> Option<u64> {
        self.brakes.get(&account, 0).ok()
    }

    /// Every account whose brake was tripped.
    pub fn brakes(&self) -> Result<Vec<(Account, u64)>> {
        entries(&self.brakes, map::BRAKES)
    }

    /// Counts of sessions, messages and recipients.
    pub fn tallies(&self) -> Result<Vec<(TallyKey, u64)>> {
        entries(&self.tallies, map::TALLIES)
    }

    pub fn counters(&self) -> Result<Vec<(CounterKey, u64)>> {
        entries(&self.counters, map::COUNTERS)
    }

    /// Every account that was seen, in the order of its first connection.
    pub fn accounts(&self) -> Result<Vec<(Account, AccountState)>> {
        let mut all = entries(&self.accounts, map::ACCOUNTS)?;
        all.sort_by_key(|(account, state)| (state.first_seen, *account));
        Ok(all)
    }

    pub fn name(&self, account: Account) -> Option<String> {
        self.names.get(&account, 0).ok().map(|name| text(&name))
    }

    pub fn set_name(&mut self, account: Account, name: &str, identity: u64) -> Result<()> {
        let mut bytes = [0; smtp_common::names::NAME_LEN];
        let end = name.floor_char_boundary(bytes.len());
        bytes[..end].copy_from_slice(&name.as_bytes()[..end]);
        self.names.insert(account, Name { identity, name: bytes }, 0).map_err(|e| failed(map::NAMES, &e))
    }

    /// The account that was first seen of a container with this identity.
    pub fn account_identified(&self, identity: u64) -> Result<Option<Account>> {
        let mut found = entries(&self.names, map::NAMES)?;
        found.retain(|(_, known)| known.identity == identity);
        let first_seen = |account: &Account| self.accounts.get(account, 0).map_or(u64::MAX, |state| state.first_seen);
        Ok(found.into_iter().map(|(account, _)| account).min_by_key(|account| (first_seen(account), *account)))
    }

    /// From now on charges a network namespace to an account.
    pub fn charge_namespace_to(&mut self, cookie: u64, account: Account) -> Result<()> {
        self.namespaces.insert(cookie, account, 0).map_err(|e| failed(map::NAMESPACES, &e))
    }

    pub fn loss(&self, what: Loss) -> Result<u64> {
        self.losses.get(&(what as u32), 0).map_err(|e| failed(map::LOSSES, &e))
    }

    /// How full the maps are that can fill up.
    pub fn fill(&self) -> Result<Vec<Fill>> {
        let fill = |map, entries, capacity| Fill { map, entries, capacity };
        Ok(vec![
            fill("brakes", count(&self.brakes, map::BRAKES)?, capacity::BRAKES),
            fill("plans", count(&self.plans, map::PLANS)?, capacity::PLANS),
            fill("tallies", count(&self.tallies, map::TALLIES)?, capacity::TALLIES),
            fill("accounts", count(&self.accounts, map::ACCOUNTS)?, capacity::ACCOUNTS),
            fill("counters", count(&self.counters, map::COUNTERS)?, capacity::COUNTERS),
            fill("local", count(&self.local, map::LOCAL)?, capacity::LOCAL),
            fill("names", count(&self.names, map::NAMES)?, capacity::NAMES),
            fill("namespaces", count(&self.namespaces, map::NAMESPACES)?, capacity::NAMESPACES),
            fill("rules", count(&self.rules, map::RULES)?, capacity::RULES),
            fill("subuids", self.subuids.keys().count(), capacity::SUBUIDS),
            fill("windows", count(&self.windows, map::WINDOWS)?, capacity::WINDOWS),
        ])
    }
}

fn text(name: &Name) -> String {
    let end = name.name.iter().position(|&b| b == 0).unwrap_or(name.name.len());
    String::from_utf8_lossy(&name.name[..end]).into_owned()
}

fn walk<K: Pod, V: Pod>(map: &HashMap<MapData, K, V>, name: &str, each: impl FnMut(K, V)) -> Result<()> {
    sys::entries(map.map().fd().as_fd(), each)
        .map_err(|e| Failure::from_io(&e, format!("the map {name} cannot be read")))
}

fn entries<K: Pod, V: Pod>(map: &HashMap<MapData, K, V>, name: &str) -> Result<Vec<(K, V)>> {
    let mut all = Vec::new();
    walk(map, name, |key, value| all.push((key, value)))?;
    Ok(all)
}

fn count<K: Pod, V: Pod>(map: &HashMap<MapData, K, V>, name: &str) -> Result<usize> {
    let mut count = 0;
    walk(map, name, |_, _| count += 1)?;
    Ok(count)
}

impl Rules for Maps {
    /// A map that cannot be read has no rule to tell; the reader meets that error elsewhere.
    fn rule(&self, account: Account) -> Option<Rule> {
        self.own_rule(account).ok().flatten()
    }

    fn plan(&self, plan: u32) -> Option<PlanLimits> {
        self.plans.get(&PlanKey { generation: self.active().ok()?, plan }, 0).ok()
    }
}

fn accept_existing(made: Result<(), MapError>) -> Result<(), MapError> {
    match made {
        Err(MapError::SyscallError(e)) if e.io_error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        other => other,
    }
}
