//! The configuration: read, merged, validated, with every problem shown where it stands.
//!
//! The main file and `conf.d/*.toml` beside it pass through four stages, one file each:
//! `load` reads the disk, `syntax` parses TOML, `draft` reads keys into what was written,
//! `resolve` fills in defaults, looks up plans and finds contradictions. Each stage goes on after an
//! error, so that one run shows everything; but a [`Config`] exists only when there was no error at all.
//! `check`, `run` and reload share this one loader and its verdict.
//!
//! Names of users stay names here: whether they exist is the host's business and asked later. What that
//! stage finds can point into the files too, because every name carries its [`Place`].
#![forbid(unsafe_code)]

mod brake;
mod draft;
mod history_values;
mod limits;
mod load;
mod nearest;
mod network;
mod notify;
mod notify_values;
mod pattern;
mod place;
mod plan;
mod problem;
mod reader;
mod render;
mod resolve;
mod rule_values;
mod schedule;
mod schema;
mod sections;
mod syntax;
mod template;
mod values;

use std::{path::Path, sync::Arc, thread};

pub use network::Network;
pub use notify::{Kind, Kinds, Notify, SinkEntry, Way};
pub use pattern::Pattern;
pub use place::{Place, Source, Spot};
pub use plan::{Brake, OnSoft, Plan, PlanRef, Quota, Quotas, Release};
pub use problem::{Problem, Problems, Severity};
pub use schedule::{Days, Schedule};
pub use schema::{
    Allow, Attribution, CgroupChoice, Config, Events, ExceptionEntry, GroupEntry, History, Host, Level, Log, LogFormat,
    Masking, Metrics, Mode, Name, Page, Paths, Resolve, RuleEntry, Show, Subject,
};
pub use sections::SECTIONS;
pub use template::{Field, Template};
pub(crate) use {nearest::nearest, values::parse_name};

/// Where the configuration is looked for unless `--config` says otherwise.
pub const DEFAULT_PATH: &str = "/etc/smtp-agent/config.toml";

/// A configuration without errors.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub config: Config,
    /// The files it came from, in the order they were merged.
    pub sources: Vec<Arc<Source>>,
    /// What is legal and still looks wrong.
    pub warnings: Problems,
}

/// Reads the file at `path` and `conf.d/*.toml` beside it. `Err` holds every error and warning found.
pub fn load(path: &Path) -> Result<Loaded, Problems> {
    let mut problems = Problems::default();
    let sources = load::read_all(path, &mut problems);
    assemble(sources, problems)
}

/// The same for a text that is in no file; `name` stands for the path in diagnostics.
pub fn parse_str(name: &str, text: &str) -> Result<Loaded, Problems> {
    let mut problems = Problems::default();
    let sources = load::accept(name, text.as_bytes().to_vec(), 0, &mut problems).into_iter().collect();
    assemble(sources, problems)
}

/// toml 1.2 limits the depth of brackets and the length of dotted keys to 80 each, but not their product,
/// and a document of 13 kB reaches 6,400 levels; dropping them takes between 4 and 8 MB of stack in a
/// debug build. The usual 2 MB of a thread would end the whole process, which no error can report.
const STACK: usize = 64 << 20;

fn assemble(sources: Vec<Arc<Source>>, problems: Problems) -> Result<Loaded, Problems> {
    let outcome = thread::scope(|scope| {
        thread::Builder::new()
            .name("config".to_owned())
            .stack_size(STACK)
            .spawn_scoped(scope, || stages(sources, problems))
            .map(|thread| thread.join())
    });
    let failure = match outcome {
        Ok(Ok(result)) => return result,
        Ok(Err(_)) => {
            "the configuration reader failed in a way it should not: please report it with the file".to_owned()
        }
        Err(error) => format!("no thread for reading the configuration: {error}"),
    };
    Err(Problem::error(failure).into())
}

fn stages(sources: Vec<Arc<Source>>, mut problems: Problems) -> Result<Loaded, Problems> {
    let mut draft = draft::Draft::default();
    // A file that could not be read or parsed in full may have held whatever seems to be missing.
    let mut complete = !problems.has_errors();
    for source in &sources {
        complete &= draft::read_file(source, &mut draft, &mut problems);
    }
    let config = resolve::resolve(draft, complete, &mut problems);
    problems.sort();
    if problems.has_errors() { Err(problems) } else { Ok(Loaded { config, sources, warnings: problems }) }
}

#[cfg(test)]
mod tests;
