//! The soft band's other way: to the local MTA, which queues.
//!
//! The destination is rewritten before the kernel looks at it, and kept beside the socket, so that getpeername(2) tells
//! the client whom it asked for.

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext as _,
    bindings::{BPF_F_CURRENT_NETNS, BPF_SK_STORAGE_GET_F_CREATE, bpf_sock_addr, bpf_sock_tuple},
    helpers::generated::{bpf_sk_lookup_tcp, bpf_sk_release, bpf_sk_storage_delete, bpf_sk_storage_get},
    programs::SockAddrContext,
};
use smtp_common::{
    connection::{Address, Port},
    event::flag,
};

use crate::{identify::Task, maps::REDIRECTS};

/// The only port that is redirected: on 465 and 587 the client checks the server's certificate, and its password is not
/// for the local MTA.
const SMTP: Port = 25;

const TCP_LISTEN: u32 = 10;

/// `::ffff:0:0/96`, the third word in network order.
const MAPPED: u32 = 0x0000_ffff_u32.to_be();
const LOOPBACK4: u32 = 0x7f00_0001_u32.to_be();

/// Whom a redirected client asked for.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    address: Address,
    port: u32,
    _pad: u32,
}

/// Addresses a connection may be led to.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq)]
enum Home {
    V4 = 4,
    V6 = 6,
}

/// Leads a connection to the local MTA. False where that cannot be: another port, a container, a socket that is bound to
/// an interface, no MTA that listens, no memory.
#[inline(always)]
pub(crate) fn redirect(ctx: &SockAddrContext, task: &Task, destination: &Address, port: Port, v6: bool) -> bool {
    if port != SMTP || task.flags & flag::FOREIGN_NETNS != 0 {
        return false;
    }
    // SAFETY: plain reads of the context; the socket is never null here (`__cgroup_bpf_run_filter_sock_addr`).
    let (socket, interface) = unsafe {
        let socket = (*ctx.sock_addr).__bindgen_anon_1.sk;
        if socket.is_null() { (socket, 1) } else { (socket, (*socket).bound_dev_if) }
    };
    if socket.is_null() || interface != 0 {
        return false;
    }
    let home = if v6 && !destination.is_v4() && listens(ctx, Home::V6) {
        Home::V6
    } else if listens(ctx, Home::V4) {
        // An IPv6 socket reaches IPv4 by mapped addresses, unless it was told not to (IPV6_V6ONLY): then it fails.
        Home::V4
    } else {
        return false;
    };
    // SAFETY: the verifier has seen that the socket is one; the value is as long as the map's.
    let asked = unsafe {
        bpf_sk_storage_get(
            (&raw const REDIRECTS).cast_mut().cast(),
            socket.cast(),
            core::ptr::null_mut(),
            BPF_SK_STORAGE_GET_F_CREATE as u64,
        )
    }
    .cast::<Asked>();
    if asked.is_null() {
        return false;
    }
    // SAFETY: memory that lives as long as the socket does.
    unsafe { *asked = Asked { address: *destination, port: port as u32, _pad: 0 } };
    rewrite(ctx.sock_addr, home, v6);
    true
}

/// A socket that is connected again asks for somebody else.
#[inline(always)]
pub(crate) fn forget(ctx: &SockAddrContext) {
    // SAFETY: as in `redirect`.
    unsafe {
        let socket = (*ctx.sock_addr).__bindgen_anon_1.sk;
        if !socket.is_null() {
            bpf_sk_storage_delete((&raw const REDIRECTS).cast_mut().cast(), socket.cast());
        }
    }
}

#[inline(always)]
fn rewrite(sock_addr: *mut bpf_sock_addr, home: Home, v6: bool) {
    // The port is 25 already.
    // SAFETY: writes of single words of the context, which both hooks allow.
    unsafe {
        if !v6 {
            core::ptr::write_volatile(&raw mut (*sock_addr).user_ip4, LOOPBACK4);
            return;
        }
        let (third, fourth) = if home == Home::V6 { (0, 1_u32.to_be()) } else { (MAPPED, LOOPBACK4) };
        write6(sock_addr, &Address([0, 0, third, fourth]));
    }
}

