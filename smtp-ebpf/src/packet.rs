//! The TCP segment in a packet: where its payload lies, and its place in the stream.

use aya_ebpf::{helpers::bpf_skb_load_bytes, programs::SkBuffContext};
use smtp_common::connection::Address;

const IPPROTO_TCP: u8 = 6;

/// Most extension headers of IPv6 that are passed over (RFC 8200, 4.1 has seven kinds).
const MAX_EXTENSIONS: u32 = 8;

pub(crate) mod tcp_flag {
    pub(crate) const FIN: u8 = 1;
    pub(crate) const SYN: u8 = 1 << 1;
    pub(crate) const RST: u8 = 1 << 2;
    pub(crate) const URG: u8 = 1 << 5;
}

pub(crate) struct Segment {
    pub(crate) seq: u32,
    /// Bits of [`tcp_flag`].
    pub(crate) flags: u8,
    /// Offset of the payload in the packet, and its length in octets.
    pub(crate) payload: u32,
    pub(crate) len: u32,
    /// Whether the network header is IPv6.
    pub(crate) is_v6: bool,
}

#[inline(always)]
fn load<const N: usize>(ctx: &SkBuffContext, at: u32) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    // SAFETY: the buffer is as long as it says; the helper fails beyond the packet's end.
    let result = unsafe { bpf_skb_load_bytes(ctx.skb.skb.cast(), at, bytes.as_mut_ptr().cast(), N as u32) };
    if result == 0 { Some(bytes) } else { None }
}

/// The packet begins with its network header (`__cgroup_bpf_run_filter_skb`).
#[inline(always)]
pub(crate) fn segment(ctx: &SkBuffContext) -> Option<Segment> {
    let head: [u8; 10] = load(ctx, 0)?;
    let is_v6 = head[0] >> 4 == 6;
    let transport = if is_v6 { after_extensions(ctx, head[6])? } else { (head[0] as u32 & 15) * 4 };
    if !is_v6 && head[9] != IPPROTO_TCP {
        return None;
    }
    let tcp: [u8; 14] = load(ctx, transport)?;
    let payload = transport + (tcp[12] as u32 >> 4) * 4;
    let total = ctx.len();
    Some(Segment {
        seq: u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]),
        flags: tcp[13],
        payload,
        len: total.saturating_sub(payload),
        is_v6,
    })
}

/// Where TCP begins behind an IPv6 header.
#[inline(always)]
fn after_extensions(ctx: &SkBuffContext, first: u8) -> Option<u32> {
    let mut at = 40;
    let mut next = first;
    let mut n = 0;
    while n < MAX_EXTENSIONS {
        if next == IPPROTO_TCP {
            return Some(at);
        }
        // Hop-by-hop, routing and destination options, which say how long they are in the same way.
        if next != 0 && next != 43 && next != 60 {
            return None;
        }
        let extension: [u8; 2] = load(ctx, at)?;
        next = extension[0];
        at += (extension[1] as u32 + 1) * 8;
        n += 1;
    }
    None
}

/// The address the packet comes from.
#[inline(always)]
pub(crate) fn source(ctx: &SkBuffContext, is_v6: bool) -> Option<Address> {
    address(ctx, is_v6, if is_v6 { 8 } else { 12 })
}

/// The address the packet goes to.
#[inline(always)]
pub(crate) fn destination(ctx: &SkBuffContext, is_v6: bool) -> Option<Address> {
    address(ctx, is_v6, if is_v6 { 24 } else { 16 })
}

#[inline(always)]
fn address(ctx: &SkBuffContext, is_v6: bool, at: u32) -> Option<Address> {
    if is_v6 {
        let bytes: [u8; 16] = load(ctx, at)?;
        let word = |i: usize| u32::from_ne_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]);
        Some(Address::v6([word(0), word(4), word(8), word(12)]))
    } else {
        load::<4>(ctx, at).map(|bytes| Address::v4(u32::from_ne_bytes(bytes)))
    }
}
