//! From what is written to what applies: defaults, plans by number, and whether it all goes together.

mod names;
mod notify;
mod plans;
mod rules;

use std::path::PathBuf;

use names::{Names, built_in_names, names, warn_of_repetition};
use plans::Plans;

use super::{
    draft::{Draft, GroupDraft},
    limits::Limits,
    place::Spot,
    problem::{Problem, Problems},
    render::quoted,
    schema::{
        Attribution, CgroupChoice, Config, DEFAULT_PORTS, DEFAULT_SENDMAIL, Events, GroupEntry, History, Host, Log,
        Metrics, Mode, Page, Paths,
    },
};

/// `complete` is false when some file could not be read in full. What is missing then may be in the part
/// that was not read, and an error about it would send the reader the wrong way.
///
/// The result counts only if `problems` has no errors.
pub(super) fn resolve(draft: Draft, complete: bool, problems: &mut Problems) -> Config {
    check_that_messages_are_followed(&draft, problems);
    let ports = draft.ports.unwrap_or_else(|| DEFAULT_PORTS.to_vec());
    let mut plans = Plans::new(draft.plans.list, complete, problems);
    if complete {
        plans.check_redirection(&ports, problems);
    }
    let default_plan = match &draft.default_plan {
        Some(name) => plans.find(name, problems),
        None => plans.standard(),
    };
    let containers_plan = draft.containers_plan.map_or(default_plan, |name| plans.find(&name, problems));
    let (allow, deny) = names(
        draft.allow_users,
        draft.allow_groups.unwrap_or_default(),
        draft.deny_users,
        &draft.rules.plain,
        problems,
    );
    let lists = rules::Lists::new(&allow, &deny);
    let entries = rules::plain(draft.rules.plain, &lists, &mut plans, default_plan, problems);
    let ports_of_rules = complete.then_some(ports.as_slice());
    let exceptions = rules::exceptions(draft.rules.exceptions, &lists, ports_of_rules, problems);
    let groups = groups(draft.groups.list, complete, problems);
    draft.host_limits.check(false, problems);
    let host = draft.host_limits.quotas();
    let (count_lists, list_users) = list_managers(draft.count_lists, draft.list_users, problems);
    let (paths, metrics, events, log) = (Paths::default(), Metrics::default(), Events::default(), Log::default());
    let history = History::default();
    Config {
        mode: draft.mode.unwrap_or(Mode::Enforce),
        watch: draft.watch.unwrap_or(false),
        control_group: draft.control_group,
        ports,
        messages: draft.messages.is_none_or(|spot| spot.value),
        sendmail: draft.sendmail.unwrap_or_else(|| DEFAULT_SENDMAIL.map(PathBuf::from).to_vec()),
        allow,
        deny,
        default_plan,
        containers_plan,
        plans: plans.list,
        groups,
        rules: entries,
        exceptions,
        host: Host {
            connections: host.connections,
            messages: host.messages,
            recipients: host.recipients,
            strict: draft.strict.unwrap_or(false),
            count_lists,
            list_users,
        },
        paths: Paths {
            pins: draft.pins.unwrap_or(paths.pins),
            state: draft.state.unwrap_or(paths.state),
            run: draft.run.unwrap_or(paths.run),
        },
        cgroup: draft.cgroup.unwrap_or(CgroupChoice::Auto),
        metrics: Metrics {
            listen: draft.listen.unwrap_or(metrics.listen),
            max_users: draft.max_users.map_or(metrics.max_users, |n| n as usize),
        },
        page: Page { show: draft.show.unwrap_or_default(), hosts: draft.hosts.unwrap_or_default() },
        events: Events { per_second: draft.per_second.unwrap_or(events.per_second) },
        attribution: Attribution {
            mask: draft.mask.unwrap_or_default(),
            mask_also: draft.mask_also.unwrap_or_default(),
        },
        notify: notify::notify(draft.notify, problems),
        history: History {
            enabled: draft.history.unwrap_or(history.enabled),
            keep: draft.keep.unwrap_or(history.keep),
            max_size: draft.max_size.unwrap_or(history.max_size),
            resolve: draft.resolve.unwrap_or_default(),
            resolver: draft.resolver,
            mx_domains: draft.mx_domains.unwrap_or(history.mx_domains),
        },
        log: Log {
            level: draft.level.unwrap_or(log.level),
            format: draft.format.unwrap_or(log.format),
            probe: draft.probe.unwrap_or(log.probe),
        },
    }
}

/// A limit of messages that nobody would count must not seem to hold.
fn check_that_messages_are_followed(draft: &Draft, problems: &mut Problems) {
    let Some(Spot { value: false, at: switch }) = &draft.messages else { return };
    let of_plans = draft
        .plans
        .list
        .iter()
        .flat_map(|plan| plan.all_limits().flat_map(Limits::of_messages).chain(plan.brake.of_messages()));
    let of_rules = draft.rules.plain.iter().filter_map(|rule| rule.limits.as_deref());
    let others = draft.groups.list.iter().map(|group| &group.limits).chain(of_rules).chain([&draft.host_limits]);
    for (key, at) in of_plans.chain(others.flat_map(Limits::of_messages)) {
        let switch = switch.seen_from(at);
        let message = format!("`{key}` cannot hold: `messages` in [smtp] is false {switch}, so none are counted");
        problems.push(Problem::error(message).at(at.clone()).hint("remove one of the two"));
    }
}

/// Whether list managers are charged to the host's budget, and who they are.
fn list_managers(count: Option<Spot<bool>>, users: Option<Spot<Names>>, problems: &mut Problems) -> (bool, Names) {
    let counts = count.as_ref().is_none_or(|spot| spot.value);
    if let Some(Spot { value: names, at }) = &users {
        warn_of_repetition("host.list_users", names, problems);
        if counts {
            let problem = Problem::warning("`list_users` does nothing as long as `count_lists` is true");
            problems.push(problem.at(at.clone()).hint("add count_lists = false, or remove it"));
        } else if names.is_empty() {
            let problem = Problem::warning("`list_users` is empty, so `count_lists = false` does nothing");
            problems.push(problem.at(at.clone()).hint("name the users whose mails are not to be counted"));
        }
    }
    (counts, users.or_else(|| built_in_names(problems).list_users).map(|spot| spot.value).unwrap_or_default())
}

/// What the members of each group may together.
fn groups(drafts: Vec<GroupDraft>, complete: bool, problems: &mut Problems) -> Vec<GroupEntry> {
    let entry = |GroupDraft { name, limits }: GroupDraft| {
        limits.check(false, problems);
        if !limits.written && complete {
            let message = format!("group `{}` has no limit", quoted(&name.value.to_string()));
            let problem = Problem::warning(message).at(name.at.clone());
            problems.push(problem.hint("add per_hour, messages_per_hour or another, or remove it"));
        }
        GroupEntry { name, quotas: limits.quotas() }
    };
    drafts.into_iter().map(entry).collect()
}
