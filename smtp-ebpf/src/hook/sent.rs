//! A packet leaves a socket.
//!
//! `int ip_finish_output(struct net *net, struct sock *sk, struct sk_buff *skb)` and `ip6_finish_output`, before it is cut
//! into segments.

use aya_ebpf::{macros::cgroup_skb, programs::SkBuffContext};

use crate::converse;

#[cgroup_skb(egress)]
pub(crate) fn sent(ctx: SkBuffContext) -> i32 {
    match converse::smtp_port(&ctx) {
        Some(port) => converse::sent(&ctx, port),
        None => converse::PASS,
    }
}
