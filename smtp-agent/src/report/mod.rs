//! What the history tells: reports, the culprit, a user's course of time. Made here, and written as JSON, CSV and HTML; how
//! they look on a terminal is the commands' business.
//!
//! It sees the store and nothing else of the agent. What only a running gate knows (what is left of a limit) it is given.
#![forbid(unsafe_code)]

pub mod alive;
pub mod chart;
pub mod csv;
pub mod html;
pub mod numbers;
pub mod period;
pub mod summary;
pub mod timeline;
pub mod who;

use std::{
    collections::HashMap,
    time::{Duration, UNIX_EPOCH},
};

use serde::Serialize;

pub use numbers::Numbers;
use numbers::grouped;
pub use summary::{Asked, Report};

use crate::store::{Counts, Millis, Reader, read::Period};

/// [`Left::level`] of an account's own limits.
pub const OWN: &str = "account";

/// What is left of one limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Left {
    /// Whose limit it is: `account`, or what accounts share: `plan`, `group`, `cgroup`, `host`.
    pub level: &'static str,
    /// `connection`, `message` or `recipient`.
    pub unit: &'static str,
    /// `hour` or `day`.
    pub window: &'static str,
    pub left: u64,
    pub limit: u64,
}

/// What is nearest to its end.
pub fn nearest_end(all: &[Left]) -> String {
    let share = |left: &Left| if left.limit == 0 { 0.0 } else { left.left as f64 / left.limit as f64 };
    let least = all.iter().min_by(|a, b| share(a).total_cmp(&share(b)));
    least.map_or_else(String::new, |least| {
        let unit = if least.unit == "connection" { String::new() } else { format!(" {}s", least.unit) };
        let whose = if least.level == OWN { String::new() } else { format!(" ({})", least.level) };
        let (left, limit) = (grouped(least.left as i64), grouped(least.limit as i64));
        let article = if least.window == "hour" { "an" } else { "a" };
        format!("{left}{unit} of {limit} {article} {}{whose}", least.window)
    })
}

/// What is left of the limits of each account, by name, where a gate tells.
pub type Quotas = HashMap<String, Vec<Left>>;

/// The time that an answer is of.
struct Span {
    period: Period,
    /// Where it begins and ends, or what was asked for where nothing of that is kept.
    since: String,
    until: String,
    note: Option<String>,
}

impl Span {
    fn of(reader: &Reader, wanted: Period, now: Millis) -> Self {
        let (period, beginning) = (reader.widened(wanted, now), reader.beginning(now));
        let shown = if period.is_empty() { wanted } else { period };
        let is_cut = wanted.from < beginning;
        Self {
            period,
            since: date(shown.from),
            until: date(shown.to.min(now)),
            note: is_cut.then(|| format!("the history begins at {}: nothing older is kept", date(beginning))),
        }
    }
}

/// RFC 3339, UTC, in whole seconds, or milliseconds where there are some.
pub fn date(time: Millis) -> String {
    let time = UNIX_EPOCH + Duration::from_millis(time.clamp(0, 253_402_300_799_999) as u64);
    humantime::format_rfc3339_millis(time).to_string().replacen(".000Z", "Z", 1)
}

/// In whole seconds.
pub fn seconds(time: Millis) -> String {
    date(time.div_euclid(1000) * 1000)
}

/// Most first; names decide between equals, so that the same question has the same answer.
fn rank<T>(rows: &mut [(String, T)], key: impl Fn(&T) -> i64) {
    rows.sort_by(|(a, x), (b, y)| key(y).cmp(&key(x)).then_with(|| a.cmp(b)));
}

fn sum<'a>(all: impl IntoIterator<Item = &'a Counts>) -> Counts {
    let mut sum = Counts::default();
    all.into_iter().for_each(|counts| sum += *counts);
    sum
}

#[cfg(test)]
mod tests;
