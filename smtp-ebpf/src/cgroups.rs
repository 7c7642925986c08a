//! Cgroups as they come and go: one whose path is known is held to its rule before its maker can use it.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;
use smtp_common::{
    counter::Loss,
    level::{CgroupKey, EMPTY_PATH_HASH, PATH_LEN, PathKey, path_hash_step},
    names::CgroupEvent,
    rule::GENERATIONS,
};

use crate::{
    emit::lost,
    identify::read,
    maps::{CGROUP_EVENTS, CGROUP_KN, CGROUPS, KN_ID, PATHS},
    policy::in_force,
    surroundings::hierarchy_of,
};

/// Hierarchy and number of a cgroup, if rules can be about it.
#[inline(always)]
fn place(cgroup: u64) -> Option<(u32, u64)> {
    let (_, policy) = in_force()?;
    let hierarchy = hierarchy_of(cgroup)?;
    if policy.cgroups == 0 || hierarchy != 0 && hierarchy != policy.hierarchy {
        return None;
    }
    Some((hierarchy, read::<u64>(read::<u64>(cgroup, CGROUP_KN.load())?, KN_ID.load())?))
}

/// `cgroup` is a `struct cgroup`, `path` its path below the hierarchy's root.
#[inline(always)]
pub(crate) fn made(cgroup: u64, path: u64) {
    let Some((hierarchy, id)) = place(cgroup) else { return };
    let v1 = (hierarchy != 0) as u32;
    let hash = hash_path(path);
    let mut known = false;
    let mut generation = 0;
    // Both: a reload may be half-way.
    while generation < GENERATIONS {
        // SAFETY: only asked whether it is there.
        if unsafe { PATHS.get(PathKey { generation, _pad: 0, hash }) }.is_some() {
            known = CGROUPS.insert(CgroupKey { generation, v1, id }, hash, 0).is_ok();
        }
        generation += 1;
    }
    // The agent looks whether a pattern matches a path that was never there before.
    if known {
        return;
    }
    let Some(mut event) = CGROUP_EVENTS.reserve(0) else { return lost(Loss::CgroupRingFull) };
    event.write(CgroupEvent { id, hierarchy, _pad: 0 });
    event.submit(0);
}

#[inline(always)]
pub(crate) fn gone(cgroup: u64) {
    let Some((hierarchy, id)) = place(cgroup) else { return };
    let v1 = (hierarchy != 0) as u32;
    let mut generation = 0;
    while generation < GENERATIONS {
        let _ = CGROUPS.remove(CgroupKey { generation, v1, id });
        generation += 1;
    }
}

/// [`smtp_common::level::path_hash`] of a string of the kernel's; that of nothing for one that is too long, which no path
/// has.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn hash_path(path: u64) -> u64 {
    let mut bytes = [0_u8; PATH_LEN];
    // SAFETY: reads at most as many octets as there is room for, and fails rather than faulting.
    let read = unsafe {
        bpf_probe_read_kernel_str(bytes.as_mut_ptr().cast(), PATH_LEN as u32, path as *const core::ffi::c_void)
    };
    // With the NUL at its end; one that fills the room may have been cut.
    if read <= 1 || read >= PATH_LEN as i64 {
        return EMPTY_PATH_HASH;
    }
    let mut hash = EMPTY_PATH_HASH;
    let mut i = 0;
    while i < PATH_LEN - 1 {
        let byte = bytes[i];
        if byte == 0 {
            break;
        }
        hash = path_hash_step(hash, byte);
        i += 1;
    }
    hash
}
