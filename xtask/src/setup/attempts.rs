//! One way after the other, remembering why each did not work.

use std::fmt;
use std::process::Command;
use std::time::Duration;

use anyhow::anyhow;

use crate::process::{limited, shown};
use crate::progress::Line;

/// The ways that did not work.
#[derive(Default)]
pub(super) struct Attempts(Vec<(String, String)>);

impl Attempts {
    pub(super) fn note(&mut self, way: impl fmt::Display, why: impl fmt::Display) {
        self.0.push((way.to_string(), why.to_string()));
    }

    /// Runs a command within its limit; true when it worked, noted when not.
    pub(super) fn command(&mut self, command: &mut Command, limit: Duration, line: &mut Line) -> bool {
        line.doing(shown(command));
        match limited(command, limit, line) {
            Ok(_) => true,
            Err(failure) => {
                self.note(shown(command), failure);
                false
            }
        }
    }

    /// Everything that was tried, and what is left to a person.
    pub(super) fn exhausted(self, by_hand: &str) -> anyhow::Error {
        let mut text = String::from("no way to install it worked");
        for (way, why) in &self.0 {
            text.push_str(&format!("\n  tried {way}: {why}"));
        }
        anyhow!("{text}\n  by hand: {by_hand}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_is_named_with_its_reason_and_the_remedy_comes_last() {
        let mut attempts = Attempts::default();
        let mut line = Line::silent();
        assert!(attempts.command(&mut Command::new("true"), Duration::from_secs(20), &mut line));
        assert!(!attempts.command(
            Command::new("sh").args(["-c", "echo no; exit 3"]),
            Duration::from_secs(20),
            &mut line
        ));
        attempts.note("asking nicely", "was refused");
        let text = attempts.exhausted("do it yourself").to_string();
        assert!(!text.contains("tried true"), "{text}");
        assert!(text.contains("sh -c 'echo no; exit 3': failed (exit status: 3)\n    | no"), "{text}");
        assert!(text.ends_with("tried asking nicely: was refused\n  by hand: do it yourself"), "{text}");
    }
}
