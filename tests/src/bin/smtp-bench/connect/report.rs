//! The tables.

use super::{
    cases::{Case, Place, Scenario},
    nft::Ruleset,
};
use crate::stats::{Summary, median};
use std::fmt::{self, Formatter};

/// The aims: what other ports may cost beyond an empty program, and how gate and nftables shall compare.
const OTHER_PORTS_OVER_EMPTY: f64 = 20.0;
const OTHER_PORTS_OF_NFTABLES: f64 = 0.25;
const LIMITED_OF_NFTABLES: f64 = 1.0;

/// What was measured of one case: nanoseconds, one value for each round.
pub(crate) struct Line {
    pub(crate) case: Case,
    /// connect() up to the SYN that leaves.
    pub(crate) whole: Vec<f64>,
    /// connect() that finds no route.
    pub(crate) hook: Vec<f64>,
    /// The kernel's own timing of the program.
    pub(crate) program: Vec<f64>,
}

impl Line {
    pub(crate) fn new(case: Case) -> Self {
        Self { case, whole: Vec::new(), hook: Vec::new(), program: Vec::new() }
    }
}

pub(crate) struct Report {
    pub(crate) lines: Vec<Line>,
    pub(crate) first_program: Summary,
    /// Connections that the agents counted, all of them the bench's.
    pub(crate) counted: u64,
}

/// Which column of [`Line`].
type Values = fn(&Line) -> &Vec<f64>;
const WHOLE: Values = |line| &line.whole;
const HOOK: Values = |line| &line.hook;

impl Report {
    fn line(&self, scenario: Scenario, place: Place) -> &Line {
        self.lines.iter().find(|line| line.case == Case { scenario, place }).expect("every case has a line")
    }

    /// Nanoseconds added to the case's baseline.
    fn added(&self, line: &Line, values: Values) -> Summary {
        let base = line.case.baseline();
        Summary::of_differences(values(line), values(self.line(base.scenario, base.place)))
    }

    fn added_by(&self, scenario: Scenario, place: Place, values: Values) -> f64 {
        self.added(self.line(scenario, place), values).median
    }

    fn table(&self, f: &mut Formatter<'_>, values: Values) -> fmt::Result {
        writeln!(f, "| who connects where | in the way | connect() | added | p10 to p90 |")?;
        writeln!(f, "|---|---|---:|---:|---:|")?;
        for scenario in Scenario::ALL {
            for line in self.lines.iter().filter(|line| line.case.scenario == scenario && !values(line).is_empty()) {
                let (name, place) = (scenario.name(), line.case.place.name());
                let took = median(values(line));
                if line.case == line.case.baseline() {
                    writeln!(f, "| {name} | {place} | {took:.0} | | |")?;
                } else {
                    let added = self.added(line, values);
                    let Summary { median, p10, p90 } = added;
                    writeln!(f, "| {name} | {place} | {took:.0} | {median:+.0} | {p10:+.0} to {p90:+.0} |")?;
                }
            }
        }
        Ok(())
    }

    fn programs(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "| who connects where | program | one run | less the empty one |")?;
        writeln!(f, "|---|---|---:|---:|")?;
        for line in self.lines.iter().filter(|line| !line.program.is_empty()) {
            let empty = if line.case.scenario == Scenario::OtherPort { Scenario::OtherPort } else { Scenario::Within };
            let empty = median(&self.line(empty, Place::Empty).program);
            let (name, place, took) = (line.case.scenario.name(), line.case.place.name(), median(&line.program));
            writeln!(f, "| {name} | {place} | {took:.0} | {:+.0} |", took - empty)?;
        }
        Ok(())
    }

    fn aims(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut aim = |what: &str, value: f64, unit: &str, at_most: f64| {
            let verdict = if value <= at_most { "met" } else { "missed" };
            writeln!(f, "| {what} | {value:.2}{unit} | {at_most:.2}{unit} | {verdict} |")
        };
        // nftables limits connections and reads no conversation: the first of these does the same job.
        for gate in [Place::GateOfConnections, Place::Gate] {
            let over_empty = Summary::of_differences(
                &self.line(Scenario::OtherPort, gate).hook,
                &self.line(Scenario::OtherPort, Place::Empty).hook,
            );
            let what = format!("another port, {} over the empty program", gate.name());
            aim(&what, over_empty.median, " ns", OTHER_PORTS_OVER_EMPTY)?;
            for ruleset in Ruleset::ALL {
                let nft = Place::Nft(ruleset);
                for (scenario, at_most) in
                    [(Scenario::OtherPort, OTHER_PORTS_OF_NFTABLES), (Scenario::Within, LIMITED_OF_NFTABLES)]
                {
                    let added = self.added_by(scenario, gate, WHOLE);
                    let of_nft = self.added_by(scenario, nft, WHOLE);
                    let what = format!("{}, {} against {}", scenario.name(), gate.name(), nft.name());
                    aim(&what, added / of_nft, "", at_most)?;
                    // Where the agent brings the first program of its kind, this is what it comes to.
                    let first = (self.first_program.median + added) / of_nft;
                    aim("… with the cost of a first program", first, "", at_most)?;
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "## A whole connect()\n")?;
        writeln!(f, "Up to the SYN that leaves the host; \"added\" is the median difference to nothing in the way,")?;
        writeln!(
            f,
            "in the same round and network namespace. A refused connect() ends early and saves the SYN's cost.\n"
        )?;
        self.table(f, WHOLE)?;
        writeln!(f, "\n## The hook alone\n")?;
        writeln!(f, "A connect() that fails right after the hook, for want of a route: small differences show.\n")?;
        self.table(f, HOOK)?;
        let Summary { median, p10, p90 } = self.first_program;
        writeln!(f, "\nThe first such program on a host costs every connect() {median:+.0} ({p10:+.0} to {p90:+.0});")?;
        writeln!(f, "\"nothing\" above has paid that already. About 0 where the host has one of its own.\n")?;
        writeln!(f, "## The program alone, as the kernel times it\n")?;
        writeln!(
            f,
            "`BPF_ENABLE_STATS`: the clock's own cost is in both columns' figures, so only the last one tells.\n"
        )?;
        self.programs(f)?;
        writeln!(f, "\n## Aims\n\n| what | seen | at most | |\n|---|---:|---:|---|")?;
        self.aims(f)?;
        writeln!(
            f,
            "\nEach connect()'s answer was checked, so were the SYNs on the wire, and the agents counted all {} of",
            self.counted
        )?;
        writeln!(
            f,
            "the connections made to their port. nftables sees every packet that leaves, the gate only connect()."
        )
    }
}
