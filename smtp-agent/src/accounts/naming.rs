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
        self.labels.of(account, || self.container(account, maps))
    }

    /// The name of a user, the uid where it has none.
    pub fn user(&self, uid: u32) -> String {
        self.labels.of(Account::user(uid), || None)
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

    fn container(&self, account: Account, maps: &Maps) -> Option<String> {
        let known = self.containers.lock().unwrap_or_else(PoisonError::into_inner).get(&account).cloned();
        if let Some(name) = known.or_else(|| maps.name(account)) {
            return Some(name);
        }
        let (name, _) = self.find(account, None)?;
        self.containers.lock().unwrap_or_else(PoisonError::into_inner).insert(account, name.clone());
        Some(name)
    }

    /// Name and identity of a container, with the help of one of its processes' /proc/PID/cgroup path.
    pub fn find(&self, account: Account, proc_path: Option<&str>) -> Option<(String, u64)> {
        match account.kind {
            kind::CGROUP => {
                let path = self.cgroup_path(account.id)?;
                Some((container::name_of_cgroup(&path)?, identity_of_cgroup(&path)))
            }
            kind::NETNS => {
                let path = proc_path.filter(|path| container::is_container(path));
                let by_cgroup =
                    path.and_then(|path| Some((container::name_of_cgroup(path)?, identity_of_cgroup(path))));
                by_cgroup.or_else(|| {
                    let name = netns::name_of(account.id)?;
                    let identity = identity("netns", &name);
                    Some((name, identity))
                })
            }
            _ => None,
        }
    }
}

/// What a container is known by whose cgroup has this path, escaped as [`super::label::printable`] does.
pub fn identity_of_cgroup(path: &str) -> u64 {
    identity("cgroup", path)
}

/// FNV-1a: it lies in pinned maps, so it must be the same in every build, which the standard library's hasher does
/// not promise. Paths are the host's, not a stranger's choice, so collisions need not be feared.
fn identity(kind: &str, of: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ byte as u64).wrapping_mul(0x0000_0100_0000_01b3);
    kind.bytes().chain([0]).chain(of.bytes()).fold(0xcbf2_9ce4_8422_2325, step)
}
