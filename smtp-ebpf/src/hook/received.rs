//! A packet has arrived for a socket.
//!
//! `int sk_filter_trim_cap(struct sock *sk, struct sk_buff *skb, unsigned int cap)`, before TCP has put it in its place.

use aya_ebpf::{macros::cgroup_skb, programs::SkBuffContext};

use crate::converse;

#[cgroup_skb(ingress)]
pub(crate) fn received(ctx: SkBuffContext) -> i32 {
    match converse::smtp_port(&ctx) {
        Some(port) => converse::received(&ctx, port),
        None => converse::PASS,
    }
}
