//! A process has become another program, or has made another process.
//!
//! `trace_sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)` in `exec_binprm`, and
//! `trace_sched_process_fork(struct task_struct *parent, struct task_struct *child)` in `kernel_clone`. Raw tracepoints, as
//! those of cgroups.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};

use crate::lineage;

#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub(crate) fn executed(ctx: RawTracePointContext) -> i32 {
    lineage::executed(ctx.arg(0), ctx.arg(2));
    0
}

#[raw_tracepoint(tracepoint = "sched_process_fork")]
pub(crate) fn forked(ctx: RawTracePointContext) -> i32 {
    lineage::forked(ctx.arg(0), ctx.arg(1));
    0
}
