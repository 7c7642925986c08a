//! connect() of an IPv4 socket.
//!
//! `int tcp_v4_pre_connect(struct sock *sk, struct sockaddr *uaddr, int addr_len)`, which every way to
//! connect passes: connect(2), TCP Fast Open, io_uring, MPTCP.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use smtp_common::connection::Address;

use crate::gate;

#[cgroup_sock_addr(connect4)]
pub(crate) fn connect4(ctx: SockAddrContext) -> i32 {
    // SAFETY: the context outlives the program; the verifier checks each field that is read.
    let sock_addr = unsafe { &*ctx.sock_addr };
    gate::connect(&ctx, sock_addr, false, |s| Address::v4(s.user_ip4))
}
