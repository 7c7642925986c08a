//! How long a policy takes until it is in force.

use super::{
    memory::Memory,
    texts::{self, Form},
};
use crate::{is_interrupted, stats::Summary};
use smtp_agent::{
    config,
    control::{Answer, Request, client},
    daemon::reload,
};
use smtp_tests::{Agent, Cgroup, Must, eventually};
use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

/// Reloads of each policy.
const RELOADS: usize = 15;
const CGROUP_RULES: usize = 10_000;
const CGROUPS: usize = 5_000;
const EXCEPTIONS: usize = 10_000;
/// How long the maps may take to hold the policy alone.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Load {
    Defaults,
    Accounts {
        count: usize,
        files: usize,
    },
    Cgroups {
        form: Form,
        /// Whether cgroups are there that rules match.
        there: bool,
    },
    Exceptions,
}

impl Load {
    /// Those that need cgroups come last.
    fn all() -> Vec<Self> {
        let accounts = |count, files| Self::Accounts { count, files };
        let cgroups = |form, there| Self::Cgroups { form, there };
        vec![
            Self::Defaults,
            accounts(1_000, 1),
            accounts(10_000, 1),
            accounts(10_000, 10_000),
            accounts(100_000, 1),
            accounts(100_000, 10_000),
            Self::Exceptions,
            cgroups(Form::Exact, false),
            cgroups(Form::LateStar, false),
            cgroups(Form::EarlyStar, false),
            cgroups(Form::Exact, true),
            cgroups(Form::LateStar, true),
            cgroups(Form::EarlyStar, true),
        ]
    }

    pub(crate) fn name(self) -> String {
        match self {
            Self::Defaults => "the defaults".to_owned(),
            Self::Accounts { count, files: 1 } => format!("{} accounts, one file", grouped(count)),
            Self::Accounts { count, files } => format!("{} accounts, {} files", grouped(count), grouped(files)),
            Self::Exceptions => format!("{} exceptions", grouped(EXCEPTIONS)),
            Self::Cgroups { form, there } => {
                let pattern = match form {
                    Form::Exact => "`/base/site-00042.service`",
                    Form::LateStar => "`/base/site-00042*.service`",
                    Form::EarlyStar => "`/base/*-00042.service`",
                };
                let there = if there { grouped(CGROUPS) } else { "none".to_owned() };
                format!("{} cgroup rules like {pattern}, {there} there", grouped(CGROUP_RULES))
            }
        }
    }

    /// Milliseconds within which it shall be in force; `None` where nothing was aimed at.
    pub(crate) fn at_most(self) -> Option<f64> {
        match self {
            Self::Defaults | Self::Accounts { count: 1_000, .. } => None,
            Self::Accounts { count: 100_000, .. } => Some(1_000.0),
            _ => Some(100.0),
        }
    }

    /// The files of its conf.d.
    fn files(self, base: &str) -> Vec<String> {
        match self {
            Self::Defaults => Vec::new(),
            Self::Accounts { count, files } => texts::accounts(count, files),
            Self::Exceptions => vec![texts::exceptions(EXCEPTIONS)],
            Self::Cgroups { form, .. } => vec![texts::cgroups(CGROUP_RULES, base, form)],
        }
    }

    /// Entries that must be in maps then.
    fn entries(self) -> Vec<(&'static str, usize)> {
        match self {
            Self::Defaults => vec![("exceptions", 0), ("paths", 0)],
            Self::Accounts { count, .. } => vec![("rules", count)],
            Self::Exceptions => vec![("exceptions", EXCEPTIONS)],
            Self::Cgroups { form, there } => {
                let there = if there { CGROUPS } else { 0 };
                let paths = if form == Form::Exact { CGROUP_RULES } else { there };
                vec![("purses", CGROUP_RULES), ("paths", paths), ("cgroups", there)]
            }
        }
    }
}

