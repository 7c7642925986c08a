//! The pinned maps, typed: what the daemon writes and every command reads.

mod by_hand;
mod install;
mod saved;

pub use install::Places;
pub use saved::Begin;

use std::{collections::HashSet, os::fd::AsFd};

use aya::{
    Pod,
    maps::{Array, HashMap, IterableMap, LpmTrie, Map, MapData, MapError, lpm_trie::Key},
};
use smtp_common::{
    choice::select,
    connection::{Account, Address, AddressHint, Attempt, Cgroup, Route, kind},
    counter::{AccountState, CounterKey, Loss, Verdict},
    level::{ByHand, CgroupKey, Chain, ExceptionKey, Exceptions, Numbered, PathKey, Purse},
    names::{Binary, LAYOUT_VERSION, MAGIC, Meta, NAME_LEN, Name, PortSet, Tripped, capacity, map},
    rule::{GENERATIONS, PlanKey, PlanLimits, Policy, Rule, RuleKey, Rules, SubuidKey},
    tally::{TallyKey, family},
    window::{Both, Lane, LockedWindows, WindowKey, Windows},
};

use super::{pins::Pins, sys};
use crate::exit::{Failure, Result};

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
    brakes: HashMap<MapData, Account, Tripped>,
    tallies: HashMap<MapData, TallyKey, u64>,
    sendmail: HashMap<MapData, Binary, u32>,
    turn: Array<MapData, u64>,
    by_hand: HashMap<MapData, Account, ByHand>,
    purses: HashMap<MapData, Numbered, Purse>,
    chains: HashMap<MapData, Numbered, Chain>,
    cgroups: HashMap<MapData, CgroupKey, u64>,
    paths: HashMap<MapData, PathKey, u32>,
    exceptions: LpmTrie<MapData, ExceptionKey, u32>,
    /// The generation that is not in force is known to be empty.
    is_swept: bool,
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
            by_hand: typed(pins, map::BY_HAND, Map::HashMap)?,
            purses: typed(pins, map::PURSES, Map::HashMap)?,
            chains: typed(pins, map::CHAINS, Map::HashMap)?,
            cgroups: typed(pins, map::CGROUPS, Map::HashMap)?,
            paths: typed(pins, map::PATHS, Map::HashMap)?,
            exceptions: typed(pins, map::EXCEPTIONS, Map::LpmTrie)?,
            is_swept: false,
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

    /// The rule an account meets, picked as the kernel picks it: outside of any cgroup that rules speak of.
    pub fn rule_for(&self, policy: &Policy, account: Account) -> Rule {
        let host_uid = (account.kind == kind::ROOTLESS).then_some(account.id as u32);
        let attempt = Attempt { account, route: Route::Remote, host_uid, cgroup: 0, exception: 0 };
        select(Box::new(*policy), self, &attempt, sys::boot_nanos())
    }

    /// What a map holds for a key of the generation in force. A map that cannot be read holds nothing; its reader meets that
    /// error elsewhere.
    fn found<K: Pod, V: Pod>(map: &HashMap<MapData, K, V>, key: K) -> Option<Box<V>> {
        map.get(&key, 0).ok().map(Box::new)
    }

    /// A chain of the generation in force.
    pub fn chain(&self, number: u32) -> Option<Chain> {
        let generation = self.active().ok()?;
        Self::found(&self.chains, Numbered { generation, number }).map(|chain| *chain)
    }

    /// A purse of the generation in force.
    pub fn purse(&self, number: u32) -> Option<Purse> {
        let generation = self.active().ok()?;
        Self::found(&self.purses, Numbered { generation, number }).map(|purse| *purse)
    }

    /// Every purse of the generation in force.
    pub fn purses(&self) -> Result<Vec<Purse>> {
        let generation = self.active()?;
        let all = entries(&self.purses, map::PURSES)?;
        Ok(all.into_iter().filter(|(key, _)| key.generation == generation).map(|(_, purse)| purse).collect())
    }

    /// Whether a rule in force matches a cgroup, and the hash of its path.
    pub fn matched(&self, cgroup: Cgroup) -> Option<u64> {
        let generation = self.active().ok()?;
        Self::found(&self.cgroups, CgroupKey { generation, v1: cgroup.v1 as u32, id: cgroup.id }).map(|hash| *hash)
    }

    /// Every cgroup that a rule of a generation matches.
    pub fn matched_cgroups(&self, generation: u32) -> Result<Vec<Cgroup>> {
        let all = entries(&self.cgroups, map::CGROUPS)?.into_iter().map(|(key, _)| key);
        let of_this = all.filter(|key| key.generation == generation);
        Ok(of_this.map(|key| Cgroup { id: key.id, v1: key.v1 != 0 }).collect())
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

    /// When the failure brake of an account was tripped ([`Tripped::at`]). It may have let go since.
    pub fn tripped(&self, account: Account) -> Option<u64> {
        self.brakes.get(&account, 0).ok().map(|tripped| tripped.at)
    }

    /// Every account whose brake was tripped.
    pub fn brakes(&self) -> Result<Vec<(Account, u64)>> {
        Ok(self.all_brakes()?.into_iter().map(|(account, tripped)| (account, tripped.at)).collect())
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

    /// Every account that has a name here: containers, and what is shared.
    pub fn named(&self) -> Result<Vec<Account>> {
        Ok(entries(&self.names, map::NAMES)?.into_iter().map(|(account, _)| account).collect())
    }

    pub fn set_name(&mut self, account: Account, name: &str, identity: u64) -> Result<()> {
        self.names.insert(account, Name { identity, name: name_bytes(name) }, 0).map_err(|e| failed(map::NAMES, &e))
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
            fill("by_hand", count(&self.by_hand, map::BY_HAND)?, capacity::BY_HAND),
            fill("purses", count(&self.purses, map::PURSES)?, capacity::PURSES),
            fill("chains", count(&self.chains, map::CHAINS)?, capacity::CHAINS),
            fill("cgroups", count(&self.cgroups, map::CGROUPS)?, capacity::CGROUPS),
            fill("paths", count(&self.paths, map::PATHS)?, capacity::PATHS),
            fill("exceptions", self.exceptions.keys().count(), capacity::EXCEPTIONS),
            fill("windows", count(&self.windows, map::WINDOWS)?, capacity::WINDOWS),
        ])
    }
}

