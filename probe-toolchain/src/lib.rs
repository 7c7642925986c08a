//! Which Rust toolchain and which linker build the kernel probe.
//!
//! The probe needs `core` built for a BPF target, hence a toolchain with the library's sources, and `bpf-linker`.
//! `smtp-agent/build.rs` asks here what to use and `cargo xtask setup` asks here what is missing, so that the two
//! never disagree. Nothing here installs, downloads or writes anything.

mod linker;
mod toolchain;

pub use linker::{LINKER_VERSION, Linker, LinkerMissing, find_linker};
pub use toolchain::{
    ENV, LINKED, MIN_RUSTC, Missing, Origin, Toolchain, examine_sysroot, find, has_rust_src, nightlies,
};

/// `major.minor.patch`, compared in that order.
pub type Version = (u32, u32, u32);

/// Reads the version at the start of `text`: `1.96.0`, `1.97.0-nightly (…)`, `22.1.8`.
pub fn parse_version(text: &str) -> Option<Version> {
    let numbers = text.trim().split(|c: char| c != '.' && !c.is_ascii_digit()).next()?;
    let mut parts = numbers.split('.').map(|part| part.parse().ok());
    let major = parts.next()??;
    let mut next = || parts.next().map_or(Some(0), |part| part);
    Some((major, next()?, next()?))
}

#[cfg(test)]
mod tests {
    use super::parse_version;

    #[test]
    fn a_version_is_read_with_and_without_what_follows_it() {
        assert_eq!(parse_version("1.96.0"), Some((1, 96, 0)));
        assert_eq!(parse_version("1.97.0-nightly (e50aa6fba 2026-05-19)"), Some((1, 97, 0)));
        assert_eq!(parse_version("22.1"), Some((22, 1, 0)));
        assert_eq!(parse_version(" 0.13.0\n"), Some((0, 13, 0)));
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for text in ["", "nightly", "x1.2.3", "1.", "."] {
            assert_eq!(parse_version(text), None, "{text:?}");
        }
    }
}