/// What came of it; times in milliseconds, those of the parts medians.
pub(crate) struct Loaded {
    pub(crate) load: Load,
    /// From asking the agent to its answer.
    pub(crate) reload: Summary,
    /// Reading and judging the files.
    pub(crate) files: f64,
    /// Looking names up and making the kernel's rules.
    pub(crate) rules: f64,
    pub(crate) memory: Memory,
}

/// `None` when a signal came.
pub(crate) fn measure() -> Option<Vec<Loaded>> {
    let base = Cgroup::new("bench-sites");
    let mut sites = Vec::new();
    let mut all = Vec::new();
    for load in Load::all() {
        if is_interrupted() {
            return None;
        }
        if matches!(load, Load::Cgroups { there: true, .. }) && sites.is_empty() {
            sites.extend((0..CGROUPS).map(|number| base.child(&texts::cgroup(number))));
        }
        all.push(measure_one(load, &base.name()));
    }
    Some(all)
}

fn measure_one(load: Load, base: &str) -> Loaded {
    let mut agent = Agent::builder().config(|all| all.set("mode", "enforce")).stopped();
    write_files(agent.config_path().with_file_name("conf.d").as_path(), &load.files(base));
    agent.start();
    must_be_in_force(&agent, load);
    let (mut reload, mut files, mut rules) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RELOADS {
        reload.push(milliseconds(|| ask_to_reload(&agent)).0);
        must_be_in_force(&agent, load);
        let (took, config) = milliseconds(|| {
            config::load(&agent.config_path()).unwrap_or_else(|problems| panic!("{}", problems.render(false))).config
        });
        files.push(took);
        rules.push(milliseconds(|| reload::compile(&config)).0);
    }
    let median = |values: &[f64]| Summary::of(values).median;
    Loaded {
        load,
        reload: Summary::of(&reload),
        files: median(&files),
        rules: median(&rules),
        memory: Memory::of(&mut agent),
    }
}

/// Waits until the kernel has what the policy says and nothing else: the agent removes what is left of the policy before when
/// it has answered.
fn must_be_in_force(agent: &Agent, load: Load) {
    for (map, wanted) in load.entries() {
        // The defaults name a few users, some of whom this host has.
        let more = if map == "rules" { 20 } else { 0 };
        let what = format!("{wanted} {map} in the kernel under {}; something else would be measured", load.name());
        eventually(PATIENCE, &what, || {
            let entries = agent.metrics().value("smtp_agent_map_entries", &[("map", map)]) as usize;
            (wanted..=wanted + more).contains(&entries)
        });
    }
}

fn ask_to_reload(agent: &Agent) {
    let answer = client::send(&agent.run_dir(), &Request::Reload {}).and_then(|mut connection| connection.answer());
    match answer {
        Ok(Answer::Reloaded { .. }) => {}
        Ok(other) => panic!("the agent answered {other:?} to a reload"),
        Err(failure) => panic!("the agent did not reload: {failure}"),
    }
}

pub(crate) fn write_files(directory: &Path, texts: &[String]) {
    fs::create_dir(directory).must(format_args!("cannot make {}", directory.display()));
    for (number, text) in texts.iter().enumerate() {
        fs::write(directory.join(format!("{number:05}.toml")), text).must("cannot write a configuration");
    }
}

fn milliseconds<T>(what: impl FnOnce() -> T) -> (f64, T) {
    let began = Instant::now();
    let result = what();
    (began.elapsed().as_secs_f64() * 1e3, result)
}

/// 10000 as 10,000.
pub(crate) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let first = digits.len() % 3;
    let mut text = digits[..first].to_owned();
    for group in digits.as_bytes()[first..].chunks(3) {
        if !text.is_empty() {
            text.push(',');
        }
        text.extend(group.iter().map(|&digit| digit as char));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(
            [7, 100, 1_000, 25_000, 100_000, 1_234_567].map(grouped).join(" "),
            "7 100 1,000 25,000 100,000 1,234,567"
        );
    }

    #[test]
    fn every_load_has_a_name_of_its_own() {
        let mut names: Vec<_> = Load::all().into_iter().map(Load::name).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
