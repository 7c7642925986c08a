//! `smtp-agent explain`: the kernel's decision, taken here on a copy and told in words.

use std::{collections::HashSet, net::IpAddr, path::Path, time::Duration};

use nix::ifaddrs::getifaddrs;
use serde_json::{Value, json};
use smtp_common::{
    choice::select,
    connection::{Account, Address, Attempt, Route, kind},
    counter::{Reason, Verdict},
    level::{ByHand, Chain, LINKS, Purse, exception},
    rule::{Action, Origin, PlanLimits, Policy, Rule, Rules, rule_flag},
    tally::Unit,
    window::{Lane, UNLIMITED, WindowKey},
};

use super::{Explain, by_hand::list, lenient, load, output};
use crate::{
    accounts::{
        container,
        database::{Database, user_name},
        label::printable,
    },
    by_hand::{self, Entry},
    config::{Config, Quotas},
    daemon::reload::compile,
    exit::{Code, Failure, Result},
    kernel::{
        cgroup::{self, Hierarchy},
        cgroup_tree::Tree,
        maps::Maps,
        pins::{Pins, State},
        sys::boot_nanos,
    },
    policy::{
        Compiled,
        exceptions::List,
        explain::{self as words, Question},
        limits::{Moment, plan_limits},
        patterns::ancestry,
    },
};

mod source;
mod written;

use source::Source;
use written::{Written, written};

/// What is asked about.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Asked {
    Connection,
    Message,
    Recipient,
}

impl Asked {
    const fn name(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Message => Unit::Message.name(),
            Self::Recipient => Unit::Recipient.name(),
        }
    }

    const fn unit(self) -> Option<Unit> {
        match self {
            Self::Connection => None,
            Self::Message => Some(Unit::Message),
            Self::Recipient => Some(Unit::Recipient),
        }
    }
}

/// Where TLS begins with the first byte (RFC 8314, 3.3).
const SUBMISSIONS: u16 = 465;

pub(super) fn explain(path: &Path, args: &Explain) -> Result<Code> {
    let lenient = lenient::load(path);
    let pins = Pins::new(&lenient.paths.pins);
    let (mut source, config) = match pins.state()? {
        State::Ours => {
            let maps = Maps::open(&pins)?;
            let policy = maps.policy()?;
            (Source::Gate(Box::new(maps), policy), lenient.config)
        }
        _ => {
            let config = load(path)?.config;
            (Source::Config(Box::new(compile(&config))), Some(config))
        }
    };
    let uid = Database::read().uid(&args.user).or_else(|| args.user.parse().ok()).ok_or_else(|| {
        Failure::config(format!("this host has no user {:?}; write a name from `getent passwd` or a uid", args.user))
    })?;
    if !source.has_port(args.port)? {
        let text =
            format!("port {} is not in [smtp] ports: such connections are neither limited nor counted", args.port);
        if args.json.json {
            output::json(&json!({ "user": args.user, "uid": uid, "port": args.port, "verdict": "not_smtp" }))?;
        } else {
            output::line(&text)?;
        }
        return Ok(Code::Fine);
    }
    let (attempt, cgroup) = attempt(args, uid, &mut source, config.as_ref())?;
    let policy = source.policy();
    let rule = select(Box::new(*policy), &source, &attempt, boot_nanos());
    let mut copy = source.copy(&attempt, &rule)?;
    // Of a message that nobody sees only the connection is decided.
    let unit = args.unit.unit().filter(|_| unseen(args, policy).is_none());
    let question = Question { policy, rule: &rule, attempt: &attempt, unit, now: boot_nanos() };
    let words::Answer { decision, left, brake } = question.answer(&mut copy);
    let verdict = if policy.enforce == 1 { decision.verdict } else { decision.verdict.observed() };
    let code = if verdict.is_stop() { Code::No } else { Code::Fine };

    let said = (decision.reason() == Reason::ByHand).then(|| {
        // Who said it and why is in the file alone.
        let container = source.container(attempt.account);
        list::deciding(&lenient.paths.state, attempt.account, container.as_deref(), cgroup.as_deref())
    });
    let said = said.flatten();
    let users = Database::read();
    let written = config.as_ref().and_then(|config| written(config, &users, &rule, attempt.account, cgroup.as_deref()));
    let answer = Answer {
        args,
        uid,
        source: &source,
        config: config.as_ref(),
        attempt,
        rule,
        verdict,
        reason: decision.reason(),
        left,
        brake,
        said,
        written,
    };
    if args.json.json {
        output::json(&answer.json())?;
    } else {
        output::line(&answer.lines().join("\n"))?;
    }
    Ok(code)
}

