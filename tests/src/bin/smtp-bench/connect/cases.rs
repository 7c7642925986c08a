//! What is measured: who connects where, and what stands in the way.

use super::{nft::Ruleset, timing::Answer};

/// Users by number only: nobody has these, and nothing needs their names.
const ORDINARY: u32 = 60_001;
const DENIED: u32 = 60_002;
pub(crate) const EXEMPT: u32 = 60_003;
const EXHAUSTED: u32 = 60_004;

pub(crate) const LIMITED_PORTS: [u16; 3] = [25, 465, 587];

/// What the agent is told of these users.
pub(crate) fn config() -> String {
    format!(
        "mode = 'enforce'
        [allow]
        users = ['{EXEMPT}']
        [deny]
        users = ['{DENIED}']
        [default]
        plan = 'ample'
        [plan.ample]
        per_hour = 1_000_000_000
        per_day = 1_000_000_000
        [plan.exhausted]
        per_hour = 1
        per_day = 1_000_000_000
        [[rule]]
        user = '{EXHAUSTED}'
        plan = 'exhausted'"
    )
}

/// Who connects, and to which port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Scenario {
    OtherPort,
    Within,
    Exempt,
    Exhausted,
    Denied,
}

impl Scenario {
    pub(crate) const ALL: [Self; 5] = [Self::OtherPort, Self::Within, Self::Exempt, Self::Exhausted, Self::Denied];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::OtherPort => "another port (8080)",
            Self::Within => "port 25, within a limit",
            Self::Exempt => "port 25, exempt user",
            Self::Exhausted => "port 25, limit used up",
            Self::Denied => "port 25, denied user",
        }
    }

    pub(crate) fn uid(self) -> u32 {
        match self {
            Self::OtherPort | Self::Within => ORDINARY,
            Self::Exempt => EXEMPT,
            Self::Exhausted => EXHAUSTED,
            Self::Denied => DENIED,
        }
    }

    pub(crate) fn port(self) -> u16 {
        if self == Self::OtherPort { 8080 } else { 25 }
    }

    fn is_stopped(self) -> bool {
        matches!(self, Self::Exhausted | Self::Denied)
    }
}

/// What stands in the way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// A cgroup without a program.
    Nothing,
    /// A cgroup with the empty program.
    Empty,
    /// A cgroup with the agent's gate.
    Gate,
    /// A cgroup with the gate of an agent that wants no events.
    GateWithoutEvents,
    /// A cgroup with the gate of an agent that counts connections only.
    GateOfConnections,
    /// A network namespace without rules, and no program.
    Bare,
    /// The same namespace with rules.
    Nft(Ruleset),
}

impl Place {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Bare => "nothing (nftables' namespace)",
            Self::Empty => "empty program",
            Self::Gate => "gate",
            Self::GateWithoutEvents => "gate, no events",
            Self::GateOfConnections => "gate, messages = false",
            Self::Nft(Ruleset::Meter) => "nftables, one meter",
            Self::Nft(Ruleset::Everything) => "nftables, same limits",
        }
    }

    /// Where the same connect() meets nothing.
    pub(crate) fn baseline(self) -> Self {
        if self.is_on_host() { Self::Nothing } else { Self::Bare }
    }

    pub(crate) fn is_on_host(self) -> bool {
        !matches!(self, Self::Bare | Self::Nft(_))
    }

    pub(crate) fn is_gate(self) -> bool {
        matches!(self, Self::Gate | Self::GateWithoutEvents | Self::GateOfConnections)
    }
}

/// One line of the tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Case {
    pub(crate) scenario: Scenario,
    pub(crate) place: Place,
}

impl Case {
    /// Everything there is to measure; each baseline comes before what is compared with it.
    pub(crate) fn all() -> Vec<Self> {
        let case = |scenario, place| Self { scenario, place };
        let mut cases = Vec::new();
        for scenario in [Scenario::OtherPort, Scenario::Within] {
            cases.push(case(scenario, Place::Nothing));
            cases.push(case(scenario, Place::Bare));
            cases.push(case(scenario, Place::Empty));
            cases.push(case(scenario, Place::GateOfConnections));
        }
        for scenario in Scenario::ALL {
            cases.push(case(scenario, Place::Gate));
        }
        cases.push(case(Scenario::Within, Place::GateWithoutEvents));
        for scenario in [Scenario::OtherPort, Scenario::Within, Scenario::Exempt, Scenario::Exhausted] {
            cases.extend(Ruleset::ALL.map(|ruleset| case(scenario, Place::Nft(ruleset))));
        }
        cases
    }

    /// The case this one's cost is counted from. Who connects makes no difference where nobody asks.
    pub(crate) fn baseline(self) -> Self {
        let scenario = if self.scenario == Scenario::OtherPort { Scenario::OtherPort } else { Scenario::Within };
        Self { scenario, place: self.place.baseline() }
    }

    /// Whether a SYN leaves the host.
    pub(crate) fn is_let_through(self) -> bool {
        !self.scenario.is_stopped() || !(self.place.is_gate() || matches!(self.place, Place::Nft(_)))
    }

    /// How many of these calls an agent counts.
    pub(crate) fn connections_counted(self, calls: u64) -> u64 {
        if self.place.is_gate() && LIMITED_PORTS.contains(&self.scenario.port()) { calls } else { 0 }
    }

    /// What connect() says to the void. nftables drops the SYN later, of which connect() is not told.
    pub(crate) fn answer(self) -> Answer {
        if self.place.is_gate() && self.scenario.is_stopped() { Answer::Refused } else { Answer::InProgress }
    }

    /// What connect() says about an address without a way to it.
    pub(crate) fn answer_without_route(self) -> Answer {
        if self.answer() == Answer::Refused { Answer::Refused } else { Answer::Unreachable }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_is_there_once_and_so_is_its_baseline() {
        let cases = Case::all();
        for case in &cases {
            assert_eq!(cases.iter().filter(|other| *other == case).count(), 1, "{case:?}");
            assert!(cases.contains(&case.baseline()), "{case:?}");
            assert_eq!(case.baseline().baseline(), case.baseline());
        }
    }
}
