//! A new policy in the maps: written beside the one in force, and put in its place in one step.

use std::{collections::HashMap as Table, os::fd::AsFd};

use aya::{
    Pod,
    maps::{HashMap, IterableMap, LpmTrie, MapData, MapError, lpm_trie::Key},
};
use smtp_common::{
    connection::{Account, Cgroup, kind},
    level::{CgroupKey, Chain, Numbered, PathKey, Purse, path_hash},
    names::{NAME_LEN, Name, PortSet, map},
    rule::{PlanKey, Policy, RuleKey, SubuidKey},
};

use super::{super::sys, Maps, failed, name_bytes, walk};
use crate::{
    exit::{Failure, Result},
    policy::{Compiled, ledger::Ledger},
};

/// Where the chains of cgroups go.
#[derive(Debug, Default)]
pub struct Places {
    /// Cgroups that are there and that a pattern matches, with the hashes of their paths.
    pub cgroups: Vec<(Cgroup, u64)>,
    /// Chains of paths, whether anything is there or not.
    pub paths: Vec<(String, u32)>,
    /// Number of the v1 hierarchy `name=systemd`, where there is one.
    pub hierarchy: Option<u32>,
}

/// Puts entries into a hash map with few system calls.
pub(super) fn put<K: Pod, V: Pod>(
    map: &HashMap<MapData, K, V>,
    name: &str,
    all: impl Iterator<Item = (K, V)>,
) -> Result<()> {
    let (keys, values): (Vec<K>, Vec<V>) = all.unzip();
    sys::insert_all(map.map().fd().as_fd(), &keys, &values).map_err(|e| match e.raw_os_error() {
        Some(libc::E2BIG) => {
            Failure::unavailable(format!("the map {name} is full: the kernel gate has no room for so many entries"))
        }
        _ => Failure::from_io(&e, format!("the map {name} cannot be written")),
    })
}

/// Removes the entries of a hash map that belong to a generation.
fn clear<K: Pod, V: Pod>(map: &HashMap<MapData, K, V>, name: &str, belongs: impl Fn(&K) -> bool) -> Result<()> {
    let mut keys = Vec::new();
    walk(map, name, |key, _| keys.extend(Some(key).filter(&belongs)))?;
    remove(map, name, &keys)
}

/// Removes entries of a hash map that may have gone already.
fn remove<K: Pod, V: Pod>(map: &HashMap<MapData, K, V>, name: &str, keys: &[K]) -> Result<()> {
    match sys::remove_all(map.map().fd().as_fd(), keys) {
        Ok(()) => Ok(()),
        // A cgroup that has gone meanwhile took its entry with it: one by one, then.
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {
            for key in keys {
                match sys::remove_all(map.map().fd().as_fd(), std::slice::from_ref(key)) {
                    Err(e) if e.raw_os_error() != Some(libc::ENOENT) => {
                        return Err(Failure::from_io(&e, format!("the map {name} cannot be cleared")));
                    }
                    _ => {}
                }
            }
            Ok(())
        }
        Err(e) => Err(Failure::from_io(&e, format!("the map {name} cannot be cleared"))),
    }
}

/// The same for a trie. It takes many at once from Linux 5.13 on; where that fails, one by one tells what is wrong.
fn put_in_trie<K: Pod, V: Pod>(
    trie: &mut LpmTrie<MapData, K, V>,
    name: &str,
    all: impl Iterator<Item = (Key<K>, V)>,
) -> Result<()> {
    let (keys, values): (Vec<Key<K>>, Vec<V>) = all.unzip();
    if sys::insert_all(trie.map().fd().as_fd(), &keys, &values).is_ok() {
        return Ok(());
    }
    keys.iter().zip(values).try_for_each(|(key, value)| trie.insert(key, value, 0)).map_err(|e| failed(name, &e))
}

fn clear_trie<K: Pod, V: Pod>(
    trie: &mut LpmTrie<MapData, K, V>,
    name: &str,
    belongs: impl Fn(&K) -> bool,
) -> Result<()> {
    let keys: Vec<Key<K>> = trie.keys().filter_map(|key| key.ok()).filter(|key| belongs(&key.data())).collect();
    if sys::remove_all(trie.map().fd().as_fd(), &keys).is_ok() {
        return Ok(());
    }
    keys.iter().try_for_each(|key| match trie.remove(key) {
        Err(MapError::SyscallError(e)) if e.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        done => done.map_err(|e| failed(name, &e)),
    })
}

