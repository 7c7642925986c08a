//! The policy in force, asked by every hook in the same way.

use smtp_common::{
    connection::Port,
    names::PortSet,
    rule::{GENERATIONS, Policy},
};

use crate::maps::{ACTIVE, POLICY, PORTS};

/// The generation in force, and what it says besides its rules.
#[inline(always)]
pub(crate) fn in_force() -> Option<(u32, &'static Policy)> {
    let &generation = ACTIVE.get(0)?;
    let generation = generation & (GENERATIONS - 1);
    Some((generation, POLICY.get(generation)?))
}

/// The ports it looks at.
#[inline(always)]
pub(crate) fn ports() -> Option<&'static PortSet> {
    let &generation = ACTIVE.get(0)?;
    PORTS.get(generation)
}

/// The remote port as the contexts of packets and sockets hold it: in network order, in the upper half on little-endian
/// machines (`bpf_convert_ctx_access` and `sock_ops_convert_ctx_access`, net/core/filter.c).
#[inline(always)]
pub(crate) fn remote_port(raw: u32) -> Port {
    u16::from_be(if cfg!(target_endian = "little") { (raw >> 16) as u16 } else { raw as u16 })
}
