//! The soft band's other way: to the local MTA, which queues.
//!
//! The destination is rewritten before the kernel looks at it, and kept beside the socket, so that getpeername(2) tells
//! the client whom it asked for.

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext as _,
    bindings::{BPF_F_CURRENT_NETNS, BPF_SK_STORAGE_GET_F_CREATE, bpf_sock, bpf_sock_addr, bpf_sock_tuple},
    helpers::generated::{bpf_sk_lookup_tcp, bpf_sk_release, bpf_sk_storage_delete, bpf_sk_storage_get},
    programs::SockAddrContext,
};
use smtp_common::{
    connection::{Address, Port},
    event::flag,
};

use crate::{
    identify::{Task, kernel_socket, read},
    maps::{REDIRECTS, SOCK_V6ONLY, TCP_IS_MPTCP},
};

/// The only port that is redirected: on 465 and 587 the client checks the server's certificate, and its password is not
/// for the local MTA.
const SMTP: Port = 25;

const TCP_LISTEN: u32 = 10;
const IPPROTO_MPTCP: u32 = 262;

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

/// Leads a connection to the local MTA. What came of it, as flags of the event.
#[inline(always)]
pub(crate) fn redirect(ctx: &SockAddrContext, task: &Task, destination: &Address, port: Port, v6: bool) -> u16 {
    if port != SMTP || task.flags & flag::FOREIGN_NETNS != 0 {
        return flag::NOT_REDIRECTED;
    }
    let (low, high) = destination.halves();
    let found = find_home(ctx.sock_addr, low, high, v6 as u32);
    let home = if found == Home::V4 as u32 {
        Home::V4
    } else if found == Home::V6 as u32 {
        Home::V6
    } else {
        return found as u16;
    };
    rewrite(ctx.sock_addr, home, v6);
    flag::REDIRECTED
}

/// A [`Home`], with a note beside the socket of who was asked for; or flags of the event where there is none: the socket is
/// bound or MPTCP's, no MTA listens, no memory. A global function, so that what it looks up is not on the stack when others
/// need theirs.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn find_home(ctx: *mut bpf_sock_addr, low: u64, high: u64, v6: u32) -> u32 {
    const NO: u32 = flag::NOT_REDIRECTED as u32;
    let (ctx, v6) = (SockAddrContext::new(ctx), v6 != 0);
    // SAFETY: a plain read of the context; the socket is never null here (`__cgroup_bpf_run_filter_sock_addr`).
    let socket = unsafe { (*ctx.sock_addr).__bindgen_anon_1.sk };
    if socket.is_null() || is_bound(socket, v6) {
        return NO;
    }
    let manner = manner_of(ctx.sock_addr);
    // SAFETY: a plain read of the context. Kernels differ in which of the two sockets they show.
    if manner & manner::MULTIPATH != 0 || unsafe { (*ctx.sock_addr).protocol } == IPPROTO_MPTCP {
        return NO;
    }
    let destination = Address::from_halves(low, high);
    let home = if v6 && !destination.is_v4() && listens(&ctx, Home::V6) {
        Home::V6
    } else if manner & manner::V6_ONLY == 0 && listens(&ctx, Home::V4) {
        // An IPv6 socket reaches IPv4 by mapped addresses.
        Home::V4
    } else {
        return NO | flag::NO_LOCAL_MTA as u32;
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
        return NO;
    }
    // SAFETY: memory that lives as long as the socket does.
    unsafe { *asked = Asked { address: destination, port: SMTP as u32, _pad: 0 } };
    home as u32
}

/// Whether a socket has an interface or an address of its own. The one may not lead to loopback; with the other the MTA
/// would see a client that is not at loopback, and may refuse for good what it is sent.
#[inline(always)]
fn is_bound(socket: *const bpf_sock, v6: bool) -> bool {
    // SAFETY: plain reads of the socket, word by word.
    unsafe {
        if (*socket).bound_dev_if != 0 {
            return true;
        }
        if !v6 {
            return (*socket).src_ip4 != 0;
        }
        let word = |i: usize| core::ptr::read_volatile(&raw const (*socket).src_ip6[i]);
        (word(0) | word(1) | word(2) | word(3)) != 0
    }
}

/// Bits of [`manner_of`].
mod manner {
    /// An IPv6 socket that was told to keep away from IPv4 (IPV6_V6ONLY, or the sysctl `bindv6only`).
    pub(super) const V6_ONLY: u32 = 1;
    /// One of the connections that an MPTCP socket is made of. getpeername(2) is asked of the MPTCP socket, and cannot be
    /// answered there.
    pub(super) const MULTIPATH: u32 = 2;
}

/// What no field of the context tells of a socket. A global function, so that what it reads does not lie on the stack with
/// all.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn manner_of(ctx: *mut bpf_sock_addr) -> u32 {
    /// `skc_ipv6only` comes after four bits and one (`struct sock_common`, include/net/sock.h).
    const IPV6ONLY: u8 = 1 << 5;
    let Some(socket) = kernel_socket(&SockAddrContext::new(ctx)) else { return 0 };
    let has = |offset: u32, bits: u8| offset != 0 && read::<u8>(socket, offset).is_some_and(|byte| byte & bits != 0);
    let mut manner = 0;
    if has(SOCK_V6ONLY.load(), IPV6ONLY) {
        manner |= manner::V6_ONLY;
    }
    if has(TCP_IS_MPTCP.load(), u8::MAX) {
        manner |= manner::MULTIPATH;
    }
    manner
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
