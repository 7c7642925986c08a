//! A process that attempts again and again is looked into once a second or two: a flood must not cost the agent what its
//! first attempt does.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use smtp_common::portrait::{Portrait, ProcessKey};

use super::{
    Attempt,
    culprit::{Culprit, how},
};

const FRESH: Duration = Duration::from_secs(2);

/// Processes that are remembered; then all are forgotten.
const MANY: usize = 1024;

#[derive(Default)]
pub(super) struct Again(Mutex<HashMap<ProcessKey, (Instant, u64, Culprit)>>);

/// Everything that the kernel says of it but the time.
pub(super) fn likeness(attempt: &Attempt<'_>, portrait: &Portrait) -> u64 {
    let event = attempt.event;
    let mut hasher = DefaultHasher::new();
    (event.account, event.uid, event.flags, event.comm, attempt.cgroup).hash(&mut hasher);
    (portrait.image, portrait.file, portrait.flags, portrait.login_uid, portrait.args()).hash(&mut hasher);
    for path in [&portrait.exe, &portrait.cwd] {
        path.flags.hash(&mut hasher);
        path.names().for_each(|name| name.hash(&mut hasher));
    }
    for ancestor in portrait.ancestors() {
        (ancestor.process, ancestor.uid, ancestor.comm).hash(&mut hasher);
    }
    hasher.finish()
}

impl Again {
    /// What was told of it, if nothing about it has changed since.
    pub(super) fn told(&self, process: ProcessKey, likeness: u64) -> Option<Culprit> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, like, culprit) = known.get(&process)?;
        (at.elapsed() < FRESH && *like == likeness).then(|| culprit.clone())
    }

    pub(super) fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(super) fn keep(&self, process: ProcessKey, likeness: u64, culprit: &Culprit) {
        // A worker of a web server serves one script after the other, and only its memory says which.
        let of_a_worker = [how::FPM, how::PHP, how::DIRECTORY];
        if culprit.script.as_ref().is_some_and(|script| of_a_worker.contains(&script.how.as_str())) {
            return;
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MANY {
            known.clear();
        }
        known.insert(process, (Instant::now(), likeness, culprit.clone()));
    }
}