/// The attempt, and the path of its cgroup.
fn attempt(
    args: &Explain,
    uid: u32,
    source: &mut Source,
    config: Option<&Config>,
) -> Result<(Attempt, Option<String>)> {
    let route = match args.to {
        Some(to) if source.is_local(&Address::from(to)) => Route::Local,
        _ => Route::Remote,
    };
    let owner = source.owner_of(uid)?.unwrap_or(uid);
    let (mut account, mut cgroup, mut path_below) = (Account::user(owner), 0, None);
    if let Some(path) = &args.cgroup {
        let choice = config.map(|c| c.cgroup.clone()).unwrap_or_default();
        let hierarchy = Hierarchy::find(&choice)?;
        let below = path.strip_prefix(&hierarchy.root).unwrap_or(path);
        let below = Path::new("/").join(below.strip_prefix("/").unwrap_or(below));
        let shown = below.to_string_lossy();
        if container::is_container(&shown) {
            let full = hierarchy.root.join(below.strip_prefix("/").unwrap_or(&below));
            account = Account::new(kind::CGROUP, cgroup::id(&full)?);
        }
        cgroup = source.cgroup(&Tree::of(&hierarchy), &shown);
        path_below = Some(shown.into_owned());
    }
    let exception = source.excepted(account, cgroup, args.port, args.to);
    Ok((Attempt { account, route, host_uid: None, cgroup, exception }, path_below))
}

/// Why a message that is asked about would not be seen.
fn unseen(args: &Explain, policy: &Policy) -> Option<&'static str> {
    args.unit.unit()?;
    if policy.sessions == 0 {
        Some("[smtp] messages = false")
    } else {
        (args.port == SUBMISSIONS).then_some("port 465 is TLS from the first byte")
    }
}

/// The decision and everything that led to it.
struct Answer<'a> {
    args: &'a Explain,
    uid: u32,
    source: &'a Source,
    config: Option<&'a Config>,
    attempt: Attempt,
    rule: Rule,
    verdict: Verdict,
    reason: Reason,
    left: Vec<words::Left>,
    brake: Option<words::Brake>,
    said: Option<Entry>,
    /// Where the configuration says so, as it is now.
    written: Option<Written>,
}

