//! The kernel gate: every outbound SMTP connect() on the host is identified, decided, charged and counted
//! here, with or without an agent. hook -> identify -> decide (in `smtp-common`) -> account -> emit.
#![no_std]
#![no_main]
// The target has no compare-and-swap, so `AtomicU64` lacks `fetch_add`, which BPF does have (`BPF_ATOMIC | BPF_ADD`).
#![cfg_attr(target_arch = "bpf", feature(core_intrinsics), allow(internal_features))]

mod account;
mod cgroups;
mod converse;
mod emit;
mod follow;
mod gate;
mod hook;
mod identify;
mod lineage;
mod maps;
mod packet;
mod pipe;
mod policy;
mod portrait;
mod redirect;
mod route;
mod surroundings;
mod units;

/// The helpers used here (`bpf_get_current_task`, `bpf_probe_read_kernel`) are for GPL-compatible programs;
/// the sources are MIT or Apache-2.0, and this is the spelling the kernel knows (`license_is_gpl_compatible`).
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
pub static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The probe indexes only behind masks, so no panic is reachable and the verifier would refuse one.
    // SAFETY: never reached.
    unsafe { core::hint::unreachable_unchecked() }
}
