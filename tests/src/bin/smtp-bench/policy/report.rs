//! The tables.

use super::{
    cases::{Case, GROUPS, NESTED, Part, Size, Who},
    load::{Load, Loaded, grouped},
};
use crate::stats::{Summary, median};
use std::fmt::{self, Formatter};

/// What the size of a policy may add to the program's run, in nanoseconds.
const FLAT: f64 = 50.0;

/// What was measured of one case: nanoseconds, one value for each round.
pub(crate) struct Line {
    pub(crate) case: Case,
    /// connect() that finds no route.
    pub(crate) took: Vec<f64>,
    /// The kernel's own timing of the program.
    pub(crate) program: Vec<f64>,
}

impl Line {
    pub(crate) fn new(case: Case) -> Self {
        Self { case, took: Vec::new(), program: Vec::new() }
    }
}

pub(crate) struct Report {
    pub(crate) lines: Vec<Line>,
    /// Connections that the agents counted, all of them the bench's.
    pub(crate) counted: u64,
    pub(crate) loads: Vec<Loaded>,
}

impl Report {
    fn line(&self, case: Case) -> &Line {
        self.lines.iter().find(|line| line.case == case).expect("every case has a line")
    }

    fn added(&self, case: Case, base: Case) -> Summary {
        Summary::of_differences(&self.line(case).took, &self.line(base).took)
    }

    fn program_added(&self, case: Case, base: Case) -> f64 {
        Summary::of_differences(&self.line(case).program, &self.line(base).program).median
    }

    fn loads(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| policy | in force after | p10 to p90 | of it: files | names and rules | agent, MiB | maps, MiB |"
        )?;
        writeln!(f, "|---|---:|---:|---:|---:|---:|---:|")?;
        for Loaded { load, reload, files, rules, memory } in &self.loads {
            let Summary { median, p10, p90 } = reload;
            let mebibytes = |octets: u64| octets as f64 / f64::from(1 << 20);
            writeln!(
                f,
                "| {} | {median:.1} | {p10:.1} to {p90:.1} | {files:.1} | {rules:.1} | {:.1} | {:.1} |",
                load.name(),
                mebibytes(memory.agent),
                mebibytes(memory.maps)
            )?;
        }
        Ok(())
    }

    fn sizes(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "| a connect() under | one rule | all | more | p10 to p90 | the program |")?;
        writeln!(f, "|---|---:|---:|---:|---:|---:|")?;
        for Size { name, few, many } in Size::all() {
            let Summary { median: more, p10, p90 } = self.added(many, few);
            let took = |case| median(&self.line(case).took);
            let program = self.program_added(many, few);
            let (few, many) = (took(few), took(many));
            writeln!(f, "| {name} | {few:.0} | {many:.0} | {more:+.0} | {p10:+.0} to {p90:+.0} | {program:+.0} |")?;
        }
        Ok(())
    }

    fn parts(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "| a connect() with | purses | took | added | p10 to p90 | the program |")?;
        writeln!(f, "|---|---:|---:|---:|---:|---:|")?;
        let plain = median(&self.line(Case::PLAIN).took);
        writeln!(f, "| a rule of its own | 0 | {plain:.0} | | | |")?;
        for Part { name, case, purses } in Part::all() {
            let Summary { median: added, p10, p90 } = self.added(case, Case::PLAIN);
            let program = self.program_added(case, Case::PLAIN);
            let took = median(&self.line(case).took);
            writeln!(f, "| {name} | {purses} | {took:.0} | {added:+.0} | {p10:+.0} to {p90:+.0} | {program:+.0} |")?;
        }
        let groups = self.added(Part::GROUPS, Part::TOTAL).median / f64::from(GROUPS);
        let look = self.added(Part::LOOK, Case::PLAIN).median;
        let cgroups = (self.added(Part::EVERYTHING, Part::GROUPS).median - look) / f64::from(NESTED);
        writeln!(
            f,
            "\nEach further purse: {groups:+.0} for a group; {cgroups:+.0} for a cgroup, the look for its rule apart."
        )
    }

    fn aims(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut aim = |what: &str, value: f64, unit: &str, at_most: f64| {
            let verdict = if value <= at_most { "met" } else { "missed" };
            writeln!(f, "| {what} | {value:.1} {unit} | {at_most:.0} {unit} | {verdict} |")
        };
        // The kernel's own timing, on which a busy host tells least. What caches take is in the table.
        for Size { name, few, many } in Size::all().into_iter().filter(|size| size.few.who != Who::InTurn) {
            aim(&format!("the program, more for {name}"), self.program_added(many, few), "ns", FLAT)?;
        }
        for (load, reload, at_most) in self.loads.iter().filter_map(|l| Some((l.load, l.reload, l.load.at_most()?))) {
            aim(&format!("{} in force", Load::name(load)), reload.median, "ms", at_most)?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "## Until a policy is in force\n")?;
        writeln!(
            f,
            "Milliseconds from asking the agent to reload to its answer; the parts by themselves. Memory of the"
        )?;
        writeln!(f, "agent's process, and of all its maps.\n")?;
        self.loads(f)?;
        writeln!(f, "\n## The decision, by the size of the policy\n")?;
        writeln!(
            f,
            "A connect() to port 25 that fails right after the hook, for want of a route, under a policy with one"
        )?;
        writeln!(
            f,
            "such rule and under one with all of them; \"the program\" is the same difference as the kernel times it.\n"
        )?;
        self.sizes(f)?;
        writeln!(f, "\n## The decision, by what is in the policy\n")?;
        writeln!(
            f,
            "The same, beside an account with a rule of its own and nothing else. A purse is a limit that several"
        )?;
        writeln!(f, "share, here of the hour and of the day.\n")?;
        self.parts(f)?;
        writeln!(f, "\n## Aims\n\n| what | seen | at most | |\n|---|---:|---:|---|")?;
        self.aims(f)?;
        writeln!(
            f,
            "\nEach connect()'s answer was checked, and the agents counted all {} of them.",
            grouped(self.counted as usize)
        )
    }
}
