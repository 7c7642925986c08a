//! connect() of an IPv6 socket, to an IPv6 or an IPv4-mapped address: the latter fires only here.
//!
//! `int tcp_v6_pre_connect(struct sock *sk, struct sockaddr *uaddr, int addr_len)`

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use smtp_common::connection::Address;

use crate::gate;

#[cgroup_sock_addr(connect6)]
pub(crate) fn connect6(ctx: SockAddrContext) -> i32 {
    // SAFETY: the context outlives the program; the verifier checks each field that is read.
    let sock_addr = unsafe { &*ctx.sock_addr };
    gate::connect(&ctx, sock_addr, true, |s| {
        // Word by word: the verifier refuses context reads through a pointer that was moved.
        // SAFETY: plain reads of the context's own fields.
        let word = |i: usize| unsafe { core::ptr::read_volatile(&raw const s.user_ip6[i]) };
        Address::v6([word(0), word(1), word(2), word(3)])
    })
}
