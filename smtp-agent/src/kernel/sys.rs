//! The bpf(2) and statfs(2) calls aya has no function for.
//!
//! aya 0.14 opens, creates and pins a cgroup link but cannot put another program behind a pinned one,
//! which is what lets an agent be replaced with no moment unguarded.

use std::{
    ffi::CString,
    io,
    mem::size_of,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use aya::Pod;
use aya_obj::generated::{bpf_attach_type, bpf_attr, bpf_cmd, bpf_link_info};

pub(super) fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i64> {
    // SAFETY: `attr` is a whole, zero-initialised union whose pointers the callers keep alive over the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command as u32, std::ptr::from_mut(attr), size_of::<bpf_attr>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

pub(super) fn zeroed() -> bpf_attr {
    // SAFETY: a union of plain integers, for which zero is valid.
    unsafe { std::mem::zeroed() }
}

/// Opens what is pinned at `path` (`BPF_OBJ_GET`, Linux 4.4).
pub fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = zeroed();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    let fd = bpf(bpf_cmd::BPF_OBJ_GET, &mut attr)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Pins an object at `path` (`BPF_OBJ_PIN`, Linux 4.4).
pub fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = zeroed();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    attr.__bindgen_anon_4.bpf_fd = object.as_raw_fd() as u32;
    bpf(bpf_cmd::BPF_OBJ_PIN, &mut attr).map(drop)
}

/// Attaches `program` to a cgroup (`BPF_LINK_CREATE`, `cgroup_bpf_link_attach`, Linux 5.7). Links always tolerate others
/// beside them.
pub fn attach_to_cgroup(program: BorrowedFd<'_>, cgroup: BorrowedFd<'_>, hook: bpf_attach_type) -> io::Result<OwnedFd> {
    let mut attr = zeroed();
    attr.link_create.__bindgen_anon_1.prog_fd = program.as_raw_fd() as u32;
    attr.link_create.__bindgen_anon_2.target_fd = cgroup.as_raw_fd() as u32;
    attr.link_create.attach_type = hook as u32;
    let fd = bpf(bpf_cmd::BPF_LINK_CREATE, &mut attr)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Attaches a tracing program to the tracepoint it was loaded for, or one for raw tracepoints to the one that is named
/// (`BPF_RAW_TRACEPOINT_OPEN`, Linux 4.17; a link since 5.8).
pub fn attach_to_tracepoint(program: BorrowedFd<'_>, tracepoint: Option<&str>) -> io::Result<OwnedFd> {
    let name = tracepoint.map(CString::new).transpose()?;
    let mut attr = zeroed();
    attr.raw_tracepoint.name = name.as_ref().map_or(0, |name| name.as_ptr() as u64);
    attr.raw_tracepoint.prog_fd = program.as_raw_fd() as u32;
    let fd = bpf(bpf_cmd::BPF_RAW_TRACEPOINT_OPEN, &mut attr)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Puts a value of `len` zeros beside a socket and takes it away again (`bpf_fd_sk_storage_update_elem`, Linux 5.2): tells
/// whether the kernel can.
pub fn try_socket_storage(map: BorrowedFd<'_>, socket: BorrowedFd<'_>, len: usize) -> io::Result<()> {
    let key = socket.as_raw_fd();
    let value = vec![0u8; len];
    let mut attr = zeroed();
    attr.__bindgen_anon_2.map_fd = map.as_raw_fd() as u32;
    attr.__bindgen_anon_2.key = &raw const key as u64;
    attr.__bindgen_anon_2.__bindgen_anon_1.value = value.as_ptr() as u64;
    bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr)?;
    // What a command has no use for must be zero (`CHECK_ATTR`, kernel/bpf/syscall.c).
    attr.__bindgen_anon_2.__bindgen_anon_1.value = 0;
    bpf(bpf_cmd::BPF_MAP_DELETE_ELEM, &mut attr).map(drop)
}

/// Puts `program` behind `link` in one step (`BPF_LINK_UPDATE`, `cgroup_bpf_replace`, Linux 5.7): a connect
/// meets either the old program or the new one, never both, never none.
pub fn replace_program(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = zeroed();
    attr.link_update.link_fd = link.as_raw_fd() as u32;
    attr.link_update.__bindgen_anon_1.new_prog_fd = program.as_raw_fd() as u32;
    bpf(bpf_cmd::BPF_LINK_UPDATE, &mut attr).map(drop)
}

/// Ends a link now (`BPF_LINK_DETACH`, Linux 5.9). Removing its last pin ends it too, but at some later moment:
/// `bpf_link_put` leaves that to a work queue.
pub fn detach_link(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = zeroed();
    attr.link_detach.link_fd = link.as_raw_fd() as u32;
    bpf(bpf_cmd::BPF_LINK_DETACH, &mut attr).map(drop)
}

/// The cgroup v2 id a link is attached to, or `None` when that cgroup is gone (`bpf_cgroup_link_fill_link_info`
/// then says 0, Linux 5.8).
pub fn cgroup_of_link(link: BorrowedFd<'_>) -> io::Result<Option<u64>> {
    // SAFETY: plain integers, for which zero is valid.
    let mut info: bpf_link_info = unsafe { std::mem::zeroed() };
    let mut attr = zeroed();
    attr.info.bpf_fd = link.as_raw_fd() as u32;
    attr.info.info_len = size_of::<bpf_link_info>() as u32;
    attr.info.info = &raw mut info as u64;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    // SAFETY: the kernel has filled the variant for cgroup links.
    let id = unsafe { info.__bindgen_anon_1.cgroup.cgroup_id };
    Ok((id != 0).then_some(id))
}

/// Waits until every BPF program that was running when this was called has ended.
///
/// cgroup programs run inside an RCU read-side section, and `MEMBARRIER_CMD_GLOBAL` is `synchronize_rcu()`
/// (kernel/sched/membarrier.c). Where it is not to be had (`nohz_full`), a tenth of a second is far longer
/// than a program of a few microseconds runs.
pub fn wait_for_running_programs() {
    const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
    // SAFETY: no pointers are passed.
    if unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) } != 0 {
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

/// Gives memory that was freed back to the kernel (malloc_trim(3)). A large configuration takes many times its size while
/// it is read, and the GNU C library keeps that.
pub fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes its own locks and touches only what is free.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Nanoseconds of `CLOCK_BOOTTIME`, the clock the probe reads.
pub fn boot_nanos() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).expect("every kernel since 2.6.39 has it");
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

/// The error the kernel answers to a harmless question of bpf(2), the program id after one there cannot be: `EINVAL`
/// (`bpf_obj_get_next_id`, Linux 4.13), or `ENOSYS` or `EPERM` where the whole call is not to be had.
pub fn next_program_id_after_last() -> io::Error {
    let mut attr = zeroed();
    attr.__bindgen_anon_6.__bindgen_anon_1.start_id = u32::MAX - 1;
    match bpf(bpf_cmd::BPF_PROG_GET_NEXT_ID, &mut attr) {
        Ok(_) => io::Error::from_raw_os_error(libc::ENOENT),
        Err(e) => e,
    }
}

/// Entries fetched by one system call, to begin with.
const BATCH: usize = 16_384;

/// Hands every entry of a hash map to `each`, many per system call (`BPF_MAP_LOOKUP_BATCH`,
/// `__htab_map_lookup_and_delete_batch`, Linux 5.6): two calls for each entry take seconds where a map is full.
pub fn entries<K: Pod, V: Pod>(map: BorrowedFd<'_>, mut each: impl FnMut(K, V)) -> io::Result<()> {
    // The kernel's cursor into a hash map: the number of the next bucket.
    let mut next: Option<u32> = None;
    let mut room = BATCH;
    loop {
        let mut keys = Vec::<K>::with_capacity(room);
        let mut values = Vec::<V>::with_capacity(room);
        let (from, mut to) = (next.unwrap_or(0), 0u32);
        let mut attr = zeroed();
        attr.batch.map_fd = map.as_raw_fd() as u32;
        attr.batch.in_batch = next.map_or(0, |_| &raw const from as u64);
        attr.batch.out_batch = &raw mut to as u64;
        attr.batch.keys = keys.as_mut_ptr() as u64;
        attr.batch.values = values.as_mut_ptr() as u64;
        attr.batch.count = room as u32;
        let last = match bpf(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attr) {
            Ok(_) => false,
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => true,
            // One bucket holds more than there is room for.
            Err(e) if e.raw_os_error() == Some(libc::ENOSPC) => {
                room *= 2;
                continue;
            }
            Err(e) => return Err(e),
        };
        // SAFETY: the kernel has written the count, and that many keys and values; every bit pattern of a `Pod`
        // is valid.
        let count = unsafe { attr.batch.count } as usize;
        // SAFETY: as above, and the count is never more than was asked for.
        unsafe {
            keys.set_len(count);
            values.set_len(count);
        }
        keys.into_iter().zip(values).for_each(|(key, value)| each(key, value));
        if last {
            return Ok(());
        }
        next = Some(to);
    }
}

/// Puts many entries into a hash map (`BPF_MAP_UPDATE_BATCH`, `generic_map_update_batch`, Linux 5.6). Those before the one
/// that fails are in it then.
pub fn insert_all<K: Pod, V: Pod>(map: BorrowedFd<'_>, keys: &[K], values: &[V]) -> io::Result<()> {
    assert_eq!(keys.len(), values.len());
    let mut attr = zeroed();
    attr.batch.map_fd = map.as_raw_fd() as u32;
    attr.batch.keys = keys.as_ptr() as u64;
    attr.batch.values = values.as_ptr() as u64;
    attr.batch.count = keys.len() as u32;
    // None is what the kernel calls invalid.
    if keys.is_empty() { Ok(()) } else { bpf(bpf_cmd::BPF_MAP_UPDATE_BATCH, &mut attr).map(drop) }
}

/// Removes many entries of a hash map, all of which are there (`BPF_MAP_DELETE_BATCH`, `generic_map_delete_batch`, Linux
/// 5.6).
pub fn remove_all<K: Pod>(map: BorrowedFd<'_>, keys: &[K]) -> io::Result<()> {
    let mut attr = zeroed();
    attr.batch.map_fd = map.as_raw_fd() as u32;
    attr.batch.keys = keys.as_ptr() as u64;
    attr.batch.count = keys.len() as u32;
    if keys.is_empty() { Ok(()) } else { bpf(bpf_cmd::BPF_MAP_DELETE_BATCH, &mut attr).map(drop) }
}
