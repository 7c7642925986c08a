//! The cgroup around a process, and the exceptions that hold there.

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::{bpf_get_current_ancestor_cgroup_id, bpf_get_current_task, generated::bpf_skb_ancestor_cgroup_id},
    maps::lpm_trie::Key,
};
use smtp_common::{
    connection::{Account, Address, Port},
    level::{CgroupKey, ExceptionKey, Exceptions, LINKS, chain_flag, exception},
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

/// Levels of a hierarchy that are looked at; the walk ends with the task's own.
const DEPTH: i32 = 64;

/// Hierarchies a process can be in: one per v1 controller, and the named ones.
const HIERARCHIES: u32 = 24;

/// Hash of the path of the innermost cgroup around the current task that a rule matches; 0 for none. Of v1 where there is
/// none in v2, or where v1 closes.
#[inline(always)]
pub(crate) fn around(policy: &Policy, generation: u32) -> u64 {
    if policy.cgroups & HAS_RULES == 0 {
        return 0;
    }
    let path = matched_v2(generation);
    if policy.cgroups & HAS_V1_RULES == 0 {
        return path;
    }
    let in_v1 = matched_v1(generation, policy.hierarchy);
    if path == 0 || in_v1 != 0 && closes(generation, in_v1) != 0 { in_v1 } else { path }
}

/// Whether a cgroup's rules let nothing out.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn closes(generation: u32, path: u64) -> u32 {
    let chain = Generation(generation).chain_of(path);
    matches!(chain, Some(chain) if chain.has(chain_flag::CLOSED | chain_flag::BLOCKED)) as u32
}

#[inline(always)]
fn matched(generation: u32, v1: u32, id: u64) -> Option<u64> {
    // SAFETY: one word, read at once.
    unsafe { CGROUPS.get(CgroupKey { generation, v1, id }) }.copied()
}

/// By its ancestors, since a process may make cgroups below the one that a rule names.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn matched_v2(generation: u32) -> u64 {
    // SAFETY: plain helper call; 0 below the task's own cgroup (`bpf_get_current_ancestor_cgroup_id`).
    innermost(generation, |level| unsafe { bpf_get_current_ancestor_cgroup_id(level) })
}

/// The same of the cgroup that a packet's socket was made in: for sessions that began before there was a rule.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn matched_of_packet(skb: *mut __sk_buff) -> u64 {
    let Some((generation, policy)) = in_force() else { return 0 };
    if policy.cgroups & HAS_RULES == 0 {
        return 0;
    }
    // SAFETY: plain helper call; 0 as above (`__bpf_sk_ancestor_cgroup_id`).
    innermost(generation, |level| unsafe { bpf_skb_ancestor_cgroup_id(skb, level) })
}

#[inline(always)]
fn innermost(generation: u32, ancestor: impl Fn(i32) -> u64) -> u64 {
    let mut found = 0;
    let mut level = 1;
    while level <= DEPTH {
        let id = ancestor(level);
        if id == 0 {
            break;
        }
        if let Some(path) = matched(generation, 0, id) {
            found = path;
        }
        level += 1;
    }
    found
}

/// The same in a v1 hierarchy: no helper knows those, so the task's own list of cgroups is read (`struct css_set`).
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn matched_v1(generation: u32, hierarchy: u32) -> u64 {
    let Some(mut node) = node_in(hierarchy) else { return 0 };
    let mut level = 0;
    while level < DEPTH {
        let Some(id) = read::<u64>(node, KN_ID.load()) else { return 0 };
        if let Some(path) = matched(generation, 1, id) {
            return path;
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
pub(crate) fn excepted(policy: &Policy, account: Account, cgroup: u64, port: Port, to: &Address) -> u8 {
    if policy.exceptions == 0 {
        return 0;
    }
    let packed = account.kind << 24 | port as u32;
    let (low, high) = to.halves();
    find_exception(packed, account.id, cgroup, low, high) as u8
}

/// A global function, so that its key and its callers' variables do not lie on the stack together.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn find_exception(packed: u32, id: u64, cgroup: u64, low: u64, high: u64) -> u32 {
    let Some((generation, policy)) = in_force() else { return 0 };
    let rules = Generation(generation);
    let chain = if cgroup != 0 { rules.chain_of(cgroup) } else { None };
    let marks = match chain {
        Some(chain) => chain.marks,
        None => [0; LINKS],
    };
    let account = Account::new(packed >> 24, id);
    let to = Address::from_halves(low, high);
    exception(&rules, generation, policy.exceptions, &marks, account, packed as Port, to) as u32
}
