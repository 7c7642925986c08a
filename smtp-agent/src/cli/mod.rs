//! The command line: arguments in, sentences and an exit code out.

mod by_hand;
mod check;
mod detach;
mod doctor;
mod events;
mod explain;
mod history;
mod import;
mod lenient;
mod notify;
mod output;
mod rehearse;
mod relay_check;
mod reload;
mod report;
mod status;
mod timeline;
mod top;
mod who;

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};

use crate::{
    by_hand::Says,
    config::{self, Loaded},
    daemon,
    exit::{Code, Failure, Result},
    import::Panel,
};

/// Who is sending mail from this host, and how it is stopped at the limit.
#[derive(Parser)]
#[command(name = "smtp-agent", version, max_term_width = 100)]
struct Cli {
    /// The configuration; files in conf.d beside it are read too.
    #[arg(long, global = true, value_name = "PATH", default_value = config::DEFAULT_PATH)]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Put the gate in force and keep it explained: metrics, events, reload.
    Run,
    /// Look the configuration over and name everything that is wrong with it.
    Check(Json),
    /// Tell what the next connection of a user would meet, and why.
    Explain(Explain),
    /// Show who sends, the limits and the health of the gate; works without a running agent.
    Status(Json),
    /// Watch accounts, limits and attempts live in a terminal; block and release.
    Top,
    /// Tell from the history who and what sent how much, and what became of it.
    Report(Report),
    /// Name who sends too much: user, process, script, parents, evidence, and how to stop it.
    Who(Who),
    /// Replay what is recorded under the configuration, and tell who it would have stopped, before it is enforced.
    Rehearse(Rehearse),
    /// Show what one user did, stretch by stretch, and what happened to him.
    Timeline(Timeline),
    /// Follow connections as they are decided, messages that may not pass, and sessions as they end.
    Events(Events),
    /// Have the running agent load its configuration anew.
    Reload(Json),
    /// Tell whether a mail server relays for strangers; offers mail and never sends any.
    RelayCheck(relay_check::RelayCheck),
    /// Look the host over: nobody's ways out, mail servers, queues, block lists, the sendmail program.
    Doctor(doctor::Doctor),
    /// Notices to those who are to be told.
    Notify(Notify),
    /// Write a configuration from the mail limits of a panel or of CSF.
    Import(Import),
    /// Never limit a user, group, container or cgroup, until told otherwise.
    Allow(Say),
    /// Refuse a user, group, container or cgroup everywhere, until told otherwise.
    Block(Say),
    /// Take back what was said by hand, let the failure brake go and empty the windows.
    Release(Release),
    /// Remove the gate and all its counts from the kernel.
    Detach(Json),
}

