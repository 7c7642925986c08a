//! What is remembered of processes: who forked them, and what they were when they became the program they are. Both are
//! beyond the reach of a process that writes over its command line, changes its directory, removes its file or outlives
//! its parents.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;
use smtp_common::portrait::{Execution, Lineage, NAME_ROOM, ProcessKey, flag};

use crate::{
    maps::{
        BPRM_FILENAME, BPRM_INTERP, EXECUTIONS, FS_PWD, LINEAGE, NOTHING, TASK_FS, TASK_LEADER, TASK_MM, TASK_PARENT,
    },
    portrait::{comm_of, command_line, letter, process_of, uid_of, walk, word},
};

/// `task` is the current one, `bprm` what it has become.
#[inline(always)]
pub(crate) fn executed(task: u64, bprm: u64) {
    let process = process_of(task);
    let parent = match lineage_of(&process) {
        Some(lineage) => lineage.parent,
        None => process_of(word(task, TASK_PARENT.load())),
    };
    remember(process, &Lineage { parent, image: process, uid: uid_of(task), _pad: 0, comm: comm_of(task) });
    if let Some(execution) = room_for(&process) {
        // SAFETY: a live map value, which only this task writes: an execve(2) is alone in its process.
        unsafe { fill(task, bprm, execution) };
    }
}

/// What is remembered of a process.
#[inline(always)]
pub(crate) fn lineage_of(process: &ProcessKey) -> Option<&'static Lineage> {
    // SAFETY: read at once. Should the entry pass on to another process meanwhile, which takes tens of thousands of forks,
    // an ancestor is told wrongly; nothing is decided by it.
    unsafe { LINEAGE.get(process) }
}

#[inline(always)]
fn remember(process: ProcessKey, lineage: &Lineage) {
    let _ = LINEAGE.insert(process, lineage, 0);
}

/// The process's entry, empty.
#[inline(always)]
fn room_for(process: &ProcessKey) -> Option<*mut Execution> {
    EXECUTIONS.insert(process, NOTHING.get(0)?, 0).ok()?;
    EXECUTIONS.get_ptr_mut(process)
}

/// # Safety
/// `to` can be written.
#[inline(always)]
unsafe fn fill(task: u64, bprm: u64, to: *mut Execution) {
    let name = word(bprm, BPRM_FILENAME.load());
    // SAFETY: as promised by the caller; helpers write no more than they are given room for.
    unsafe {
        let (len, cut) = command_line(word(task, TASK_MM.load()), &raw mut (*to).args);
        let interpreted = if word(bprm, BPRM_INTERP.load()) == name { 0 } else { flag::INTERPRETED };
        let room = (&raw mut (*to).file).cast();
        let read = bpf_probe_read_kernel_str(room, NAME_ROOM as u32, name as *const core::ffi::c_void);
        let fits = read < NAME_ROOM as i64 || letter(name, NAME_ROOM as u32 - 1) == 0;
        (*to).args_len = len;
        (*to).flags = cut | interpreted | if fits { 0 } else { flag::FILE_CUT };
        walk(word(task, TASK_FS.load()) + FS_PWD.load() as u64, &raw mut (*to).cwd);
    }
}

/// `parent` is the current task; a new thread is no new process.
#[inline(always)]
pub(crate) fn forked(parent: u64, child: u64) {
    if word(child, TASK_LEADER.load()) != child {
        return;
    }
    let (process, parent_process) = (process_of(child), process_of(parent));
    let image = match lineage_of(&parent_process) {
        Some(lineage) => lineage.image,
        None => parent_process,
    };
    let lineage = Lineage { parent: parent_process, image, uid: uid_of(parent), _pad: 0, comm: comm_of(parent) };
    remember(process, &lineage);
}
