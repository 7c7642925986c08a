//! The process behind an event: what it runs, where, as whose descendant.
//!
//! Read from the kernel's own structures at the moment of the attempt, since the process may be gone before anybody else
//! could look. Nothing is locked: who renames a directory meanwhile may have it told under either name.

use aya_ebpf::helpers::{
    bpf_get_current_pid_tgid, bpf_get_current_task,
    generated::{bpf_probe_read_kernel, bpf_probe_read_kernel_str, bpf_probe_read_user},
};
use smtp_common::{
    counter::Loss,
    names::Binary,
    portrait::{ANCESTORS, ARGS_LEN, Ancestor, NAME_ROOM, NAMES_LEN, ProcessKey, UNSET, Walked, flag, walked},
};

use crate::{
    emit::lost,
    lineage::lineage_of,
    maps::{
        CRED_UID, DENTRY_HASHED, DENTRY_NAME, DENTRY_PARENT, FILE_INODE, FILE_PATH, FS_PWD, INODE_INO, INODE_SB,
        MM_ARG_END, MM_ARG_START, MM_EXE_FILE, MNT_ROOT, MOUNT_MNT, MOUNT_PARENT, MOUNT_POINT, PATH_DENTRY, PATH_MNT,
        PORTRAITS, SB_DEV, TASK_COMM, TASK_CRED, TASK_FS, TASK_LEADER, TASK_LOGIN_UID, TASK_MM, TASK_PARENT,
        TASK_SESSION, TASK_START, TASK_TGID,
    },
};

/// Names and mounts that a path is followed through.
const STEPS: u32 = 48;

/// What the kernel has at `base + offset`, zeros where it has nothing: the helper clears what it cannot fill. Without a
/// branch, of which the verifier would follow both ways each time.
#[inline(always)]
fn peek<T>(base: u64, offset: u32, zero: T) -> T {
    let mut value = zero;
    // SAFETY: the helper checks the address, fails rather than faulting, and writes no more than the value.
    unsafe {
        let to = (&raw mut value).cast::<core::ffi::c_void>();
        bpf_probe_read_kernel(to, size_of::<T>() as u32, (base + offset as u64) as *const core::ffi::c_void);
    }
    value
}

#[inline(always)]
pub(crate) fn word(base: u64, offset: u32) -> u64 {
    peek(base, offset, 0_u64)
}

#[inline(always)]
pub(crate) fn half(base: u64, offset: u32) -> u32 {
    peek(base, offset, 0_u32)
}

#[inline(always)]
pub(crate) fn letter(base: u64, offset: u32) -> u8 {
    peek(base, offset, 0_u8)
}

#[inline(always)]
pub(crate) fn comm_of(task: u64) -> [u8; 16] {
    peek(task, TASK_COMM.load(), [0; 16])
}

/// The process that a thread is of; that of 0 is [`ProcessKey::NONE`].
#[inline(always)]
pub(crate) fn process_of(task: u64) -> ProcessKey {
    let leader = word(task, TASK_LEADER.load());
    ProcessKey { start: word(leader, TASK_START.load()), tgid: half(leader, TASK_TGID.load()), _pad: 0 }
}

#[inline(always)]
pub(crate) fn uid_of(task: u64) -> u32 {
    half(word(task, TASK_CRED.load()), CRED_UID.load())
}

/// Tells of the current task under this time. A global function: its loops are walked by the verifier once, whoever calls.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn portray(time: u64) -> u32 {
    let Some(mut entry) = PORTRAITS.reserve(0) else {
        lost(Loss::PortraitRingFull);
        return 0;
    };
    let to = entry.as_mut_ptr();
    // SAFETY: plain helper call.
    let task = unsafe { bpf_get_current_task() };
    let process = process_of(task);
    let mm = word(task, TASK_MM.load());
    let exe = word(mm, MM_EXE_FILE.load());
    // SAFETY: a record of the ring, as long as the type; what is not written below is beyond a length that is.
    unsafe {
        (*to).time = time;
        (*to).process = process;
        (*to).file = file(exe);
        (*to).tid = bpf_get_current_pid_tgid() as u32;
        (*to).login_uid = audited(task, TASK_LOGIN_UID.load());
        (*to).session = audited(task, TASK_SESSION.load());
        (*to).image = match lineage_of(&process) {
            Some(lineage) => lineage.image,
            None => process,
        };
        walk(exe + FILE_PATH.load() as u64, &raw mut (*to).exe);
        walk(word(task, TASK_FS.load()) + FS_PWD.load() as u64, &raw mut (*to).cwd);
        let (len, cut) = command_line(mm, &raw mut (*to).args);
        (*to).args_len = len;
        (*to).flags = cut;
        (*to).depth = ancestors(task, process, &raw mut (*to).ancestors);
        // Last, so that the verifier does not walk the rest both ways.
        if (*to).exe.len == 0 && (*to).exe.flags == 0 {
            name_alone(exe + FILE_PATH.load() as u64, &raw mut (*to).exe);
        }
    }
    entry.submit(0);
    1
}

#[inline(always)]
fn audited(task: u64, offset: u32) -> u32 {
    if offset == 0 { UNSET } else { half(task, offset) }
}

#[inline(always)]
fn file(file: u64) -> Binary {
    let inode = word(file, FILE_INODE.load());
    let file_system = word(inode, INODE_SB.load());
    Binary { device: half(file_system, SB_DEV.load()) as u64, inode: word(inode, INODE_INO.load()) }
}

