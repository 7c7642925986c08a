//! A cgroup was made, or is about to go.
//!
//! `trace_cgroup_mkdir(struct cgroup *cgrp, const char *path)` at the end of `cgroup_mkdir`, before mkdir(2) returns, and
//! `trace_cgroup_rmdir`. Raw tracepoints: up to 5.15 a typed one may not read the path.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};

use crate::cgroups;

#[raw_tracepoint(tracepoint = "cgroup_mkdir")]
pub(crate) fn cgroup_made(ctx: RawTracePointContext) -> i32 {
    cgroups::made(ctx.arg(0), ctx.arg(1));
    0
}

#[raw_tracepoint(tracepoint = "cgroup_rmdir")]
pub(crate) fn cgroup_gone(ctx: RawTracePointContext) -> i32 {
    cgroups::gone(ctx.arg(0));
    0
}
