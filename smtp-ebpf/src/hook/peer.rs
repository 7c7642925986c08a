//! getpeername(2).
//!
//! `int inet_getname(struct socket *sock, struct sockaddr *uaddr, int peer)` and `inet6_getname` (Linux 5.8). 1 lets the
//! call succeed, which is all these hooks may answer.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};

use crate::redirect;

#[cgroup_sock_addr(getpeername4)]
pub(crate) fn peer4(ctx: SockAddrContext) -> i32 {
    redirect::tell_peer4(&ctx);
    1
}

#[cgroup_sock_addr(getpeername6)]
pub(crate) fn peer6(ctx: SockAddrContext) -> i32 {
    redirect::tell_peer6(&ctx);
    1
}
