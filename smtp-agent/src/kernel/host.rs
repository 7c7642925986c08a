//! What the host must have before anything is loaded, each with the sentence that says so.

use aya::{programs::ProgramType, sys::is_helper_supported};
use aya_obj::generated::bpf_func_id;
use nix::sys::utsname::uname;

use super::btf::{Offsets, Told};
use crate::exit::{Failure, Result};

/// The oldest kernel whose helpers, links and ring buffer the probe can use.
pub const OLDEST_KERNEL: (u32, u32) = (5, 10);

/// Facts the probe is told before it is loaded.
#[derive(Debug, Clone, Copy)]
pub struct Host {
    pub offsets: Offsets,
    /// Whether a program can name the error a connect() fails with (`bpf_set_retval`, Linux 5.18).
    pub has_set_retval: bool,
    /// Whether programs on tracepoints may have hash tables that make their entries on demand. A kernel before 6.1 takes them as
    /// well, and warns in its log, with a trace as of a fault (`check_map_prog_compatibility`, 5.10): where
    /// `kernel.panic_on_warn` is set that is the end of the host.
    pub allocates_anywhere: bool,
    /// Whether programs on tracepoints can surely use all the helpers they need (`bpf_spin_lock` is refused to them on 5.10
    /// and taken on 6.1).
    pub must_trace: bool,
}

impl Host {
    pub fn probe() -> Result<Self> {
        let release = uname().map(|u| u.release().to_string_lossy().into_owned()).unwrap_or_default();
        check_release(&release)?;
        check_bpf()?;
        check_capabilities(&std::fs::read_to_string("/proc/self/status").unwrap_or_default())?;
        let Told { offsets, allocates_anywhere } =
            Told::by_this_kernel().map_err(|e| Failure::unavailable(e.to_string()))?;
        // Unknown counts as absent: the probe then refuses with EPERM, which every kernel can.
        let has_set_retval =
            is_helper_supported(ProgramType::CgroupSockAddr, bpf_func_id::BPF_FUNC_set_retval).unwrap_or(false);
        Ok(Self { offsets, has_set_retval, allocates_anywhere, must_trace: version(&release) >= (6, 1) })
    }
}

fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn check_release(release: &str) -> Result<()> {
    if version(release) < OLDEST_KERNEL {
        let (major, minor) = OLDEST_KERNEL;
        return Err(Failure::unavailable(format!(
            "this kernel is {release}; smtp-agent needs {major}.{minor} or newer (Debian 11, Ubuntu 22.04, RHEL 9 or later have it)"
        )));
    }
    Ok(())
}

/// Asks the kernel for something harmless: the next program id after the last there can be.
fn check_bpf() -> Result<()> {
    let error = super::sys::next_program_id_after_last();
    match error.raw_os_error() {
        Some(libc::ENOSYS) => Err(Failure::unavailable(
            "this kernel has no bpf(2), or the container's seccomp filter hides it; smtp-agent must run on the host itself, on a kernel with CONFIG_BPF_SYSCALL",
        )),
        Some(libc::EPERM | libc::EACCES) => {
            Err(Failure::from_io(&error, "the kernel does not let this process use bpf(2)"))
        }
        _ => Ok(()),
    }
}

/// Names the capabilities that are missing, which the kernel's EPERM does not (capabilities(7), the numbers are those
/// of linux/capability.h). `status` is the text of /proc/self/status.
fn check_capabilities(status: &str) -> Result<()> {
    const SYS_ADMIN: u32 = 21;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    // Without the line the kernel itself will say no, less clearly.
    let Some(have) = line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()) else { return Ok(()) };
    let has = |bit: u32| have >> bit & 1 == 1;
    let wanted = [
        ("CAP_BPF", 39, true),
        ("CAP_PERFMON", 38, true),
        ("CAP_NET_ADMIN", 12, true),
        ("CAP_DAC_READ_SEARCH", 2, false),
    ];
    let missing: Vec<_> = wanted
        .iter()
        .filter(|(_, bit, implied)| !(has(*bit) || *implied && has(SYS_ADMIN)))
        .map(|(name, ..)| *name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::not_permitted(format!(
        "Operation not permitted: this process lacks {}; run as root, or give these capabilities",
        missing.join(", ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Code;

    #[test]
    fn missing_capabilities_are_named() {
        let check = |mask: u64| check_capabilities(&format!("Name:\tx\nCapEff:\t{mask:016x}\n"));
        assert!(check(u64::MAX).is_ok());
        assert!(check(1 << 39 | 1 << 38 | 1 << 12 | 1 << 2).is_ok());
        assert!(check(1 << 21 | 1 << 2).is_ok(), "CAP_SYS_ADMIN stands for the older ones");
        assert!(check_capabilities("").is_ok());
        let refused = check(1 << 39 | 1 << 12).unwrap_err();
        assert_eq!(refused.code, Code::NotPermitted);
        assert!(refused.message.contains("lacks CAP_PERFMON, CAP_DAC_READ_SEARCH;"), "{refused}");
    }

    #[test]
    fn old_kernels_are_named_and_new_ones_pass() {
        for (release, passes) in [
            ("6.18.44-fc", true),
            ("5.10.0-30-amd64", true),
            ("5.9.16", false),
            ("4.18.0-553.el8_10.x86_64", false),
            ("2.6.78", false),
            ("10.0", true),
            ("", false),
        ] {
            let result = check_release(release);
            assert_eq!(result.is_ok(), passes, "{release}");
            if let Err(e) = result {
                assert_eq!(e.code, Code::Unavailable);
                assert!(e.message.contains("5.10"), "{e}");
            }
        }
    }
}
