//! Who did it, without what differs from one process to the next: ten thousand processes of one cron job are one actor.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::record::{Millis, Who};
use crate::attribution::Culprit;

/// Longest text that is kept, in octets.
pub const LONGEST: usize = 512;
/// The most octets that are kept of a culprit, as JSON.
pub const MOST: usize = 16 << 10;
/// Of a culprit that is longer even without its command lines: the longest texts, and how many parents and domains. No name
/// of a unit, a pod or a container that can be told to stop is longer (each has at most 255 octets).
const SHORT: usize = 256;
const FEW: usize = 4;
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

/// A text of bounded length.
pub fn cut(text: &str, longest: usize) -> Cow<'_, str> {
    if text.len() <= longest {
        return text.into();
    }
    format!("{}…", &text[..text.floor_char_boundary(longest - '…'.len_utf8())]).into()
}

/// A shape as it lies in the table. `None`: that would be too long, and less detail must do.
pub fn written(culprit: &Culprit, detail: Detail) -> Option<String> {
    let commands = || {
        let above = culprit.lineage.iter().map(|ancestor| &ancestor.command);
        above.chain([&culprit.command, &culprit.started_as]).flatten().flatten()
    };
    // Nobody writes megabytes to learn that they are too many.
    if detail == Detail::All && commands().map(String::len).sum::<usize>() > MOST {
        return None;
    }
    let fits = |shape: &Culprit| serde_json::to_string(shape).ok().filter(|text| text.len() <= MOST);
    let shape = shape(culprit, detail);
    fits(&shape).or_else(|| (detail == Detail::NoCommands).then(|| fits(&short(shape))).flatten())
}

/// What is left of a culprit whose very paths are too long.
fn short(mut shape: Culprit) -> Culprit {
    let shorten = |text: &mut String| *text = cut(text, SHORT).into_owned();
    shape.domains.truncate(FEW);
    shape.domains.iter_mut().for_each(shorten);
    shape.lineage.truncate(FEW);
    for ancestor in &mut shape.lineage {
        shorten(&mut ancestor.comm);
        [&mut ancestor.user, &mut ancestor.exe].into_iter().flatten().for_each(shorten);
    }
    let texts = [&mut shape.exe, &mut shape.login_user, &mut shape.unit, &mut shape.plan];
    texts.into_iter().flatten().for_each(shorten);
    shape.script.iter_mut().for_each(|script| [&mut script.path, &mut script.how].into_iter().for_each(shorten));
    shape.origin.iter_mut().for_each(|origin| [&mut origin.kind, &mut origin.name].into_iter().for_each(shorten));
    if let Some(container) = &mut shape.container {
        shorten(&mut container.id);
        container.name.iter_mut().for_each(shorten);
    }
    if let Some(pod) = &mut shape.pod {
        shorten(&mut pod.name);
        [&mut pod.namespace, &mut pod.container].into_iter().flatten().for_each(shorten);
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
    use crate::attribution::culprit::{Ancestor, Container, Origin, Pod, Script};

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
    fn a_culprit_is_never_longer_than_it_may_be_and_keeps_what_it_can() {
        let endless = || vec!["\\u{1}".repeat(20_000)];
        let mut culprit = culprit(7, "a", "x");
        culprit.command = Some(endless());
        assert_eq!(written(&culprit, Detail::All), None);
        let plain: Culprit = serde_json::from_str(&written(&culprit, Detail::NoCommands).unwrap()).unwrap();
        assert_eq!((plain.exe.as_deref(), plain.command), (Some("/usr/bin/php"), None));
        // One word short of the limit as it is, and beyond it as JSON.
        culprit.command = Some(vec!["\\".repeat(MOST - 9)]);
        assert_eq!(written(&culprit, Detail::All), None);
        let long = || "\\".repeat(9_000);
        let ancestor = Ancestor {
            user: Some(long()),
            exe: Some(long()),
            comm: long(),
            command: Some(endless()),
            ..Ancestor::default()
        };
        let all = Culprit {
            exe: Some(long()),
            cwd: Some(long()),
            command: Some(endless()),
            started_as: Some(endless()),
            script: Some(Script { path: long(), how: long() }),
            lineage: vec![ancestor; 8],
            origin: Some(Origin { kind: long(), name: long() }),
            login_user: Some(long()),
            unit: Some(long()),
            container: Some(Container { id: long(), name: Some(long()) }),
            pod: Some(Pod { namespace: Some(long()), name: long(), container: Some(long()) }),
            domains: vec![long(); 3_000],
            plan: Some(long()),
            ..Culprit::default()
        };
        let plain = written(&all, Detail::NoCommands).expect("what is cut fits");
        let plain: Culprit = serde_json::from_str(&plain).unwrap();
        assert!(plain.exe.unwrap().starts_with("\\") && plain.lineage.len() == FEW);
        assert_eq!(written(&all, Detail::Nothing).as_deref(), Some("{}"));
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let text = "ä".repeat(400);
        assert!(cut(&text, LONGEST).len() <= LONGEST && cut(&text, LONGEST).ends_with("ä…"));
        assert_eq!(cut("short", LONGEST), "short");
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
