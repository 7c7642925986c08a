//! Hosts that lack something, made out of this one for a single process.

use nix::mount::{MsFlags, mount};
use smtp_tests::{
    Must,
    mountns::{MountNs, bind},
};
use std::{
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

/// Has `command` run as on a kernel called 2.6.something (personality(2), `UNAME26`).
pub(crate) fn old_kernel(command: &mut Command) {
    let pretend = || {
        // SAFETY: one number goes in, one comes out.
        let old = unsafe { libc::personality(libc::UNAME26 as libc::c_ulong) };
        if old < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: the closure makes one system call and allocates nothing.
    unsafe { command.pre_exec(pretend) };
}

/// Has `command` run where bpf(2) does not exist, as a container's seccomp filter may have it.
pub(crate) fn no_bpf(command: &mut Command) {
    const LOAD_WORD: u16 = 0x20;
    const IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let filter = move || {
        let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
        let mut program = [
            // The number of the system call: the first word of struct seccomp_data.
            step(LOAD_WORD, 0, 0, 0),
            step(IF_EQUAL, 0, 1, libc::SYS_bpf as u32),
            step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
            step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
        ];
        let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
        // SAFETY: `filter` and the program it points to live until the call has copied them.
        let set = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) == 0
        };
        if set { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: the closure makes two system calls and allocates nothing.
    unsafe { command.pre_exec(filter) };
}

/// Has `command` run as root without these capabilities.
pub(crate) fn without_capabilities(command: &mut Command, capabilities: &'static [libc::c_ulong]) {
    let drop = move || {
        for &capability in capabilities {
            // SAFETY: only numbers go in. execve(2) gives root no more than the bounding set.
            if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: the closure makes system calls and allocates nothing.
    unsafe { command.pre_exec(drop) };
}

/// Numbers of linux/capability.h.
pub(crate) mod capability {
    pub(crate) const NET_ADMIN: libc::c_ulong = 12;
    pub(crate) const SYS_ADMIN: libc::c_ulong = 21;
    pub(crate) const PERFMON: libc::c_ulong = 38;
    pub(crate) const BPF: libc::c_ulong = 39;
}

/// A view in which a directory is there and cannot be written to, not even by root.
pub(crate) fn read_only(dir: PathBuf) -> MountNs {
    MountNs::new(move || {
        bind(&dir, &dir);
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(None::<&str>, &dir, None::<&str>, flags, None::<&str>).must("cannot make a mount read-only");
    })
}

/// A view in which a directory is empty.
pub(crate) fn empty(dir: &'static str) -> MountNs {
    MountNs::new(move || {
        mount(Some("none"), Path::new(dir), Some("tmpfs"), MsFlags::MS_RDONLY, None::<&str>)
            .must(format_args!("cannot hide {dir}"));
    })
}
