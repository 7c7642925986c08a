//! The tables.

use super::{
    FEW_ROUNDS,
    books::Made,
    both,
    cases::{Body, Case, SIZES, Transport},
    exec::Tracer,
    memory::Memory,
    places::{Place, Way},
};
use crate::{
    bpf::Runs,
    stats::{Summary, median},
};
use std::fmt::{self, Formatter};

/// The aims: what a packet of another port may cost beyond empty programs, and how much bulk may slow down.
const PACKET_OVER_EMPTY: f64 = 15.0;
const BULK_SLOWER_PERCENT: f64 = 1.0;

/// A packet each way on loopback meets a program when it leaves and when it arrives.
const RUNS_OF_A_ROUND_TRIP: f64 = 4.0;

/// What was measured of a case in a place: one value for each round.
pub(crate) struct Line {
    pub(crate) case: Case,
    pub(crate) place: Place,
    /// Nanoseconds of a unit.
    pub(crate) took: Vec<f64>,
    /// The kernel's own timing: nanoseconds of the programs in a unit, and of one run by [`Way`].
    programs: Vec<f64>,
    run: [Vec<f64>; 2],
    /// Packets in a unit, by [`Way`], as the programs saw them.
    packets: [Vec<f64>; 2],
}

impl Line {
    pub(crate) fn all() -> Vec<Self> {
        let lines = Case::all().into_iter().flat_map(|case| Place::ALL.map(|place| (case, place)));
        lines
            .map(|(case, place)| Self {
                case,
                place,
                took: Vec::new(),
                programs: Vec::new(),
                run: [Vec::new(), Vec::new()],
                packets: [Vec::new(), Vec::new()],
            })
            .collect()
    }

    /// The programs' runs, by [`Way`], in one visit.
    pub(crate) fn note_programs(&mut self, runs: [Runs; 2]) {
        let units = self.case.units_of_a_visit();
        for way in Way::BOTH {
            let run = runs[way as usize];
            let (at_least, count) = (units * self.case.exchanges(), run.count());
            assert!(
                count >= at_least,
                "{}: {count} packets met the program, and at least {at_least} should have: something else was measured",
                self.case.name()
            );
            self.run[way as usize].push(run.mean());
            self.packets[way as usize].push(count as f64 / units as f64);
        }
        self.programs.push(both(runs).nanos() / units as f64);
    }
}

pub(crate) struct Report {
    pub(crate) lines: Vec<Line>,
    pub(crate) first_programs: Summary,
    /// Nanoseconds of one run on request: by [`Way`], the empty program and the gate's.
    pub(crate) in_vitro: [[Vec<f64>; 2]; 2],
    pub(crate) memory: Memory,
    pub(crate) tracers: [Tracer; 2],
    /// What the agent counted, all of it the bench's.
    pub(crate) counted: Made,
    pub(crate) retransmits: u64,
}

impl Report {
    fn line(&self, case: Case, place: Place) -> &Line {
        self.lines.iter().find(|line| line.case == case && line.place == place).expect("every case has its lines")
    }

    /// Nanoseconds of a unit, beyond what it takes in the other place.
    fn added(&self, case: Case, place: Place, to: Place) -> Summary {
        Summary::of_differences(&self.line(case, place).took, &self.line(case, to).took)
    }

    /// Nanoseconds of the gate's programs in a unit, beyond the empty ones', as the kernel times them.
    fn programs(&self, case: Case) -> f64 {
        median(&self.line(case, Place::Gate).programs) - median(&self.line(case, Place::Empty).programs)
    }

    /// Percent that bulk is slower than in the other place.
    fn slower(&self, place: Place, than: Place) -> Summary {
        let pairs = self.line(Case::Bulk, place).took.iter().zip(&self.line(Case::Bulk, than).took);
        Summary::of(&pairs.map(|(took, other)| (took / other - 1.0) * 100.0).collect::<Vec<_>>())
    }

