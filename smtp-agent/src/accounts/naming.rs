//! Names of accounts, containers included: learned once, kept beside the pins so that they outlive the
//! container and the agent.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
};

use smtp_common::connection::{Account, kind};

use super::{container, label::Labels, netns};
use crate::kernel::{cgroup::Hierarchy, maps::Maps};

pub struct Naming {
    labels: Labels,
    hierarchy: Option<Hierarchy>,
    containers: Mutex<HashMap<Account, String>>,
    asked: Mutex<HashSet<Account>>,
}

impl Naming {
    pub fn new(hierarchy: Option<Hierarchy>) -> Self {
        Self { labels: Labels::default(), hierarchy, containers: Mutex::default(), asked: Mutex::default() }
    }

    /// The label of an account. A container whose name nobody knows yet is looked for now.
    pub fn label(&self, account: Account, maps: &Maps) -> String {
        self.labels.of(account, || self.container(account, maps, None))
    }

    /// Asks for user names again from now on.
    pub fn forget_users(&self) {
        self.labels.forget();
    }

    /// Path of a cgroup, `/` for the root.
    pub fn cgroup_path(&self, id: u64) -> Option<String> {
        let path = self.hierarchy.as_ref()?.path_of(id)?;
        Some(super::label::printable(path.as_os_str().as_encoded_bytes()))
    }

    /// Whether a container's name is still to be looked for: true once for each that has none beside the pins.
    pub fn is_new(&self, account: Account, maps: &Maps) -> bool {
        let asked = || !self.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(account);
        account.is_container() && account.kind != kind::ROOTLESS && maps.name(account).is_none() && !asked()
    }

    /// The name of a container, with the help of one of its processes' /proc/PID/cgroup path.
    pub fn learn(&self, account: Account, maps: &Maps, proc_path: Option<&str>) -> Option<String> {
        self.container(account, maps, proc_path)
    }

    fn known(&self, account: Account, maps: &Maps) -> Option<String> {
        let known = self.containers.lock().unwrap_or_else(PoisonError::into_inner).get(&account).cloned();
        known.or_else(|| maps.name(account))
    }

    fn container(&self, account: Account, maps: &Maps, proc_path: Option<&str>) -> Option<String> {
        if let Some(name) = self.known(account, maps) {
            return Some(name);
        }
        let name = self.find(account, proc_path)?;
        self.containers.lock().unwrap_or_else(PoisonError::into_inner).insert(account, name.clone());
        Some(name)
    }

    fn find(&self, account: Account, proc_path: Option<&str>) -> Option<String> {
        match account.kind {
            kind::CGROUP => container::name_of_cgroup(&self.cgroup_path(account.id)?),
            kind::NETNS => {
                let by_cgroup =
                    proc_path.filter(|path| container::is_container(path)).and_then(container::name_of_cgroup);
                by_cgroup.or_else(|| netns::name_of(account.id))
            }
            _ => None,
        }
    }
}
