//! A process has a child.
//!
//! `trace_sched_process_fork(struct task_struct *parent, struct task_struct *child)` in `kernel_clone`.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use crate::pipe;

#[btf_tracepoint(function = "sched_process_fork")]
pub(crate) fn fork(ctx: BtfTracePointContext) -> i32 {
    pipe::forked(ctx.arg(0), ctx.arg(1));
    0
}
