//! One thing that is said by hand, and who said it when, until when and why.

use serde::{Deserialize, Serialize};

use super::{Subject, Time};

/// Longest reason, in characters.
const LONGEST_REASON: usize = 200;
/// Ten years of 365.25 days, which is what `10y` means.
pub const LONGEST_SECONDS: u64 = 315_576_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Says {
    Allowed,
    Blocked,
}

impl Says {
    pub const ALL: [Self; 2] = [Self::Allowed, Self::Blocked];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Blocked => "blocked",
        }
    }
}

/// Who said it. The name is that of then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct By {
    pub uid: u32,
    pub user: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub whom: Subject,
    pub says: Says,
    pub since: Time,
    /// `None`: until it is released.
    pub until: Option<Time>,
    pub reason: Option<String>,
    pub by: By,
}

impl Entry {
    pub fn holds(&self, now: Time) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// Why a reason cannot be kept, if so.
pub fn reason_fault(reason: &str) -> Option<String> {
    // What turns the direction of writing around makes a line read as something else.
    let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if reason.chars().count() > LONGEST_REASON {
        return Some(format!("the reason is longer than {LONGEST_REASON} characters; write a shorter one"));
    }
    let hidden = reason.chars().find(|&c| c.is_control() || turns(c))?;
    Some(format!("the reason contains the control character {}; write one line of plain text", hidden.escape_unicode()))
}

/// Why something cannot be said for so long, if so.
pub fn duration_fault(seconds: u64) -> Option<String> {
    let range = 1..=LONGEST_SECONDS;
    (!range.contains(&seconds))
        .then(|| "the time is not between 1s and 10y; write it as 30m, 2h or 7d, or leave it out for ever".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_line_of_text() {
        assert_eq!(reason_fault(""), None);
        assert_eq!(reason_fault(&"ü".repeat(200)), None);
        for wrong in ["a\nb", "\u{1b}[2J", "a\u{202e}b", "a\0b", &"x".repeat(201)] {
            assert!(reason_fault(wrong).is_some(), "{wrong:?}");
        }
    }

    #[test]
    fn a_time_is_between_a_second_and_ten_years() {
        let ten_years = humantime::parse_duration("10y").unwrap().as_secs();
        assert_eq!([1, 7200, ten_years].map(duration_fault), [None, None, None]);
        assert!([0, ten_years + 1, u64::MAX].map(duration_fault).iter().all(Option::is_some));
    }

    #[test]
    fn an_entry_holds_until_its_time_and_one_without_for_ever() {
        let entry = |until| Entry {
            whom: Subject::user("1").unwrap(),
            says: Says::Blocked,
            since: Time::EPOCH,
            until,
            reason: None,
            by: By { uid: 0, user: None },
        };
        let now = Time::EPOCH.after(10);
        assert!(entry(None).holds(now) && entry(Some(now.after(1))).holds(now));
        assert!(!entry(Some(now)).holds(now));
    }
}
