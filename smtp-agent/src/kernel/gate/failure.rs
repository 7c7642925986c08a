//! What the kernel refuses, in words that help.

use std::{io, path::Path};

use aya::{EbpfError, programs::ProgramError};
use smtp_common::names::program;

use crate::exit::Failure;

pub(super) fn broken_build(name: &str) -> Failure {
    Failure::unavailable(format!("the probe has no program {name}: this build is broken"))
}

/// The last lines of a chain of errors, which for a verifier's refusal is all a person can use.
fn tail(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    let lines: Vec<_> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    let skip = lines.len().saturating_sub(12);
    if skip > 0 { format!("{}\n  …\n{}", lines[0], lines[skip..].join("\n")) } else { lines.join("\n") }
}

fn io_cause<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e io::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io);
        }
        next = error.source();
    }
    None
}

pub(super) fn load_failure(error: &EbpfError) -> Failure {
    explain("the probe cannot be loaded", error)
}

pub(super) fn program_failure(name: &str, error: &ProgramError) -> Failure {
    explain(&format!("the program {name} cannot be used"), error)
}

/// A program that could be loaded lacks no rights; what the kernel then does not permit is company
/// (`hierarchy_allows_attach` and `__cgroup_bpf_attach`, kernel/bpf/cgroup.c).
pub(super) fn attach_failure(name: &str, cgroup: &Path, error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::PermissionDenied {
        let without =
            if program::FOLLOWERS.contains(&name) { ", or do without messages: [smtp] messages = false" } else { "" };
        return Failure::unavailable(format!(
            "the program {name} cannot be attached to {cgroup:?}: somebody's program there or above tolerates none \
             beside it; find it with `bpftool cgroup tree` and have it attached with BPF_F_ALLOW_MULTI{without}"
        ));
    }
    Failure::from_io(error, format!("the program {name} cannot be attached to {cgroup:?}"))
}

pub(super) fn explain(what: &str, error: &(dyn std::error::Error + 'static)) -> Failure {
    match io_cause(error) {
        // EPERM alone: EACCES is the verifier's no, and its words are what matters then.
        Some(io) if io.raw_os_error() == Some(libc::EPERM) => Failure::not_permitted(format!(
            "{what}: {io}; the kernel, a security module or a container's limits forbid it. Kernels before 5.11 also \
             count maps against RLIMIT_MEMLOCK: there, give LimitMEMLOCK=infinity or CAP_SYS_RESOURCE"
        )),
        _ => Failure::unavailable(format!("{what}: {}", tail(error))),
    }
}