impl Answer<'_> {
    fn json(&self) -> Value {
        json!({
            "user": self.args.user,
            "uid": self.uid,
            "account": self.attempt.account.uid(),
            "container": self.attempt.account.is_container(),
            "port": self.args.port,
            "to": self.args.to,
            "route": self.attempt.route.name(),
            "unit": self.args.unit.name(),
            "verdict": self.verdict.name(),
            "reason": self.reason.name(),
            "rule": words::origin(&self.rule),
            "written": self.written.as_ref().map(|written| written.at.to_string()),
            "replaces": self.written.as_ref().and_then(|written| Some(written.replaces.as_ref()?.to_string())),
            "plan": self.plan(),
            "limits": self.left,
            "brake": self.brake,
            "by_hand": self.said.as_ref().map(|entry| list::listed(entry, by_hand::Time::now())),
            "charged_to_host": self.is_the_hosts(),
            "messages_followed": self.source.policy().sessions == 1,
            "policy": self.source.policy().serial,
            "from": if matches!(self.source, Source::Gate(..)) { "gate" } else { "config" },
        })
    }

    fn lines(&self) -> Vec<String> {
        let to = self.args.to.map_or_else(|| "a server elsewhere".to_owned(), |to| to.to_string());
        let plan = self.plan().map(|plan| format!(" \"{plan}\"")).unwrap_or_default();
        let (port, route) = (self.args.port, self.attempt.route.name());
        let unit = match self.args.unit {
            Asked::Connection => String::new(),
            asked => format!(", one {}", asked.name()),
        };
        // Who may not connect never comes to send.
        let shut = [Action::Deny as u8, Action::Closed as u8].contains(&self.rule.action);
        let unseen = unseen(self.args, self.source.policy());
        let met_as = self.args.unit.unit().filter(|_| !shut && unseen.is_none());
        let mut lines = vec![
            format!("{} to {to}, port {port}, route {route}{unit}:", self.who()),
            format!("  verdict  {}", words::verdict(self.verdict, met_as)),
            format!("  reason   {}", words::reason(self.reason)),
            format!("  rule     {}{plan}", words::origin(&self.rule)),
        ];
        lines.extend(self.written.as_ref().map(|written| {
            let instead = written.replaces.as_ref().map(|place| format!(", in place of {place}")).unwrap_or_default();
            format!("  written  {}{instead}", written.at)
        }));
        lines.extend(self.said.as_ref().map(|entry| format!("  by hand  {}", list::line(entry))));
        lines.extend(self.left.iter().map(limit));
        lines.extend(self.brake.as_ref().map(brake));
        if self.rule.has(rule_flag::NOT_THE_HOSTS) {
            lines.push("  host     not charged to its budget: [host] list_users names this account".to_owned());
        }
        lines.extend(unseen.map(|why| format!("  note     messages are neither counted nor limited: {why}")));
        let source = match self.source {
            Source::Gate(_, policy) => format!("the gate in force, policy generation {}", policy.serial),
            Source::Config(_) => "the configuration alone: no gate is pinned, so nothing has been counted".to_owned(),
        };
        lines.push(format!("  source   {source}"));
        lines
    }

    fn is_the_hosts(&self) -> bool {
        self.attempt.route == Route::Remote && !self.rule.has(rule_flag::NOT_THE_HOSTS)
    }

    fn who(&self) -> String {
        let shown = |uid: u32| user_name(uid).map_or_else(|| uid.to_string(), |name| printable(name.as_bytes()));
        let whose = match self.attempt.account.uid() {
            Some(owner) if owner != self.uid => format!(", a subordinate uid charged to {}", shown(owner)),
            None => ", in a container: host names do not reach it".to_owned(),
            _ => String::new(),
        };
        format!("{} (uid {}{whose})", shown(self.uid), self.uid)
    }

    /// The plan's name, as long as the configuration still says of it what the gate does.
    fn plan(&self) -> Option<&str> {
        if [Origin::ByHand as u8, Origin::Exception as u8].contains(&self.rule.origin) {
            return None;
        }
        if self.rule.action == Action::Closed as u8 {
            return Some("deny");
        }
        let plans = &self.config?.plans;
        // The second number of a plan stands for its brake alone.
        let of_cgroup = self.rule.origin == Origin::RuleCgroup as u8;
        let number = (self.rule.plan as usize).checked_sub(if of_cgroup { plans.len() } else { 0 })?;
        let plan = plans.get(number)?;
        let now = Moment::now();
        let Quotas { connections, .. } = now.quotas(plan);
        let same = |limit: u32, written: Option<u32>| written.unwrap_or(UNLIMITED) == limit;
        // Those of a rule for a cgroup are in its purse.
        let limits_are_the_same = same(self.rule.hour.limit, connections.per_hour)
            && same(self.rule.day.limit, connections.per_day)
            && self.source.plan(self.rule.plan).map(|limits| *limits) == Some(plan_limits(plan, now));
        let unchanged = (of_cgroup || limits_are_the_same) && self.rule.has(rule_flag::LOCAL) == plan.local;
        unchanged.then_some(plan.name.as_str())
    }
}

fn limit(window: &words::Left) -> String {
    let soft = window.soft_left.map(|n| format!(", then {n} deferred")).unwrap_or_default();
    let wait = match window.free_in_seconds {
        0 => String::new(),
        s => format!(", next in {}", time(s)),
    };
    let name = window.name.as_ref().map(|name| format!(" {}", printable(name.as_bytes()))).unwrap_or_default();
    let unit = match window.unit {
        "connection" => String::new(),
        unit => format!(" {unit}s"),
    };
    let (limit, left) = (window.limit.unwrap_or_default(), window.left.unwrap_or_default());
    format!(
        "  limit    {}{name}{unit} per {}: {} of {limit} used, {left} left{soft}{wait}",
        window.scope, window.window, window.used
    )
}

fn brake(brake: &words::Brake) -> String {
    let words::Brake { failed, messages, max_failed_percent: max, min_failed: min, .. } = brake;
    let share = brake.failed_percent.map(|share| format!(" ({share} %)")).unwrap_or_default();
    let state = match (brake.tripped_seconds_ago, brake.lapses_in_seconds) {
        (Some(ago), Some(left)) => format!("tripped {} ago, lets go in {} at the latest", time(ago), time(left)),
        _ => format!("not tripped; trips above {max} % and not before {min} have failed"),
    };
    let permitted = if brake.holds { format!(", {max} % may") } else { String::new() };
    format!("  brake    {failed} of {messages} messages of the last hour failed{share}{permitted}; {state}")
}

fn time(seconds: u64) -> String {
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}