impl Maps {
    /// Writes a policy beside the one in force and then makes it the one in force, in one step. Until that step nothing
    /// has changed; when anything fails, nothing will. The one before is left for [`Self::sweep`].
    ///
    /// `complete` is called when all is written, with the number of the new generation: from then on the probe enters what is
    /// made into that one as well.
    pub fn install(
        &mut self,
        compiled: &Compiled,
        places: &Places,
        complete: impl FnOnce(&mut Self, u32),
    ) -> Result<u64> {
        self.sweep()?;
        let old = self.active()?;
        let new = old ^ 1;
        let serial = self.policy.get(&old, 0).map_err(|e| failed(map::POLICY, &e))?.serial + 1;
        self.is_swept = false;
        if let Err(e) = self.write(new, serial, compiled, places) {
            self.is_swept = self.forget(new).is_ok();
            return Err(e);
        }
        // Executions of sendmail have no port.
        for &port in compiled.ports.iter().chain(&[0]) {
            self.make_overflow_counters(port)?;
        }
        self.set_by_hand(&compiled.by_hand)?;
        self.rename_purses(compiled.ledger.names());
        complete(self, new);
        self.active.set(0, new, 0).map_err(|e| failed(map::ACTIVE, &e))?;
        Ok(serial)
    }

    /// Removes what is left of the policy before the one in force. Nobody has to wait for it but the next installation.
    pub fn sweep(&mut self) -> Result<()> {
        let idle = self.active()? ^ 1;
        if self.is_swept {
            // The probe may have entered cgroups meanwhile.
            return self.forget_all_cgroups(idle);
        }
        // A connect that still reads it must have ended before its rules go.
        sys::wait_for_running_programs();
        self.forget(idle)?;
        self.is_swept = true;
        Ok(())
    }

    fn write(&mut self, generation: u32, serial: u64, compiled: &Compiled, places: &Places) -> Result<()> {
        let rules = compiled.rules.iter().map(|(account, rule)| (RuleKey::new(generation, *account), *rule));
        put(&self.rules, map::RULES, rules)?;
        let plans = compiled.plans.iter().enumerate();
        put(&self.plans, map::PLANS, plans.map(|(n, limits)| (PlanKey { generation, plan: n as u32 }, *limits)))?;
        let subuids = compiled.subuids.iter().map(|range| {
            let key = Key::new(32 + range.bits, SubuidKey::new(generation, range.first));
            (key, range.owner)
        });
        put_in_trie(&mut self.subuids, map::SUBUIDS, subuids)?;
        let exceptions = compiled.exceptions.iter().map(|exception| {
            let key = Key::new(exception.bits, exception.key(generation));
            (key, exception.action as u32)
        });
        put_in_trie(&mut self.exceptions, map::EXCEPTIONS, exceptions)?;
        self.enter(generation, compiled.ledger.purses(), 0, compiled.ledger.chains(), 0)?;
        self.place(generation, places)?;
        let mut ports = PortSet::EMPTY;
        compiled.ports.iter().for_each(|&port| ports.insert(port));
        self.ports.set(generation, ports, 0).map_err(|e| failed(map::PORTS, &e))?;
        let mut policy = Policy { serial, ..compiled.policy };
        if let Some(hierarchy) = places.hierarchy.filter(|_| policy.cgroups != 0) {
            policy.cgroups |= 2;
            policy.hierarchy = hierarchy;
        }
        self.policy.set(generation, policy, 0).map_err(|e| failed(map::POLICY, &e))
    }

    /// Purses and chains, numbered on from those before them.
    fn enter(
        &self,
        generation: u32,
        purses: &[Purse],
        before: usize,
        chains: &[Chain],
        chains_before: usize,
    ) -> Result<()> {
        let numbered = |number: usize| Numbered { generation, number: number as u32 + 1 };
        let purses = purses.iter().enumerate().skip(before);
        put(&self.purses, map::PURSES, purses.map(|(n, purse)| (numbered(n), *purse)))?;
        let chains = chains.iter().enumerate().skip(chains_before);
        put(&self.chains, map::CHAINS, chains.map(|(n, chain)| (numbered(n), *chain)))
    }

