//! The failure brake of a plan as it is written.

use super::{
    limits::set,
    place::{Place, Spot},
    plan::{Brake, DEFAULT_MIN_FAILED, MAX_LIMIT, Release},
    problem::{Problem, Problems},
    reader::{Reader, Section},
};

#[derive(Default)]
pub(super) struct BrakeDraft {
    max_failed_percent: Option<Spot<u32>>,
    min_failed: Option<Spot<u32>>,
    release: Option<Spot<Release>>,
    /// `max_failed_percent` is written, though it may be wrong or misspelled.
    pub(super) written: bool,
}

impl BrakeDraft {
    pub(super) fn read(&mut self, reader: &mut Reader<'_>, section: &Section<'_>) {
        let percent = section.get("max_failed_percent");
        self.written |= percent.is_some() || section.has_unknown;
        set(&mut self.max_failed_percent, reader.number(percent, 1..=100));
        set(&mut self.min_failed, reader.number(section.get("min_failed"), 1..=MAX_LIMIT));
        set(&mut self.release, reader.release(section.get("release_after")));
    }

    /// A brake that does something else than it seems to. `complete` is false where a part of it may not have been read.
    pub(super) fn check(&self, complete: bool, problems: &mut Problems) {
        if let Some(Spot { value: 100, at }) = &self.max_failed_percent {
            let problem = Problem::warning("`max_failed_percent = 100` never brakes: no more than all can fail");
            problems.push(problem.at(at.clone()).hint("write a smaller share, or remove it"));
        }
        if self.written || !complete {
            return;
        }
        let minimum = self.min_failed.as_ref().map(|spot| ("min_failed", &spot.at));
        let release = self.release.as_ref().map(|spot| ("release_after", &spot.at));
        for (key, at) in minimum.into_iter().chain(release) {
            let problem = Problem::warning(format!("`{key}` does nothing without `max_failed_percent`"));
            problems.push(problem.at(at.clone()).hint("add max_failed_percent, or remove it"));
        }
    }

    pub(super) fn brake(&self) -> Option<Brake> {
        Some(Brake {
            max_failed_percent: self.max_failed_percent.as_ref()?.value,
            min_failed: self.min_failed.as_ref().map_or(DEFAULT_MIN_FAILED, |spot| spot.value),
            release: self.release.as_ref().map_or(Release::default(), |spot| spot.value),
        })
    }

    /// The key that works only where messages are followed.
    pub(super) fn of_messages(&self) -> impl Iterator<Item = (&'static str, &Place)> {
        self.max_failed_percent.iter().map(|spot| ("max_failed_percent", &spot.at))
    }
}
