//! Executions of sendmail-compatible programs: a submission without a connection.

use aya_ebpf::helpers::{bpf_ktime_get_boot_ns, generated::bpf_send_signal};
use smtp_common::{
    connection::{Account, Address, Attempt, Route},
    names::Binary,
    rule::{Action, Rules},
    tally::Unit,
};

use crate::{
    account::Generation,
    emit::{Outcome, count, event},
    identify::{current, identify_task, read},
    maps::{
        BPRM_FILE, CRED_EUID, FILE_INODE, IMAGES, INODE_INO, INODE_SB, INSTANCE, SB_DEV, SENDMAIL, TASK_CRED,
        TASK_START, TASK_TGID, TURN,
    },
    policy::in_force,
    surroundings::{around, excepted},
    units::{Who, charge, decide_attempt},
};

const SIGKILL: u32 = 9;

/// Of two loads of the probe that are attached at once, while one takes over from the other, one counts.
#[inline(always)]
fn is_our_turn() -> bool {
    matches!(TURN.get(0), Some(&turn) if turn == INSTANCE.load())
}

#[inline(always)]
fn binary(bprm: u64) -> Option<Binary> {
    let file = read::<u64>(bprm, BPRM_FILE.load())?;
    let inode = read::<u64>(file, FILE_INODE.load())?;
    let file_system = read::<u64>(inode, INODE_SB.load())?;
    Some(Binary {
        device: read::<u32>(file_system, SB_DEV.load())? as u64,
        inode: read::<u64>(inode, INODE_INO.load())?,
    })
}

/// Process id and start of a task.
#[inline(always)]
fn identity(task: u64) -> Option<(u32, u64)> {
    Some((read::<u32>(task, TASK_TGID.load())?, read::<u64>(task, TASK_START.load())?))
}

#[inline(always)]
fn effective_uid(task: u64) -> Option<u32> {
    read::<u32>(read::<u64>(task, TASK_CRED.load())?, CRED_EUID.load())
}

/// A process that runs such a program.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Image {
    /// When it began, in nanoseconds of the boot clock. Its number alone does not tell: numbers are used again.
    start: u64,
    /// 1 while it has other rights than its user, as far as is known.
    privileged: u64,
}

/// What is known of this very process.
#[inline(always)]
fn image(tgid: u32, start: u64) -> Option<Image> {
    // SAFETY: copied out at once; whoever writes it writes the same or removes it.
    unsafe { IMAGES.get(tgid) }.copied().filter(|image| image.start == start)
}

/// `task` is the current one, `bprm` what it has become.
#[inline(always)]
pub(crate) fn executed(task: u64, bprm: u64) {
    if !is_our_turn() {
        return;
    }
    let Some((tgid, start)) = identity(task) else { return };
    let image = image(tgid, start);
    let known = match binary(bprm) {
        // SAFETY: only asked whether it is there.
        Some(binary) => unsafe { SENDMAIL.get(binary) }.is_some(),
        None => false,
    };
    if !known {
        if image.is_some() {
            let _ = IMAGES.remove(tgid);
        }
        return;
    }
    // Exim executes itself to deliver what it has just taken, with its rights or as its own user: the same submission.
    match image {
        Some(image) if image.privileged != 0 || is_exempt() => {}
        _ => submit(task, tgid, start),
    }
}

/// Whether the current user is one that the policy exempts, as the MTA's own is.
#[inline(always)]
fn is_exempt() -> bool {
    let uid = current::uid();
    let Some((generation, _)) = in_force() else { return false };
    // What was said by hand of a user is not about what he is.
    let rule = Generation(generation).rule(Account::user(uid));
    matches!(rule, Some(rule) if rule.action == Action::Exempt as u8)
}

#[inline(always)]
fn submit(task: u64, tgid: u32, start: u64) {
    let Some((generation, policy)) = in_force() else { return };
    // SAFETY: plain helper call.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let who = identify_task(policy, generation, task);
    let cgroup = around(policy, generation);
    let attempt = Attempt {
        account: who.account,
        route: Route::Pipe,
        host_uid: who.host_uid,
        cgroup,
        exception: excepted(policy, who.account, cgroup, 0, &Address([0; 4])),
    };
    let mut answer = decide_attempt(&attempt, now);
    if policy.sessions != 0 && !answer.is_stop() {
        let message = charge(Who::of_attempt(&attempt), Unit::Message, 1, now);
        if message.is_stop() {
            answer = message;
        }
    }
    let (verdict, reason) = (answer.verdict_of(), answer.reason_of());
    count(who.account, 0, Route::Pipe, verdict);
    let outcome = Outcome { destination: Address([0; 4]), port: 0, route: Route::Pipe, verdict, reason, now };
    event(policy, &who, &outcome);
    if verdict.is_applied() {
        // The new program ends before its first instruction: signals are looked at on the way out of execve(2).
        // SAFETY: plain helper call on the current task.
        unsafe { bpf_send_signal(SIGKILL) };
        return;
    }
    // Only a program with rights of its own can be told by what it is: in another one its user's code may run, by way of
    // LD_PRELOAD or ptrace(2).
    if current::uid() == 0 || effective_uid(task) != Some(current::uid()) {
        let _ = IMAGES.insert(tgid, Image { start, privileged: 1 }, 0);
    }
}

/// A child of such a program is one too, until it becomes another program. Where the rights were given up before, what it
/// executes may be its user's doing: `exim -be` runs commands, and .forward files name them.
#[inline(always)]
pub(crate) fn forked(parent: u64, child: u64) {
    let Some((tgid, start)) = identity(parent) else { return };
    if !is_our_turn() || image(tgid, start).is_none() {
        return;
    }
    let uid = current::uid();
    let privileged = (uid == 0 || effective_uid(parent) != Some(uid)) as u64;
    if let Some((tgid, start)) = identity(child) {
        let _ = IMAGES.insert(tgid, Image { start, privileged }, 0);
    }
}
