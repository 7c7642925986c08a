//! What is wrong, how badly, where, and what to do about it.

use std::fmt;

use super::{place::Place, render};

/// An error keeps the configuration from being used; a warning does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Error,
    Warning,
}

impl Severity {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One finding. Later stages that know more (which users exist) make their own with the same shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub severity: Severity,
    pub message: String,
    pub place: Option<Place>,
    pub hint: Option<String>,
}

impl Problem {
    pub fn error(message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, message: message.into(), place: None, hint: None }
    }

    pub fn warning(message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(message) }
    }

    pub fn at(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub fn hint_opt(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }
}

/// Findings in the order of the files they stand in.
///
/// A hostile file can hold a million errors; beyond [`Problems::KEPT`] they are only counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    list: Vec<Problem>,
    errors: usize,
    warnings: usize,
}

impl Problems {
    pub const KEPT: usize = 500;

    pub fn push(&mut self, problem: Problem) {
        match problem.severity {
            Severity::Error => self.errors += 1,
            Severity::Warning => self.warnings += 1,
        }
        if self.list.len() < Self::KEPT {
            self.list.push(problem);
        }
    }

    pub fn extend(&mut self, other: Self) {
        self.errors += other.errors;
        self.warnings += other.warnings;
        let room = Self::KEPT.saturating_sub(self.list.len());
        self.list.extend(other.list.into_iter().take(room));
    }

    /// Those without a place first, then by file and position; the order of finding decides ties.
    pub fn sort(&mut self) {
        self.list.sort_by_key(|problem| problem.place.as_ref().map(Place::sort_key));
    }

    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    pub fn errors(&self) -> usize {
        self.errors
    }

    pub fn warnings(&self) -> usize {
        self.warnings
    }

    /// True when further problems would only be counted: no need to think about hints for them.
    pub(super) fn is_full(&self) -> bool {
        self.list.len() >= Self::KEPT
    }

    /// Problems that were counted and not kept.
    pub(super) fn left_out(&self) -> usize {
        self.errors + self.warnings - self.list.len()
    }

    /// "2 errors, 1 warning"
    pub fn summary(&self) -> String {
        let count = |n: usize, what: &str| match n {
            0 => None,
            1 => Some(format!("1 {what}")),
            n => Some(format!("{n} {what}s")),
        };
        let parts: Vec<_> =
            [count(self.errors, "error"), count(self.warnings, "warning")].into_iter().flatten().collect();
        if parts.is_empty() { "no errors".to_owned() } else { parts.join(", ") }
    }

    /// All of them as text for people, without a line break at the end.
    pub fn render(&self, color: bool) -> String {
        render::problems(self, color)
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        let mut problems = Self::default();
        problems.push(problem);
        problems
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Problems {}
