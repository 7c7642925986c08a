//! Who did it, without what differs from one process to the next: ten thousand processes of one cron job are one actor.

use serde::{Deserialize, Serialize};

use super::record::{Millis, Who};
use crate::attribution::Culprit;

/// How many of its processes an actor remembers, the latest first.
pub const PROCESSES: usize = 8;

/// What is a process's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub tgid: u32,
    pub started: Option<String>,
    /// Number and start of each process above it, its parent first.
    pub lineage: Vec<(u32, Option<String>)>,
    pub seen: Millis,
}

/// How much of a culprit is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Detail {
    All,
    /// Without command lines and directories, which may be different each time.
    NoCommands,
    /// Only the account.
    Nothing,
}

/// The culprit as all of its processes have it in common.
pub fn shape(culprit: &Culprit, detail: Detail) -> Culprit {
    if detail == Detail::Nothing {
        return Culprit::default();
    }
    let mut shape = culprit.clone();
    shape.started = None;
    for ancestor in &mut shape.lineage {
        (ancestor.tgid, ancestor.started) = (0, None);
    }
    if detail == Detail::NoCommands {
        (shape.command, shape.started_as, shape.cwd) = (None, None, None);
        shape.lineage.iter_mut().for_each(|ancestor| ancestor.command = None);
    }
    shape
}

pub fn process(who: &Who, seen: Millis) -> Process {
    let lineage = who.culprit.lineage.iter().map(|ancestor| (ancestor.tgid, ancestor.started.clone())).collect();
    Process { tgid: who.tgid, started: who.culprit.started.clone(), lineage, seen }
}

/// The culprit as it was in one of its processes.
pub fn whole(shape: &Culprit, process: Option<&Process>) -> Culprit {
    let mut culprit = shape.clone();
    let Some(process) = process else { return culprit };
    culprit.started = process.started.clone();
    for (ancestor, (tgid, started)) in culprit.lineage.iter_mut().zip(&process.lineage) {
        (ancestor.tgid, ancestor.started) = (*tgid, started.clone());
    }
    culprit
}

/// Puts a process at the head of those that are remembered.
pub fn remember(processes: &mut Vec<Process>, new: Process) {
    processes.retain(|known| (known.tgid, &known.started) != (new.tgid, &new.started));
    processes.insert(0, new);
    processes.truncate(PROCESSES);
}

/// What reports call its process: the program, else the thread in brackets.
pub fn process_name(who: &Who) -> String {
    who.culprit.exe.clone().unwrap_or_else(|| format!("[{}]", who.comm))
}

/// FNV-1a. Whoever finds a match compares the whole text, so collisions cost time alone.
pub fn hash(parts: &[&[u8]]) -> i64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let separated = parts.iter().flat_map(|part| part.iter().chain(&[0xff]));
    separated.fold(0xcbf2_9ce4_8422_2325, step) as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribution::culprit::Ancestor;

    fn culprit(tgid: u32, started: &str, command: &str) -> Culprit {
        let parent = Ancestor { tgid, started: Some(started.into()), comm: "cron".into(), ..Ancestor::default() };
        Culprit {
            exe: Some("/usr/bin/php".into()),
            started: Some(started.into()),
            command: Some(vec![command.into()]),
            lineage: vec![parent],
            ..Culprit::default()
        }
    }

    #[test]
    fn processes_of_one_job_have_one_shape_and_each_is_found_again_in_it() {
        let [one, two] = [culprit(7, "a", "x"), culprit(8, "b", "x")];
        let shape = shape(&one, Detail::All);
        assert_eq!(shape, super::shape(&two, Detail::All));
        for one in [one, two] {
            let who = Who {
                account: String::new(),
                kind: 1,
                uid: 0,
                tgid: 9,
                comm: String::new(),
                plan: None,
                culprit: one.clone().into(),
            };
            assert_eq!(whole(&shape, Some(&process(&who, 0))), one);
        }
    }

    #[test]
    fn command_lines_that_differ_each_time_are_left_out_where_there_are_too_many() {
        let [one, two] = [culprit(7, "a", "-Mc 1"), culprit(7, "a", "-Mc 2")];
        assert_ne!(shape(&one, Detail::All), shape(&two, Detail::All));
        assert_eq!(shape(&one, Detail::NoCommands), shape(&two, Detail::NoCommands));
        assert_eq!(shape(&one, Detail::NoCommands).exe.as_deref(), Some("/usr/bin/php"));
        assert_eq!(shape(&one, Detail::Nothing), Culprit::default());
    }

    #[test]
    fn only_the_latest_processes_are_remembered_each_once() {
        let one = |tgid, seen| Process { tgid, started: None, lineage: Vec::new(), seen };
        let mut all = Vec::new();
        (0..20).for_each(|n| remember(&mut all, one(n, n.into())));
        remember(&mut all, one(15, 99));
        let tgids: Vec<_> = all.iter().map(|process| process.tgid).collect();
        assert_eq!(tgids, [15, 19, 18, 17, 16, 14, 13, 12]);
        assert_eq!(all[0].seen, 99);
    }

    #[test]
    fn parts_of_a_hash_do_not_run_together() {
        assert_ne!(hash(&[b"ab", b"c"]), hash(&[b"a", b"bc"]));
    }
}
