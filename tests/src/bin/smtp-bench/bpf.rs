//! The few things wanted of bpf(2): empty programs on cgroups and tracepoints, and how long a program ran.
//!
//! By hand, because aya loads object files only and these programs have two instructions.

use aya_obj::generated::{
    bpf_attach_type, bpf_attr, bpf_cmd, bpf_link_info, bpf_prog_info, bpf_prog_type, bpf_stats_type::BPF_STATS_RUN_TIME,
};
use smtp_tests::{Cgroup, Must};
use std::{
    ffi::{CStr, CString},
    fs::File,
    io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    time::Instant,
};

/// `r0 = 1; exit`: the least a program on any of these hooks can do.
const PASS: [u64; 2] = [0x0000_0001_0000_00b7, 0x0000_0000_0000_0095];

/// Where an empty program can hang.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Hook {
    Connect4,
    Ingress,
    Egress,
    SockOps,
    /// A tracepoint of the whole host.
    Tracepoint(&'static CStr),
}

impl Hook {
    fn program_type(self) -> bpf_prog_type {
        match self {
            Self::Connect4 => bpf_prog_type::BPF_PROG_TYPE_CGROUP_SOCK_ADDR,
            Self::Ingress | Self::Egress => bpf_prog_type::BPF_PROG_TYPE_CGROUP_SKB,
            Self::SockOps => bpf_prog_type::BPF_PROG_TYPE_SOCK_OPS,
            Self::Tracepoint(_) => bpf_prog_type::BPF_PROG_TYPE_RAW_TRACEPOINT,
        }
    }

    /// `None` where a program hangs otherwise.
    fn on_cgroup(self) -> Option<bpf_attach_type> {
        match self {
            Self::Connect4 => Some(bpf_attach_type::BPF_CGROUP_INET4_CONNECT),
            Self::Ingress => Some(bpf_attach_type::BPF_CGROUP_INET_INGRESS),
            Self::Egress => Some(bpf_attach_type::BPF_CGROUP_INET_EGRESS),
            Self::SockOps => Some(bpf_attach_type::BPF_CGROUP_SOCK_OPS),
            Self::Tracepoint(_) => None,
        }
    }
}

/// A program of the bench's own, attached until dropped.
pub(crate) struct Loaded {
    hook: Hook,
    pub(crate) program: OwnedFd,
    link: Option<OwnedFd>,
}

impl Loaded {
    /// The empty program, not attached yet.
    pub(crate) fn empty(hook: Hook) -> Self {
        let license = c"Dual MIT/GPL";
        let mut attr = zeroed_attr();
        attr.__bindgen_anon_3.prog_type = hook.program_type() as u32;
        attr.__bindgen_anon_3.expected_attach_type = hook.on_cgroup().map_or(0, |attach| attach as u32);
        attr.__bindgen_anon_3.insns = PASS.as_ptr() as u64;
        attr.__bindgen_anon_3.insn_cnt = PASS.len() as u32;
        attr.__bindgen_anon_3.license = license.as_ptr() as u64;
        let program = new_fd(bpf_cmd::BPF_PROG_LOAD, &mut attr).must(format_args!(
            "this kernel does not load an empty program for {hook:?}; it needs CONFIG_CGROUP_BPF and root"
        ));
        Self { hook, program, link: None }
    }

    pub(crate) fn attached_to(mut self, cgroup: &Cgroup) -> Self {
        let hook = self.hook;
        let directory = File::open(cgroup.path()).must("cannot open the cgroup of the empty program");
        let mut attr = zeroed_attr();
        attr.link_create.__bindgen_anon_1.prog_fd = self.program.as_raw_fd() as u32;
        attr.link_create.__bindgen_anon_2.target_fd = directory.as_raw_fd() as u32;
        attr.link_create.attach_type = hook.on_cgroup().must(format_args!("{hook:?} is not on a cgroup")) as u32;
        let link = new_fd(bpf_cmd::BPF_LINK_CREATE, &mut attr);
        self.link = Some(link.must(format_args!("the empty program cannot be attached as {hook:?}")));
        self
    }

    pub(crate) fn attached_to_tracepoint(mut self) -> Self {
        let Hook::Tracepoint(name) = self.hook else { panic!("{:?} is not on a tracepoint", self.hook) };
        let mut attr = zeroed_attr();
        attr.raw_tracepoint.name = name.as_ptr() as u64;
        attr.raw_tracepoint.prog_fd = self.program.as_raw_fd() as u32;
        let link = new_fd(bpf_cmd::BPF_RAW_TRACEPOINT_OPEN, &mut attr);
        self.link = Some(link.must(format_args!("the empty program cannot be attached as {:?}", self.hook)));
        self
    }

    pub(crate) fn runs(&self) -> Runs {
        Runs::of(&self.program)
    }
}

/// Nanoseconds of one run of a cgroup_skb program on a packet of no port in particular: the kernel runs it over and over
/// (`bpf_prog_test_run_skb`), the clock is read before and after. Its verdict must be to let the packet pass.
pub(crate) fn run_in_vitro(program: &OwnedFd, repeat: u32) -> f64 {
    // An Ethernet header and an IPv4 one, of which only the protocol and the version are looked at.
    let mut packet = [0u8; 64];
    packet[12] = 0x08;
    packet[14] = 0x45;
    let mut attr = zeroed_attr();
    attr.test.prog_fd = program.as_raw_fd() as u32;
    attr.test.data_in = packet.as_ptr() as u64;
    attr.test.data_size_in = packet.len() as u32;
    attr.test.repeat = repeat;
    let began = Instant::now();
    call(bpf_cmd::BPF_PROG_TEST_RUN, &mut attr).must("this kernel does not run a cgroup_skb program on request");
    let took = began.elapsed();
    // SAFETY: the kernel has filled in this member.
    let verdict = unsafe { attr.test.retval };
    assert!(verdict == 1, "a cgroup_skb program said {verdict} to a packet of no port: something else was measured");
    took.as_nanos() as f64 / f64::from(repeat)
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

    pub(crate) fn since(self, earlier: Self) -> Self {
        Self { nanos: self.nanos - earlier.nanos, count: self.count - earlier.count }
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self { nanos: self.nanos + other.nanos, count: self.count + other.count }
    }

    pub(crate) fn count(self) -> u64 {
        self.count
    }

    pub(crate) fn nanos(self) -> f64 {
        self.nanos as f64
    }

    /// Nanoseconds per run.
    pub(crate) fn mean(self) -> f64 {
        assert!(
            self.count > 0,
            "the kernel counted no run of the program: kernel.bpf_stats_enabled has no effect here"
        );
        self.nanos as f64 / self.count as f64
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
