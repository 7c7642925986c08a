//! The processes above a process, as far as they were ever known: who has ended since is told as it was.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use smtp_common::portrait::ProcessKey;

use super::culprit::Ancestor;

/// Processes that are remembered; then all are forgotten, and learned anew.
const MANY: usize = 4096;

type Line = Vec<(ProcessKey, Ancestor)>;

#[derive(Default)]
pub(super) struct Families(Mutex<HashMap<ProcessKey, Line>>);

impl Families {
    /// What is known now of the processes above `process`, with what was known of the same ones before.
    pub(super) fn complete(&self, process: ProcessKey, mut now: Line) -> Vec<Ancestor> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = known.get(&process)
            && now.iter().zip(before).all(|((a, _), (b, _))| a == b)
        {
            for ((_, one), (_, was)) in now.iter_mut().zip(before) {
                fill(one, was);
            }
            let more = before.iter().skip(now.len()).cloned();
            now.extend(more);
        }
        if known.len() >= MANY {
            known.clear();
        }
        known.insert(process, now.clone());
        now.into_iter().map(|(_, ancestor)| ancestor).collect()
    }
}

/// Only what is not known now: a process may have become another program.
fn fill(one: &mut Ancestor, was: &Ancestor) {
    if one.comm.is_empty() {
        one.comm.clone_from(&was.comm);
    }
    one.uid = one.uid.or(was.uid);
    one.user = one.user.take().or_else(|| was.user.clone());
    one.exe = one.exe.take().or_else(|| was.exe.clone());
    one.command = one.command.take().or_else(|| was.command.clone());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(tgid: u32) -> ProcessKey {
        ProcessKey { start: 7, tgid, _pad: 0 }
    }

    fn one(tgid: u32, exe: Option<&str>) -> (ProcessKey, Ancestor) {
        let comm = exe.map_or_else(String::new, str::to_owned);
        (key(tgid), Ancestor { tgid, comm, exe: exe.map(str::to_owned), ..Ancestor::default() })
    }

    #[test]
    fn parents_that_have_ended_are_told_as_they_were_and_others_are_not_made_up() {
        let families = Families::default();
        let whole = families.complete(key(9), vec![one(5, Some("sh")), one(4, Some("bash")), one(1, Some("init"))]);
        let later = families.complete(key(9), vec![one(5, Some("sh")), one(4, None)]);
        assert_eq!(later, whole);
        let became = families.complete(key(9), vec![one(5, Some("perl")), one(4, None)]);
        assert_eq!((became[0].exe.as_deref(), became.len()), (Some("perl"), 3));
        // Other parents under the same number, and another process.
        assert_eq!(families.complete(key(9), vec![one(6, None)]).len(), 1);
        assert_eq!(families.complete(key(8), vec![one(5, None)])[0].exe, None);
    }
}
