//! The cgroup around a process, and the exceptions that hold there.

use aya_ebpf::{
    helpers::{bpf_get_current_ancestor_cgroup_id, bpf_get_current_task},
    maps::lpm_trie::Key,
};
use smtp_common::{
    connection::{Account, Address, Cgroup, Port},
    level::{CgroupKey, ExceptionKey, Exceptions, LINKS, exception},
    rule::{Policy, Rules as _},
};

use crate::{
    account::Generation,
    identify::read,
    maps::{
        CGROUP_KN, CGROUP_ROOT, CGROUPS, CSS_SET_LINKS, EXCEPTIONS, KN_ID, KN_PARENT, LINK_CGROUP, LINK_NEXT,
        ROOT_HIERARCHY, TASK_CGROUPS,
    },
    policy::in_force,
};

/// Bits of [`Policy::cgroups`].
const HAS_RULES: u32 = 1;
const HAS_V1_RULES: u32 = 1 << 1;

/// Levels below the root that are looked at: systemd, Kubernetes and nested containers stay far above.
const DEPTH: i32 = 16;

/// Hierarchies a process can be in: one per v1 controller, and the named ones.
const HIERARCHIES: u32 = 24;

/// The innermost cgroup around the current task that a rule matches.
#[inline(always)]
pub(crate) fn around(policy: &Policy, generation: u32) -> Cgroup {
    if policy.cgroups & HAS_RULES == 0 {
        return Cgroup::NONE;
    }
    let id = matched_v2(generation);
    if id != 0 || policy.cgroups & HAS_V1_RULES == 0 {
        return Cgroup::v2(id);
    }
    Cgroup { id: matched_v1(generation, policy.hierarchy), v1: true }
}

#[inline(always)]
fn is_matched(generation: u32, v1: u32, id: u64) -> bool {
    // SAFETY: only asked whether it is there.
    unsafe { CGROUPS.get(CgroupKey { generation, v1, id }) }.is_some()
}

/// By its ancestors, since a process may make cgroups below the one that a rule names.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn matched_v2(generation: u32) -> u64 {
    let mut found = 0;
    let mut level = 1;
    while level <= DEPTH {
        // SAFETY: plain helper call; 0 below the task's own cgroup (`bpf_get_current_ancestor_cgroup_id`).
        let id = unsafe { bpf_get_current_ancestor_cgroup_id(level) };
        if id == 0 {
            break;
        }
        if is_matched(generation, 0, id) {
            found = id;
        }
        level += 1;
    }
    found
}

/// The same in a v1 hierarchy: no helper knows those, so the task's own list of cgroups is read (`struct css_set`).
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn matched_v1(generation: u32, hierarchy: u32) -> u64 {
    let node = node_in(hierarchy);
    let mut node = match node {
        Some(node) => node,
        None => return 0,
    };
    let mut level = 0;
    while level < DEPTH {
        let Some(id) = read::<u64>(node, KN_ID.load()) else { return 0 };
        if is_matched(generation, 1, id) {
            return id;
        }
        node = match read::<u64>(node, KN_PARENT.load()) {
            Some(parent) if parent != 0 => parent,
            _ => return 0,
        };
        level += 1;
    }
    0
}

/// The current task's directory in a hierarchy.
#[inline(always)]
fn node_in(hierarchy: u32) -> Option<u64> {
    // SAFETY: plain helper call.
    let task = unsafe { bpf_get_current_task() };
    let set = read::<u64>(task, TASK_CGROUPS.load())?;
    let head = set + CSS_SET_LINKS.load() as u64;
    let mut next = read::<u64>(head, 0)?;
    let mut seen = 0;
    while seen < HIERARCHIES && next != head {
        let link = next - LINK_NEXT.load() as u64;
        let cgroup = read::<u64>(link, LINK_CGROUP.load())?;
        if hierarchy_of(cgroup)? == hierarchy {
            return read::<u64>(cgroup, CGROUP_KN.load());
        }
        next = read::<u64>(next, 0)?;
        seen += 1;
    }
    None
}

/// Number of a cgroup's hierarchy; 0 for v2.
#[inline(always)]
pub(crate) fn hierarchy_of(cgroup: u64) -> Option<u32> {
    read::<u32>(read::<u64>(cgroup, CGROUP_ROOT.load())?, ROOT_HIERARCHY.load())
}

impl Exceptions for Generation {
    #[inline(always)]
    fn exception(&self, key: &ExceptionKey) -> Option<u8> {
        EXCEPTIONS.get(&Key::new(ExceptionKey::BITS, *key)).map(|action| *action as u8)
    }
}

/// What the exceptions say of a connection: an [`smtp_common::rule::Action`], 0 where none holds.
#[inline(always)]
pub(crate) fn excepted(policy: &Policy, account: Account, cgroup: Cgroup, port: Port, to: &Address) -> u8 {
    if policy.exceptions == 0 {
        return 0;
    }
    let packed = account.kind << 24 | (cgroup.v1 as u32) << 16 | port as u32;
    let (low, high) = to.halves();
    find_exception(packed, account.id, cgroup.id, low, high) as u8
}

/// A global function, so that its key and its callers' variables do not lie on the stack together.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn find_exception(packed: u32, id: u64, cgroup: u64, low: u64, high: u64) -> u32 {
    let Some((generation, policy)) = in_force() else { return 0 };
    let rules = Generation(generation);
    let cgroup = Cgroup { id: cgroup, v1: packed >> 16 & 0xff != 0 };
    let chain = if cgroup.is_some() { rules.chain_of(cgroup) } else { None };
    let marks = match chain {
        Some(chain) => chain.marks,
        None => [0; LINKS],
    };
    let account = Account::new(packed >> 24, id);
    let to = Address::from_halves(low, high);
    exception(&rules, generation, policy.exceptions, &marks, account, packed as Port, to) as u32
}
