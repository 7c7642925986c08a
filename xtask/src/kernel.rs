//! Whether this kernel loads a program of the probe's kind for us: asked as the tests will ask.

use std::io;

use anyhow::{Result, bail};
use nix::unistd::geteuid;

const PROG_LOAD: libc::c_long = 5;
const CGROUP_SOCK_ADDR: u32 = 18;
const CGROUP_INET4_CONNECT: u32 = 10;

/// The beginning of `union bpf_attr` for BPF_PROG_LOAD (include/uapi/linux/bpf.h), up to the last field we set.
#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

const _: () = assert!(size_of::<ProgLoad>() == 72);

/// `r0 = 1; exit`: let every connection pass.
const PASS: [u64; 2] = [0x0000_0001_0000_00b7, 0x0000_0000_0000_0095];

/// Fails with a sentence that says what is in the way.
pub(crate) fn must_load_programs() -> Result<()> {
    let Err(error) = load() else { return Ok(()) };
    let reason = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) if !geteuid().is_root() => {
            "run it as root: sudo -E env \"PATH=$PATH\" cargo xtask …"
        }
        Some(libc::EPERM | libc::EACCES) => {
            "root may not here: a container needs CAP_BPF and CAP_NET_ADMIN and a seccomp profile that lets bpf(2) pass"
        }
        Some(libc::ENOSYS) => "the kernel was built without BPF (CONFIG_BPF_SYSCALL)",
        Some(libc::EINVAL) => "the kernel was built without CONFIG_CGROUP_BPF, or is older than 4.17",
        _ => "see bpf(2)",
    };
    bail!("this kernel does not load a cgroup/connect4 program for us ({error}), and the tests need one; {reason}")
}

fn load() -> io::Result<()> {
    // A kernel that demands BTF of every program would say so by its error.
    let attr = ProgLoad {
        prog_type: CGROUP_SOCK_ADDR,
        insn_cnt: PASS.len() as u32,
        insns: PASS.as_ptr() as u64,
        license: c"Dual MIT/GPL".as_ptr() as u64,
        expected_attach_type: CGROUP_INET4_CONNECT,
        ..ProgLoad::default()
    };
    // SAFETY: `attr` and the two buffers it points to outlive the call, and its size is passed with it.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const attr, size_of::<ProgLoad>()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    unsafe { libc::close(fd as libc::c_int) };
    Ok(())
}
