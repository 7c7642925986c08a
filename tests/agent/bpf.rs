//! What the tests ask of bpf(2) themselves: a witness of what is attached, and a program that is not ours.

use smtp_tests::{Cgroup, Must};
use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

// Numbers of linux/bpf.h.
const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_QUERY: libc::c_int = 16;
const CGROUP_SOCK_ADDR: u32 = 18;
const INET4_CONNECT: u32 = 10;
const INET6_CONNECT: u32 = 11;
const ALLOW_MULTI: u32 = 2;

#[repr(C)]
struct Load {
    kind: u32,
    instructions: u32,
    code: u64,
    license: u64,
    log: [u32; 4],
    kernel: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach_type: u32,
}

#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    attach_type: u32,
    flags: u32,
}

#[repr(C)]
struct Query {
    target: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    _pad: u32,
}

fn bpf<T>(command: libc::c_int, attr: &mut T) -> io::Result<i64> {
    // SAFETY: `attr` begins as the kernel's union does for `command`, and what it points to outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn open(cgroup: &Cgroup) -> File {
    File::open(cgroup.path()).must("cannot open the cgroup")
}

/// Programs attached to the connect hooks of a cgroup itself, whoever attached them.
#[track_caller]
pub(crate) fn attached(cgroup: &Cgroup) -> u32 {
    let target = open(cgroup);
    let count = |attach_type| {
        let target = target.as_raw_fd() as u32;
        let mut query = Query { target, attach_type, query_flags: 0, attach_flags: 0, ids: 0, count: 0, _pad: 0 };
        bpf(PROG_QUERY, &mut query).must("cannot ask what is attached to a cgroup");
        query.count
    };
    count(INET4_CONNECT) + count(INET6_CONNECT)
}

/// One instruction: operation, registers, offset, immediate value.
const fn instruction(op: u8, to: u8, from: u8, offset: i16, value: i32) -> u64 {
    op as u64 | ((from << 4 | to) as u64) << 8 | (offset as u16 as u64) << 16 | (value as u32 as u64) << 32
}

/// Whether a program lets others be attached beside it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Others {
    Tolerated,
    ShutOut,
}

/// Attaches a program of somebody else, which refuses IPv4 connections to one port, for as long as the cgroup
/// exists.
#[track_caller]
pub(crate) fn attach_foreign_program(cgroup: &Cgroup, refused_port: u16, others: Others) {
    const LOAD: u8 = 0x61;
    const SET: u8 = 0xb7;
    const UNLESS_EQUAL: u8 = 0x55;
    const EXIT: u8 = 0x95;
    // `user_port` of struct bpf_sock_addr, in network byte order.
    const PORT_AT: i16 = 24;
    let code = [
        instruction(LOAD, 2, 1, PORT_AT, 0),
        instruction(SET, 0, 0, 0, 1),
        instruction(UNLESS_EQUAL, 2, 0, 1, refused_port.to_be().into()),
        instruction(SET, 0, 0, 0, 0),
        instruction(EXIT, 0, 0, 0, 0),
    ];
    let license = c"GPL";
    let mut load = Load {
        kind: CGROUP_SOCK_ADDR,
        instructions: code.len() as u32,
        code: code.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log: [0; 4],
        kernel: 0,
        flags: 0,
        name: [0; 16],
        interface: 0,
        attach_type: INET4_CONNECT,
    };
    let fd = bpf(PROG_LOAD, &mut load).must("cannot load a program");
    // SAFETY: the kernel has just given us this descriptor.
    let program = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let target = open(cgroup);
    let mut attach = Attach {
        target: target.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        attach_type: INET4_CONNECT,
        flags: if others == Others::Tolerated { ALLOW_MULTI } else { 0 },
    };
    bpf(PROG_ATTACH, &mut attach).must("cannot attach a program");
}
