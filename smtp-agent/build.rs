//! Builds the kernel probe, so that a plain `cargo build` builds everything.

use anyhow::{Context as _, anyhow};
use aya_build::{Package, Toolchain};

fn main() -> anyhow::Result<()> {
    println!("cargo:rerun-if-changed=../smtp-common");
    println!("cargo:rerun-if-env-changed={}", probe_toolchain::ENV);
    let toolchain = probe_toolchain::find().map_err(|missing| anyhow!("{missing}"))?;
    probe_toolchain::find_linker().map_err(|missing| anyhow!("{missing}"))?;
    // The child's progress would come out as warnings of this crate; its real warnings still do.
    // SAFETY: a build script that has started no thread.
    unsafe { std::env::set_var("CARGO_TERM_QUIET", "true") };
    if toolchain.bootstrap {
        // `-Z build-std` on a stable compiler: for the probe's own cargo only, which inherits it from here.
        // SAFETY: a build script that has started no thread.
        unsafe { std::env::set_var("RUSTC_BOOTSTRAP", "1") };
    }
    let root_dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../smtp-ebpf");
    let probe = Package { name: "smtp-ebpf", root_dir, ..Package::default() };
    aya_build::build_ebpf([probe], Toolchain::Custom(&toolchain.name)).context("the kernel probe did not build")
}
