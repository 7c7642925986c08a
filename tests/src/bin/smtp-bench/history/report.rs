//! The table.

use crate::stats::Summary;
use std::fmt::{self, Formatter};

/// What each answer may take, in milliseconds.
const AT_MOST: f64 = 1_000.0;

/// What was measured of one question: milliseconds.
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) took: Summary,
}

pub(crate) struct Report {
    pub(crate) lines: Vec<Line>,
    /// Seconds.
    pub(crate) written: f64,
    /// Octets.
    pub(crate) size: u64,
    pub(crate) events: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let size = self.size as f64 / f64::from(1 << 20);
        writeln!(
            f,
            "{} million events of 31 days: {size:.0} MiB on the disk, {:.0} octets for each, written at {:.0} a second.\n",
            self.events / 1_000_000,
            self.size as f64 / self.events as f64,
            self.events as f64 / self.written
        )?;
        writeln!(f, "| question | ms | p10 to p90 | at most | |\n|---|---:|---:|---:|---|")?;
        for Line { name, took: Summary { median, p10, p90 } } in &self.lines {
            let verdict = if *median <= AT_MOST { "met" } else { "missed" };
            writeln!(f, "| {name} | {median:.0} | {p10:.0} to {p90:.0} | {AT_MOST:.0} | {verdict} |")?;
        }
        Ok(())
    }
}