/// # Safety
/// Only in a program on an IPv6 hook.
#[inline(always)]
unsafe fn write6(sock_addr: *mut bpf_sock_addr, address: &Address) {
    // SAFETY: as the caller says. Word by word: the verifier takes nothing larger.
    unsafe {
        core::ptr::write_volatile(&raw mut (*sock_addr).user_ip6[0], address.0[0]);
        core::ptr::write_volatile(&raw mut (*sock_addr).user_ip6[1], address.0[1]);
        core::ptr::write_volatile(&raw mut (*sock_addr).user_ip6[2], address.0[2]);
        core::ptr::write_volatile(&raw mut (*sock_addr).user_ip6[3], address.0[3]);
    }
}

/// Whether something listens on port 25 of loopback at this moment: asked of the kernel, so that it is true without an
/// agent too.
#[inline(always)]
fn listens(ctx: &SockAddrContext, home: Home) -> bool {
    // SAFETY: zero is a valid value of a structure of integers.
    let mut tuple: bpf_sock_tuple = unsafe { core::mem::zeroed() };
    let port = SMTP.to_be();
    // SAFETY: each part of the union is written before the helper reads it, and a socket it returns is given back.
    unsafe {
        let size = if home == Home::V4 {
            tuple.__bindgen_anon_1.ipv4.saddr = LOOPBACK4;
            tuple.__bindgen_anon_1.ipv4.daddr = LOOPBACK4;
            tuple.__bindgen_anon_1.ipv4.dport = port;
            size_of_val(&tuple.__bindgen_anon_1.ipv4)
        } else {
            tuple.__bindgen_anon_1.ipv6.saddr[3] = 1_u32.to_be();
            tuple.__bindgen_anon_1.ipv6.daddr[3] = 1_u32.to_be();
            tuple.__bindgen_anon_1.ipv6.dport = port;
            size_of_val(&tuple.__bindgen_anon_1.ipv6)
        };
        let netns = BPF_F_CURRENT_NETNS as u64;
        let found = bpf_sk_lookup_tcp(ctx.as_ptr(), &raw mut tuple, size as u32, netns, 0);
        if found.is_null() {
            return false;
        }
        let state = (*found).state;
        bpf_sk_release(found.cast::<c_void>());
        state == TCP_LISTEN
    }
}

/// Whom the client of a socket asked for, where that was not whom it reached.
#[inline(always)]
fn asked(ctx: &SockAddrContext) -> Option<&'static Asked> {
    // SAFETY: as in `redirect`. What lies there is written once, before the connection is made.
    unsafe {
        let socket = (*ctx.sock_addr).__bindgen_anon_1.sk;
        if socket.is_null() {
            return None;
        }
        let map = (&raw const REDIRECTS).cast_mut().cast();
        bpf_sk_storage_get(map, socket.cast(), core::ptr::null_mut(), 0).cast::<Asked>().as_ref()
    }
}

/// getpeername(2) of an IPv4 socket.
#[inline(always)]
pub(crate) fn tell_peer4(ctx: &SockAddrContext) {
    let Some(asked) = asked(ctx) else { return };
    // SAFETY: reads and writes of single words of the context. A socket that was connected elsewhere since tells the
    // truth.
    unsafe {
        if (*ctx.sock_addr).user_ip4 == LOOPBACK4 && (*ctx.sock_addr).user_port == SMTP.to_be() as u32 {
            core::ptr::write_volatile(&raw mut (*ctx.sock_addr).user_ip4, asked.address.0[3]);
        }
    }
}

/// The same of an IPv6 socket.
#[inline(always)]
pub(crate) fn tell_peer6(ctx: &SockAddrContext) {
    let Some(asked) = asked(ctx) else { return };
    // SAFETY: as above.
    unsafe {
        let word = |i: usize| core::ptr::read_volatile(&raw const (*ctx.sock_addr).user_ip6[i]);
        let now = Address([word(0), word(1), word(2), word(3)]);
        if now.is_loopback() && (*ctx.sock_addr).user_port == SMTP.to_be() as u32 {
            write6(ctx.sock_addr, &asked.address);
        }
    }
}
