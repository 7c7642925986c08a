//! The few things wanted of bpf(2): an empty program on a cgroup, and how long a program ran.
//!
//! By hand, because aya loads object files only and this program has two instructions.

use aya_obj::generated::{
    bpf_attach_type::BPF_CGROUP_INET4_CONNECT, bpf_attr, bpf_cmd, bpf_link_info, bpf_prog_info,
    bpf_prog_type::BPF_PROG_TYPE_CGROUP_SOCK_ADDR, bpf_stats_type::BPF_STATS_RUN_TIME,
};
use smtp_tests::{Cgroup, Must};
use std::{
    ffi::CString,
    fs::File,
    io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

/// `r0 = 1; exit`: the least a program on this hook can do.
const PASS: [u64; 2] = [0x0000_0001_0000_00b7, 0x0000_0000_0000_0095];

/// The empty program, attached until dropped.
pub(crate) struct Empty {
    program: OwnedFd,
    _link: OwnedFd,
}

impl Empty {
    pub(crate) fn attach(cgroup: &Cgroup) -> Self {
        let license = c"Dual MIT/GPL";
        let mut attr = zeroed_attr();
        attr.__bindgen_anon_3.prog_type = BPF_PROG_TYPE_CGROUP_SOCK_ADDR as u32;
        attr.__bindgen_anon_3.expected_attach_type = BPF_CGROUP_INET4_CONNECT as u32;
        attr.__bindgen_anon_3.insns = PASS.as_ptr() as u64;
        attr.__bindgen_anon_3.insn_cnt = PASS.len() as u32;
        attr.__bindgen_anon_3.license = license.as_ptr() as u64;
        let program = new_fd(bpf_cmd::BPF_PROG_LOAD, &mut attr)
            .must("this kernel does not load an empty cgroup/connect4 program; it needs CONFIG_CGROUP_BPF and root");

        let directory = File::open(cgroup.path()).must("cannot open the cgroup of the empty program");
        let mut attr = zeroed_attr();
        attr.link_create.__bindgen_anon_1.prog_fd = program.as_raw_fd() as u32;
        attr.link_create.__bindgen_anon_2.target_fd = directory.as_raw_fd() as u32;
        attr.link_create.attach_type = BPF_CGROUP_INET4_CONNECT as u32;
        let link = new_fd(bpf_cmd::BPF_LINK_CREATE, &mut attr).must("the empty program cannot be attached");
        Self { program, _link: link }
    }

    pub(crate) fn runs(&self) -> Runs {
        Runs::of(&self.program)
    }
}

/// The program behind a pinned link.
pub(crate) fn program_of_link(pin: &Path) -> OwnedFd {
    let path = CString::new(pin.as_os_str().as_bytes()).must("a pin's path holds a NUL");
    let mut attr = zeroed_attr();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    let link = new_fd(bpf_cmd::BPF_OBJ_GET, &mut attr)
        .must(format_args!("the gate's link cannot be opened at {}", pin.display()));
    let info: bpf_link_info = info(&link);
    let mut attr = zeroed_attr();
    attr.__bindgen_anon_6.__bindgen_anon_1.prog_id = info.prog_id;
    new_fd(bpf_cmd::BPF_PROG_GET_FD_BY_ID, &mut attr).must("the gate's program cannot be opened")
}

/// What the kernel has measured of a program since [`enable_statistics`].
#[derive(Clone, Copy)]
pub(crate) struct Runs {
    nanos: u64,
    count: u64,
}

impl Runs {
    pub(crate) fn of(program: &OwnedFd) -> Self {
        let info: bpf_prog_info = info(program);
        Self { nanos: info.run_time_ns, count: info.run_cnt }
    }

    /// Nanoseconds per run since an earlier reading.
    pub(crate) fn mean_since(self, earlier: Self) -> f64 {
        let count = self.count - earlier.count;
        assert!(count > 0, "the kernel counted no run of the program: kernel.bpf_stats_enabled has no effect here");
        (self.nanos - earlier.nanos) as f64 / count as f64
    }
}

/// Has the kernel time every BPF program until the handle is dropped. This makes each of them slower.
pub(crate) fn enable_statistics() -> OwnedFd {
    let mut attr = zeroed_attr();
    attr.enable_stats.type_ = BPF_STATS_RUN_TIME as u32;
    new_fd(bpf_cmd::BPF_ENABLE_STATS, &mut attr).must("this kernel does not time BPF programs; that needs 5.8")
}

/// Structures of the kernel that BPF_OBJ_GET_INFO_BY_FD fills: plain numbers, for which any bits are valid.
trait Info: Copy {}
impl Info for bpf_link_info {}
impl Info for bpf_prog_info {}

fn info<T: Info>(object: &OwnedFd) -> T {
    // SAFETY: all zeroes is a valid value of these structures (see `Info`).
    let mut info: T = unsafe { std::mem::zeroed() };
    let mut attr = zeroed_attr();
    attr.info.bpf_fd = object.as_raw_fd() as u32;
    attr.info.info_len = size_of::<T>() as u32;
    attr.info.info = (&raw mut info) as u64;
    call(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr).must("the kernel does not describe a BPF object");
    info
}

fn zeroed_attr() -> bpf_attr {
    // SAFETY: a union of structures of numbers, of which all zeroes is a valid value.
    unsafe { std::mem::zeroed() }
}

fn new_fd(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    let fd = call(command, attr)?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn call(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i32> {
    // SAFETY: `attr` is alive and its size is passed with it; what its pointers point to, the callers keep alive.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command as libc::c_long, &raw mut *attr, size_of::<bpf_attr>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}