/// A name as the map holds it, cut where it is too long.
fn name_bytes(name: &str) -> [u8; NAME_LEN] {
    let mut bytes = [0; NAME_LEN];
    let end = name.floor_char_boundary(bytes.len());
    bytes[..end].copy_from_slice(&name.as_bytes()[..end]);
    bytes
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
    type Ref<T: Copy + 'static> = Box<T>;

    fn part<T: Copy, U: Copy>(whole: Box<T>, part: impl FnOnce(&T) -> &U) -> Box<U> {
        Box::new(*part(&whole))
    }

    fn rule(&self, account: Account) -> Option<Box<Rule>> {
        Self::found(&self.rules, RuleKey::new(self.active().ok()?, account))
    }

    fn plan(&self, plan: u16) -> Option<Box<PlanLimits>> {
        Self::found(&self.plans, PlanKey { generation: self.active().ok()?, plan: plan as u32 })
    }

    fn by_hand(&self, account: Account) -> Option<Box<ByHand>> {
        Self::found(&self.by_hand, account)
    }

    fn chain_of(&self, cgroup: u64) -> Option<Box<Chain>> {
        let key = PathKey { generation: self.active().ok()?, _pad: 0, hash: cgroup };
        self.chain(*Self::found(&self.paths, key)?).map(Box::new)
    }
}

impl Exceptions for Maps {
    fn exception(&self, key: &ExceptionKey) -> Option<u8> {
        self.exceptions.get(&Key::new(ExceptionKey::BITS, *key), 0).ok().map(|action| action as u8)
    }
}

fn accept_existing(made: Result<(), MapError>) -> Result<(), MapError> {
    match made {
        Err(MapError::SyscallError(e)) if e.io_error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        other => other,
    }
}
