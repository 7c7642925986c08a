//! What is usual for each account: when it first sent, and how much it sends in an hour.
//!
//! An exponentially weighted mean and deviation of the attempts in each hour of the clock, of about a week. It is fed each
//! minute with the kernel's counters, and looks at their differences alone. Pure but for [`Baseline::open`] and
//! [`Baseline::save`].

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{Seconds, spool};

pub const NAME: &str = "baseline.json";
const VERSION: u32 = 1;
const LARGEST: usize = 64 << 20;
/// Accounts that are kept. Of more nothing is said.
const MOST: usize = 50_000;
/// One that has sent nothing for so long is forgotten, and would be new again.
const FORGOTTEN: Seconds = 90 * 24 * HOUR;

const HOUR: Seconds = 3600;
/// Hours that weigh: a week.
const WEIGHT: f64 = 168.0;
/// More hours without anything leave nothing of what was usual.
const SILENCE: u64 = 2000;
/// Counts that took longer to come than this are of no hour in particular: the agent did not run.
const GAP: Seconds = 10 * 60;

/// What is to be told, and when not to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    pub factor: f64,
    pub min: u64,
    pub learn: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Found {
    /// It never sent before.
    FirstTime,
    /// So many attempts in this hour, where so many are usual.
    Unusual { count: u64, usual: f64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Habit {
    /// When it was first and last seen sending.
    first: Seconds,
    active: Seconds,
    /// The kernel's count at the last look.
    total: u64,
    /// The hour that goes on, by its number since the epoch, and the attempts in it.
    hour: u64,
    count: u64,
    /// Hours that are over, and what they were like.
    hours: u32,
    mean: f64,
    variance: f64,
    /// The hour of which something was said.
    told: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    version: u32,
    /// Since when it learns.
    since: Seconds,
    /// When it looked last.
    seen: Seconds,
    accounts: BTreeMap<String, Habit>,
}

impl Habit {
    fn new(now: Seconds, total: u64) -> Self {
        let hour = now / HOUR;
        Self { first: now, active: now, total, hour, count: 0, hours: 0, mean: 0.0, variance: 0.0, told: 0 }
    }

    /// The most that is usual in an hour: mean and one deviation.
    fn usual(&self) -> f64 {
        self.mean + self.variance.sqrt()
    }

    fn threshold(&self, thresholds: &Thresholds) -> f64 {
        (self.usual() * thresholds.factor).max(thresholds.min as f64)
    }

    /// Ends the hours before `hour`.
    fn advance(&mut self, hour: u64, thresholds: &Thresholds) {
        if hour <= self.hour {
            return;
        }
        // What was unusual must not become usual at once.
        let count = (self.count as f64).min(self.threshold(thresholds));
        self.end_hour(count);
        let silent = hour - self.hour - 1;
        if silent > SILENCE {
            (self.mean, self.variance) = (0.0, 0.0);
        } else {
            (0..silent).for_each(|_| self.end_hour(0.0));
        }
        (self.hour, self.count) = (hour, 0);
    }

    fn end_hour(&mut self, count: f64) {
        self.hours = self.hours.saturating_add(1);
        // The first week is an ordinary mean.
        let weight = 1.0 / f64::from(self.hours).min(WEIGHT);
        let off = count - self.mean;
        self.mean += weight * off;
        self.variance = (1.0 - weight) * (self.variance + weight * off * off);
    }

    fn is_sound(&self) -> bool {
        [self.mean, self.variance].iter().all(|number| number.is_finite() && *number >= 0.0)
    }
}

impl Baseline {
    pub fn new(now: Seconds) -> Self {
        Self { version: VERSION, since: now, seen: 0, accounts: BTreeMap::new() }
    }

    /// Reads the file of a state directory. One that cannot be read is moved aside, and learning begins anew; the sentence
    /// says so.
    pub fn open(state: &Path, now: Seconds) -> (Self, Option<String>) {
        let path = state.join(NAME);
        let why = match spool::read(&path, LARGEST) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return (Self::new(now), None),
            Err(e) => e.to_string(),
            Ok(text) => match Self::parse(&text) {
                Ok(baseline) => return (baseline, None),
                Err(why) => why,
            },
        };
        let aside: PathBuf = state.join(format!("{NAME}.corrupt"));
        let moved = match fs::rename(&path, &aside) {
            Ok(()) => format!("it is {} now", aside.display()),
            Err(e) => format!("and it cannot be moved aside: {e}"),
        };
        let said = format!(
            "{} does not say what is usual: {why}; {moved}. First times and unusual rates are learned anew",
            path.display()
        );
        (Self::new(now), Some(said))
    }

    fn parse(text: &[u8]) -> Result<Self, String> {
        let baseline: Self = serde_json::from_slice(text).map_err(|e| e.to_string())?;
        if baseline.version != VERSION {
            return Err(format!("it is of version {}, and this smtp-agent knows version {VERSION}", baseline.version));
        }
        if !baseline.accounts.values().all(Habit::is_sound) || baseline.accounts.len() > MOST {
            return Err("it holds numbers that cannot be".to_owned());
        }
        Ok(baseline)
    }

    /// Writes the file, without those who have not sent for long.
    pub fn save(&mut self, state: &Path) -> io::Result<()> {
        let seen = self.seen;
        self.accounts.retain(|_, habit| seen.saturating_sub(habit.active) < FORGOTTEN);
        spool::replace(state, NAME, &serde_json::to_vec(self)?)
    }

    /// Looks at what each account has tried in all so far. Returns what is to be told of whom.
    pub fn look<'a>(
        &mut self,
        now: Seconds,
        totals: impl IntoIterator<Item = (&'a str, u64)>,
        thresholds: &Thresholds,
    ) -> Vec<(String, Found)> {
        self.since = self.since.min(now);
        let gap = self.seen == 0 || now.saturating_sub(self.seen) > GAP;
        self.seen = now;
        let learned = now - self.since >= thresholds.learn.as_secs();
        let mut found = Vec::new();
        for (account, total) in totals {
            let room = self.accounts.len() < MOST;
            let Some(habit) = self.accounts.get_mut(account) else {
                if total > 0 && room {
                    let mut habit = Habit::new(now, total);
                    if !gap {
                        habit.count = total;
                    }
                    if learned {
                        found.push((account.to_owned(), Found::FirstTime));
                    }
                    found.extend(check(account, &mut habit, learned, thresholds));
                    self.accounts.insert(account.to_owned(), habit);
                }
                continue;
            };
            // A count that has fallen began anew: after a reboot, or `detach`.
            let more = if total >= habit.total { total - habit.total } else { total };
            habit.total = total;
            habit.advance(now / HOUR, thresholds);
            if more == 0 {
                continue;
            }
            habit.active = now;
            if !gap {
                habit.count = habit.count.saturating_add(more);
                found.extend(check(account, habit, learned, thresholds));
            }
        }
        found
    }
}

/// Says it once in an hour.
fn check(account: &str, habit: &mut Habit, learned: bool, thresholds: &Thresholds) -> Option<(String, Found)> {
    let is_news = learned && habit.told != habit.hour;
    let over = habit.count >= thresholds.min && habit.count as f64 > habit.usual() * thresholds.factor;
    (is_news && over).then(|| {
        habit.told = habit.hour;
        (account.to_owned(), Found::Unusual { count: habit.count, usual: habit.usual() })
    })
}

#[cfg(test)]
mod tests;
