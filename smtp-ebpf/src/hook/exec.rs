//! A process has become another program, which has not run an instruction yet.
//!
//! `trace_sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)` in `exec_binprm`.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use crate::pipe;

#[btf_tracepoint(function = "sched_process_exec")]
pub(crate) fn exec(ctx: BtfTracePointContext) -> i32 {
    pipe::executed(ctx.arg(0), ctx.arg(2));
    0
}