#[derive(Args)]
struct Events {
    /// Show only these kinds of events
    #[arg(long, value_enum, value_delimiter = ',', value_name = "KIND")]
    only: Vec<EventKind>,
    #[command(flatten)]
    json: Json,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum EventKind {
    Connect,
    Session,
    Stop,
}

/// A stretch of the history.
#[derive(Args)]
struct Since {
    /// How long ago (24h, 7d), a date (2026-11-19) or a moment (2026-11-19 14:30, RFC 3339)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// The same; without it, now
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

#[derive(Args)]
struct Report {
    #[command(flatten)]
    period: Since,
    /// What each line is about
    #[arg(long, value_enum, default_value_t = report::By::User)]
    by: report::By,
    /// How many lines
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    top: u32,
    /// Only of this account, as `status` shows it
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print CSV
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Print a page with charts, to be saved or mailed
    #[arg(long, conflicts_with_all = ["json", "csv"])]
    html: bool,
}

#[derive(Args)]
struct Who {
    #[command(flatten)]
    period: Since,
    /// Only this account, as `status` shows it
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// How many accounts
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    top: u32,
    #[command(flatten)]
    json: Json,
}

#[derive(Args)]
struct Rehearse {
    #[command(flatten)]
    period: Since,
    /// Only this account, as `status` shows it
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    #[command(flatten)]
    json: Json,
}

#[derive(Args)]
struct Timeline {
    /// An account, as `status` shows it
    user: String,
    #[command(flatten)]
    period: Since,
    #[command(flatten)]
    json: Json,
}

#[derive(Args)]
struct Json {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Explain {
    /// A user of this host, by name or uid.
    #[arg(long, value_name = "NAME")]
    user: String,
    /// The cgroup it connects from.
    #[arg(long, value_name = "PATH")]
    cgroup: Option<PathBuf>,
    /// Port it connects to.
    #[arg(long, value_name = "N", default_value_t = 25)]
    port: u16,
    /// Address it connects to; without one, some server elsewhere.
    #[arg(long, value_name = "ADDR")]
    to: Option<IpAddr>,
    /// What it is about to make, send or name.
    #[arg(long, value_enum, default_value_t = explain::Asked::Connection)]
    unit: explain::Asked,
    #[command(flatten)]
    json: Json,
}

#[derive(Args)]
struct Notify {
    #[command(subcommand)]
    what: NotifyWhat,
}

#[derive(Subcommand)]
enum NotifyWhat {
    /// Send a test notice to each sink now, without the agent, and say what happened
    Test {
        /// Only to the sink of this name, or to all of this kind
        #[arg(long, value_name = "NAME|KIND")]
        sink: Option<String>,
        #[command(flatten)]
        json: Json,
    },
}

#[derive(Args)]
struct Import {
    /// Whose settings to read.
    #[arg(value_enum)]
    panel: Panel,
    /// The directory its files are below, as in a backup.
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// Write to this new file instead of standard output.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    json: Json,
}

#[derive(Args)]
struct Say {
    #[command(flatten)]
    whom: Whom,
    /// How long it holds, such as 30m, 2h or 7d; without it, until it is released
    #[arg(long = "for", value_name = "TIME", value_parser = by_hand::seconds)]
    seconds: Option<u64>,
    /// Why; up to 200 characters
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Block whom [allow] names, too
    #[arg(long)]
    force: bool,
    /// Show everything that is said by hand
    #[arg(long, conflicts_with_all = ["whom", "seconds", "reason", "force"])]
    list: bool,
    #[command(flatten)]
    json: Json,
}

#[derive(Args)]
struct Release {
    #[command(flatten)]
    whom: Whom,
    #[command(flatten)]
    json: Json,
}

#[derive(Args)]
#[group(id = "whom", multiple = false)]
struct Whom {
    /// A user, by name or uid; or `container:NAME`, as `status` shows it
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// A user, by name or uid
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Every member of a group, by name or gid
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// A container, as `status` shows it
    #[arg(long, value_name = "NAME")]
    container: Option<String>,
    /// Everything in the cgroups that match, and below
    #[arg(long, value_name = "PATTERN")]
    cgroup: Option<String>,
}

/// The whole program but the exit.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            let code = if e.use_stderr() { Code::Usage } else { Code::Fine };
            // Nobody is left to tell when even this cannot be printed.
            let _ = e.print();
            return code.into();
        }
    };
    match dispatch(&cli) {
        Ok(code) => code.into(),
        Err(failure) => {
            if !failure.message.is_empty() {
                eprintln!("smtp-agent: {failure}");
            }
            failure.code.into()
        }
    }
}

fn dispatch(cli: &Cli) -> Result<Code> {
    let path = cli.config.as_path();
    match &cli.command {
        Command::Run => daemon::run::run(path, load(path)?).map(|()| Code::Fine),
        Command::Check(json) => check::check(path, json.json),
        Command::Explain(args) => explain::explain(path, args),
        Command::Status(json) => status::status(path, json.json),
        Command::Top => top::top(path),
        Command::Report(args) => report::report(path, args),
        Command::Who(args) => who::who(path, args),
        Command::Rehearse(args) => rehearse::command(path, args),
        Command::Timeline(args) => timeline::timeline(path, args),
        Command::Events(args) => events::events(path, args),
        Command::Reload(json) => reload::reload(path, json.json),
        Command::RelayCheck(args) => relay_check::relay_check(args),
        Command::Doctor(args) => doctor::doctor(path, args),
        Command::Notify(Notify { what: NotifyWhat::Test { sink, json } }) => {
            notify::test(path, sink.as_deref(), json.json)
        }
        Command::Import(args) => import::import(args.panel, &args.root, args.output.as_deref(), args.json.json),
        Command::Allow(args) => by_hand::say(path, Says::Allowed, args),
        Command::Block(args) => by_hand::say(path, Says::Blocked, args),
        Command::Release(args) => by_hand::release(path, args),
        Command::Detach(json) => detach::detach(path, json.json),
    }
}

/// The configuration without errors, or all of them.
fn load(path: &Path) -> Result<Loaded> {
    config::load(path).map_err(|problems| {
        Failure::config(format!(
            "the configuration cannot be used\n{}",
            problems.render(daemon::logging::colour(std::io::stderr()))
        ))
    })
}