    fn place(&self, generation: u32, places: &Places) -> Result<()> {
        let cgroups = places.cgroups.iter();
        let key = |cgroup: &Cgroup| CgroupKey { generation, v1: cgroup.v1 as u32, id: cgroup.id };
        put(&self.cgroups, map::CGROUPS, cgroups.map(|(cgroup, path)| (key(cgroup), *path)))?;
        let key = |path: &String| PathKey { generation, _pad: 0, hash: path_hash(path.as_bytes()) };
        put(&self.paths, map::PATHS, places.paths.iter().map(|(path, chain)| (key(path), *chain)))
    }

    /// Adds what was found since to a generation; so many purses and chains of the ledger are in the maps already.
    pub fn extend(
        &mut self,
        generation: u32,
        ledger: &Ledger,
        (purses, chains): (usize, usize),
        places: &Places,
    ) -> Result<()> {
        self.enter(generation, ledger.purses(), purses, ledger.chains(), chains)?;
        self.place(generation, places)?;
        self.name_purses(&ledger.names()[purses..]);
        Ok(())
    }

    /// Makes what shared limits are called the given, for whoever reads the pins. They hold without a name, too.
    fn rename_purses(&mut self, names: &[(Account, String)]) {
        let is_purse = |account: &Account| matches!(account.kind, kind::PLAN | kind::GROUP | kind::RULE);
        let mut old: Table<Account, [u8; NAME_LEN]> = Table::new();
        let mut outcome = walk(&self.names, map::NAMES, |account, name: Name| {
            old.extend(Some((account, name.name)).filter(|(account, _)| is_purse(account)));
        });
        let new = names.iter().filter(|(account, name)| old.remove(account) != Some(name_bytes(name)));
        let new: Vec<(Account, String)> = new.cloned().collect();
        // Those of limits that are gone make room.
        outcome = outcome.and_then(|()| remove(&self.names, map::NAMES, &old.into_keys().collect::<Vec<_>>()));
        if let Err(e) = outcome {
            tracing::warn!("the names of limits that are gone are still in the maps: {e}");
        }
        self.name_purses(&new);
    }

    fn name_purses(&mut self, names: &[(Account, String)]) {
        let names = names.iter().map(|(scope, name)| (*scope, Name { identity: 0, name: name_bytes(name) }));
        if let Err(e) = put(&self.names, map::NAMES, names) {
            tracing::warn!("limits that are shared are shown without their names: {e}");
        }
    }

    /// Takes cgroups that have gone out of a generation. Open sessions know them by their paths.
    pub fn forget_cgroups(&self, generation: u32, gone: &[Cgroup]) -> Result<()> {
        let keys = gone.iter().map(|cgroup| CgroupKey { generation, v1: cgroup.v1 as u32, id: cgroup.id });
        remove(&self.cgroups, map::CGROUPS, &keys.collect::<Vec<_>>())
    }

    /// Removes the rules of a generation that is not in force.
    fn forget(&mut self, generation: u32) -> Result<()> {
        clear(&self.rules, map::RULES, |key| key.generation == generation)?;
        clear(&self.plans, map::PLANS, |key| key.generation == generation)?;
        clear(&self.purses, map::PURSES, |key| key.generation == generation)?;
        clear(&self.chains, map::CHAINS, |key| key.generation == generation)?;
        // The probe enters cgroups whose paths it finds.
        clear(&self.paths, map::PATHS, |key| key.generation == generation)?;
        self.forget_all_cgroups(generation)?;
        clear_trie(&mut self.subuids, map::SUBUIDS, |key| key.generation == generation.to_be())?;
        clear_trie(&mut self.exceptions, map::EXCEPTIONS, |key| key.generation == generation.to_be())
    }

    fn forget_all_cgroups(&self, generation: u32) -> Result<()> {
        clear(&self.cgroups, map::CGROUPS, |key| key.generation == generation)
    }
}