    fn other_ports(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "## Another port\n\nOver loopback, both ends in the cgroup: every packet meets a program twice.\n"
        )?;
        writeln!(f, "| what | in the way | took | added to nothing | added to empty | p10 to p90 |")?;
        writeln!(f, "|---|---|---:|---:|---:|---:|")?;
        for case in [Case::Packets, Case::Connection] {
            for place in Place::ALL {
                let took = median(&self.line(case, place).took);
                write!(f, "| {} | {} | {took:.0} |", case.name(), place.name())?;
                match place {
                    Place::Nothing => writeln!(f, " | | |")?,
                    Place::Empty => writeln!(f, " {:+.0} | | |", self.added(case, place, Place::Nothing).median)?,
                    Place::Gate | Place::Connections => {
                        let over = self.added(case, place, Place::Empty);
                        let all = self.added(case, place, Place::Nothing).median;
                        writeln!(f, " {all:+.0} | {:+.0} | {:+.0} to {:+.0} |", over.median, over.p10, over.p90)?;
                    }
                }
            }
        }
        let Summary { median: first, p10, p90 } = self.first_programs;
        writeln!(
            f,
            "\nThe first such programs on a host add {first:+.0} ({p10:+.0} to {p90:+.0}) to a packet each way;"
        )?;
        writeln!(f, "\"nothing\" above has paid that already. About 0 where the host has some of its own.\n")?;
        writeln!(f, "One run of a program on such a packet:\n")?;
        writeln!(
            f,
            "| a packet … | program | as the kernel times it | less the empty one | on request | less the empty one |"
        )?;
        writeln!(f, "|---|---|---:|---:|---:|---:|")?;
        for way in Way::BOTH {
            let timed = |place| median(&self.line(Case::Packets, place).run[way as usize]);
            let [empty, ours] = self.in_vitro[way as usize].each_ref().map(|values| median(values));
            writeln!(f, "| {} | empty | {:.1} | | {empty:.1} | |", way.name(), timed(Place::Empty))?;
            let over = self.timed_over_empty(Case::Packets, way);
            let on_request = self.on_request_over_empty(way);
            writeln!(
                f,
                "| {} | gate | {:.1} | {over:+.1} | {ours:.1} | {on_request:+.1} |",
                way.name(),
                timed(Place::Gate)
            )?;
        }
        writeln!(f, "\n| bulk | GB/s | slower than empty, % | p10 to p90 |\n|---|---:|---:|---:|")?;
        for place in Place::ALL {
            let speed = (1 << 20) as f64 / median(&self.line(Case::Bulk, place).took);
            let slower = self.slower(place, Place::Empty);
            write!(f, "| {} | {speed:.3} |", place.name())?;
            match place {
                Place::Empty => writeln!(f, " | |")?,
                _ => writeln!(f, " {:+.2} | {:+.2} to {:+.2} |", slower.median, slower.p10, slower.p90)?,
            }
        }
        Ok(())
    }

    /// Nanoseconds of one run of the gate's program in a case, beyond the empty one's, as the kernel times them.
    fn timed_over_empty(&self, case: Case, way: Way) -> f64 {
        let run = |place| &self.line(case, place).run[way as usize];
        Summary::of_differences(run(Place::Gate), run(Place::Empty)).median
    }

    fn on_request_over_empty(&self, way: Way) -> f64 {
        let [empty, ours] = &self.in_vitro[way as usize];
        Summary::of_differences(ours, empty).median
    }

    fn sessions(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n## Sessions and messages\n")?;
        writeln!(
            f,
            "Port 25 by a wire into another network namespace, the client's end in the cgroup. \"Took\" is with nothing in\n\
             the way; the other columns are what is added to it. \"Programs\" is the gate's `sent` and `received` less the\n\
             empty ones, as the kernel times them.\n"
        )?;
        writeln!(f, "| what | packets out, in | took | empty | gate | p10 to p90 | programs | messages = false |")?;
        writeln!(f, "|---|---:|---:|---:|---:|---:|---:|---:|")?;
        for case in Case::all().into_iter().filter(|case| case.transport() == Transport::Smtp) {
            let took = median(&self.line(case, Place::Nothing).took);
            let added = |place| self.added(case, place, Place::Nothing);
            let gate = added(Place::Gate);
            let [out, back] = self.line(case, Place::Gate).packets.each_ref().map(|values| median(values));
            writeln!(
                f,
                "| {} | {out:.1}, {back:.1} | {took:.0} | {:+.0} | {:+.0} | {:+.0} to {:+.0} | {:+.0} | {:+.0} |",
                case.name(),
                added(Place::Empty).median,
                gate.median,
                gate.p10,
                gate.p90,
                self.programs(case),
                added(Place::Connections).median
            )?;
        }
        let [command, reply] = Way::BOTH.map(|way| self.timed_over_empty(Case::Reply, way));
        writeln!(
            f,
            "\nAs the kernel times it, less the empty program: {command:+.0} for a command, {reply:+.0} for a reply."
        )?;
        writeln!(f, "\nA mebibyte of body, from the largest message less the smallest:\n")?;
        writeln!(f, "| body | added by the gate, µs | programs, µs | programs, ns a byte |\n|---|---:|---:|---:|")?;
        for body in Body::ALL {
            let [least, _, most] = SIZES.map(|size| Case::Message { body, size });
            let of_whole = (SIZES[2] - SIZES[0]) as f64 / (1 << 20) as f64;
            let over = |case| self.added(case, Place::Gate, Place::Nothing).median;
            let added = (over(most) - over(least)) / of_whole;
            let programs = (self.programs(most) - self.programs(least)) / of_whole;
            let (name, a_byte) = (body.name(), programs / (1 << 20) as f64);
            writeln!(f, "| {name} | {:.0} | {:.0} | {a_byte:.2} |", added / 1e3, programs / 1e3)?;
        }
        Ok(())
    }

    fn memory(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Memory { value, taken, by_cache } = &self.memory;
        writeln!(f, "\n## Memory of an open session\n\n| octets | |\n|---|---:|")?;
        writeln!(f, "| the value beside the socket | {value} |")?;
        for (cache, octets) in by_cache {
            writeln!(f, "| taken from {cache} | {octets:.0} |")?;
        }
        let rounds = taken.iter().map(|octets| format!("{octets:.0}")).collect::<Vec<_>>().join(", ");
        writeln!(f, "| taken from all caches ({rounds}) | {:.0} |", median(taken))
    }

    fn tracers(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n## An execution\n\nOf /bin/true, by the programs' own run time.\n")?;
        writeln!(f, "| program | empty | gate | added |\n|---|---:|---:|---:|")?;
        let mut sum = 0.0;
        for Tracer { name, empty, ours } in &self.tracers {
            writeln!(f, "| {name} | {empty:.0} | {ours:.0} | {:+.0} |", ours - empty)?;
            sum += ours - empty;
        }
        writeln!(f, "| both, µs | | | {:+.2} |", sum / 1e3)
    }

    fn aims(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n## Aims\n\n| what | seen | at most | |\n|---|---:|---:|---|")?;
        let mut aim = |what: &str, value: f64, unit: &str, at_most: f64| {
            let verdict = if value <= at_most { "met" } else { "missed" };
            writeln!(f, "| {what} | {value:.2} {unit} | {at_most:.2} {unit} | {verdict} |")
        };
        for way in Way::BOTH {
            let what =
                format!("a packet of another port {}, over the empty program, as the kernel times it", way.name());
            aim(&what, self.timed_over_empty(Case::Packets, way), "ns", PACKET_OVER_EMPTY)?;
            aim("… on request", self.on_request_over_empty(way), "ns", PACKET_OVER_EMPTY)?;
        }
        let round_trip = self.added(Case::Packets, Place::Gate, Place::Empty).median;
        aim("… on its way, of either", round_trip / RUNS_OF_A_ROUND_TRIP, "ns", PACKET_OVER_EMPTY)?;
        let slower = |than| self.slower(Place::Gate, than).median;
        aim("bulk, slower than with empty programs", slower(Place::Empty), "%", BULK_SLOWER_PERCENT)?;
        // Where the agent brings the first programs on packets, this is what it comes to.
        aim("… than with nothing", slower(Place::Nothing), "%", BULK_SLOWER_PERCENT)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.other_ports(f)?;
        self.sessions(f)?;
        self.memory(f)?;
        self.tracers(f)?;
        self.aims(f)?;
        let Made { sessions, messages, bytes_sent, bytes_received, .. } = self.counted;
        writeln!(
            f,
            "\nThe agent counted all {sessions} sessions, {messages} messages, {bytes_sent} octets sent and {bytes_received} \
             received,\nand nothing else; {} segments were sent again. The programs' own timing is of {FEW_ROUNDS} rounds.",
            self.retransmits
        )
    }
}