/// The command line of an address space into `to`: how much of it there is, and [`flag::ARGS_CUT`] if there is more.
///
/// # Safety
/// `to` can be written.
#[inline(always)]
pub(crate) unsafe fn command_line(mm: u64, to: *mut [u8; ARGS_LEN]) -> (u32, u32) {
    let start = word(mm, MM_ARG_START.load());
    let long = word(mm, MM_ARG_END.load()) - start;
    let len = if long > ARGS_LEN as u64 { ARGS_LEN as u64 } else { long };
    // SAFETY: no more than there is room for. A page that is not there now makes it fail, not wait.
    let failed = unsafe { bpf_probe_read_user(to.cast(), len as u32, start as *const core::ffi::c_void) };
    let len = if failed == 0 { len as u32 } else { 0 };
    (len, if long > ARGS_LEN as u64 { flag::ARGS_CUT } else { 0 })
}

/// The names of a `struct path`, from the last one up to the root of its mount namespace: through `d_parent`, and at the
/// root of a mount to where it is mounted, as `prepend_path` (fs/d_path.c) goes.
///
/// # Safety
/// `to` can be written.
#[inline(always)]
pub(crate) unsafe fn walk(path: u64, to: *mut Walked) {
    let mut dentry = word(path, PATH_DENTRY.load());
    let mut mount = word(path, PATH_MNT.load()) - MOUNT_MNT.load() as u64;
    let mut flags = if word(dentry, DENTRY_HASHED.load()) == 0 { walked::DELETED } else { 0 };
    let mut at: u64 = 0;
    let mut step = 0;
    while step < STEPS {
        step += 1;
        let parent = word(dentry, DENTRY_PARENT.load());
        if dentry == word(mount + MOUNT_MNT.load() as u64, MNT_ROOT.load()) || dentry == parent {
            let above = word(mount, MOUNT_PARENT.load());
            if step == 1 {
                // The root of a file system is in no directory, and has not been deleted.
                flags = 0;
            }
            if above == mount {
                break;
            }
            dentry = word(mount, MOUNT_POINT.load());
            mount = above;
            continue;
        }
        if at >= NAMES_LEN as u64 || step == STEPS {
            flags |= walked::CUT;
            break;
        }
        // SAFETY: the mask changes nothing, and tells the verifier that a longest name fits behind it.
        let read = unsafe {
            let room = (&raw mut (*to).names).cast::<u8>().add(at as usize & (NAMES_LEN - 1));
            let name = word(dentry, DENTRY_NAME.load());
            bpf_probe_read_kernel_str(room.cast(), NAME_ROOM as u32, name as *const core::ffi::c_void)
        };
        if read <= 1 {
            flags |= walked::UNREADABLE;
            break;
        }
        at += read as u64;
        dentry = parent;
    }
    if step == STEPS {
        // Nobody has looked at what is above the last step.
        flags |= walked::CUT;
    }
    // SAFETY: as promised by the caller.
    unsafe {
        (*to).len = at as u32;
        (*to).flags = flags;
    }
}

/// The name of a file that is in no directory, as of a memfd: its dentry is its own parent, and it only ever had a name
/// (`d_alloc_pseudo`, fs/dcache.c). Not for directories, of which a root is such a one too.
///
/// # Safety
/// `to` can be written.
#[inline(always)]
unsafe fn name_alone(path: u64, to: *mut Walked) {
    let name = word(word(path, PATH_DENTRY.load()), DENTRY_NAME.load());
    // SAFETY: as promised by the caller; a longest name fits.
    unsafe {
        let room = (&raw mut (*to).names).cast::<core::ffi::c_void>();
        let read = bpf_probe_read_kernel_str(room, NAME_ROOM as u32, name as *const core::ffi::c_void);
        if read > 1 {
            (*to).len = read as u32;
            (*to).flags = walked::DELETED;
        }
    }
}

/// The processes above it, and how many. Who forked it is remembered beyond the parent's death, after which the kernel
/// only knows a foster parent.
///
/// # Safety
/// `to` can be written.
#[inline(always)]
unsafe fn ancestors(task: u64, process: ProcessKey, to: *mut [Ancestor; ANCESTORS]) -> u32 {
    let mut task = task;
    let mut process = process;
    let mut depth = 0;
    while depth < ANCESTORS {
        let above = word(task, TASK_PARENT.load());
        let living = process_of(above);
        let parent = match lineage_of(&process) {
            Some(lineage) => lineage.parent,
            None => living,
        };
        if parent.tgid == 0 {
            break;
        }
        // Where the true parent has died, nothing is left of it but what was remembered.
        task = if parent.start == living.start && parent.tgid == living.tgid { above } else { 0 };
        // SAFETY: as promised by the caller; the index is below the length.
        unsafe {
            let ancestor = (&raw mut (*to)).cast::<Ancestor>().add(depth & (ANCESTORS - 1));
            (*ancestor).process = parent;
            (*ancestor)._pad = 0;
            if task != 0 {
                (*ancestor).uid = uid_of(task);
                (*ancestor).comm = comm_of(task);
            } else {
                match lineage_of(&parent) {
                    Some(lineage) => {
                        (*ancestor).uid = lineage.uid;
                        (*ancestor).comm = lineage.comm;
                    }
                    None => {
                        (*ancestor).uid = UNSET;
                        (*ancestor).comm = [0; 16];
                    }
                }
            }
        }
        process = parent;
        depth += 1;
    }
    depth as u32
}
