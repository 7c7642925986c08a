//! From what is written to what applies: defaults, plans by number, and whether it all goes together.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
};

use super::{
    draft::{Draft, PlanDraft, RuleDraft, read_file},
    nearest::nearest,
    place::{Place, Source, Spot},
    problem::{Problem, Problems},
    render::quoted,
    schema::{
        Allow, BUILT_IN_NAMES, CgroupChoice, Config, DEFAULT_PORTS, DEFAULT_SENDMAIL, DEFAULT_SOFT_PERCENT, Events,
        Host, Log, Metrics, Mode, Name, OnSoft, Paths, Plan, PlanRef, RuleEntry, STANDARD, Subject,
    },
};

/// `complete` is false when some file could not be read in full. What is missing then may be in the part
/// that was not read, and an error about it would send the reader the wrong way.
///
/// The result counts only if `problems` has no errors.
pub(super) fn resolve(draft: Draft, complete: bool, problems: &mut Problems) -> Config {
    check_that_messages_are_followed(&draft, problems);
    let mut plans = Plans::new(draft.plans, complete, problems);
    let default_plan = match &draft.default_plan {
        Some(name) => plans.find(name, problems),
        None => plans.standard(),
    };
    let containers_plan = draft.containers_plan.map_or(default_plan, |name| plans.find(&name, problems));
    let (allow, deny) =
        names(draft.allow_users, draft.allow_groups.unwrap_or_default(), draft.deny_users, &draft.rules, problems);
    let rules = rules(draft.rules, &allow, &deny, &mut plans, problems);
    draft.host_limits.check(false, problems);
    let (count_lists, list_users) = lists(draft.count_lists, draft.list_users, problems);
    let (paths, metrics, events, log) = (Paths::default(), Metrics::default(), Events::default(), Log::default());
    Config {
        mode: draft.mode.unwrap_or(Mode::Enforce),
        ports: draft.ports.unwrap_or_else(|| DEFAULT_PORTS.to_vec()),
        messages: draft.messages.is_none_or(|spot| spot.value),
        sendmail: draft.sendmail.unwrap_or_else(|| DEFAULT_SENDMAIL.map(PathBuf::from).to_vec()),
        allow,
        deny,
        default_plan,
        containers_plan,
        plans: plans.list,
        rules,
        host: Host {
            connections: draft.host_limits.connections(),
            messages: draft.host_limits.messages(),
            recipients: draft.host_limits.recipients(),
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
        events: Events { per_second: draft.per_second.unwrap_or(events.per_second) },
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
    let of_plans = draft.plans.iter().flat_map(|plan| plan.limits.of_messages().chain(plan.brake.of_messages()));
    for (key, at) in of_plans.chain(draft.host_limits.of_messages()) {
        let switch = switch.seen_from(at);
        let message = format!("`{key}` cannot hold: `messages` in [smtp] is false {switch}, so none are counted");
        problems.push(Problem::error(message).at(at.clone()).hint("remove one of the two"));
    }
}

/// Whether list managers are charged to the host's budget, and who they are.
fn lists(count: Option<Spot<bool>>, users: Option<Spot<Names>>, problems: &mut Problems) -> (bool, Names) {
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

/// The plans by number, and their numbers by name.
struct Plans {
    list: Vec<Plan>,
    numbers: HashMap<String, usize>,
    complete: bool,
}

impl Plans {
    fn new(drafts: Vec<PlanDraft>, complete: bool, problems: &mut Problems) -> Self {
        let mut plans = Self { list: Vec::new(), numbers: HashMap::new(), complete };
        for draft in drafts {
            let PlanDraft { limits, brake, .. } = &draft;
            let local = draft.local.unwrap_or(false);
            limits.check(local, problems);
            brake.check(complete, problems);
            if !limits.written && !brake.written && complete {
                let message = format!("plan `{}` has no limit", quoted(&draft.name.value));
                let hint = "add per_hour, messages_per_hour or another; for no limits use the built-in plan \"allow\"";
                problems.push(Problem::warning(message).at(draft.name.at.clone()).hint(hint));
            }
            plans.add(Plan {
                connections: limits.connections(),
                messages: limits.messages(),
                recipients: limits.recipients(),
                soft_percent: draft.soft_percent.unwrap_or(DEFAULT_SOFT_PERCENT),
                on_soft: draft.on_soft.unwrap_or(OnSoft::Defer),
                brake: brake.brake(),
                local,
                name: draft.name.value,
            });
        }
        plans
    }

    fn add(&mut self, plan: Plan) -> PlanRef {
        let number = self.list.len();
        self.numbers.insert(plan.name.clone(), number);
        self.list.push(plan);
        PlanRef::Plan(number)
    }

    fn standard(&mut self) -> PlanRef {
        match self.numbers.get(STANDARD) {
            Some(number) => PlanRef::Plan(*number),
            None => self.add(Plan::standard()),
        }
    }

    fn find(&mut self, name: &Spot<String>, problems: &mut Problems) -> PlanRef {
        match name.value.as_str() {
            "deny" => return PlanRef::Deny,
            "allow" => return PlanRef::Allow,
            STANDARD => return self.standard(),
            other => {
                if let Some(number) = self.numbers.get(other) {
                    return PlanRef::Plan(*number);
                }
            }
        }
        if self.complete {
            let problem = Problem::error(format!("there is no plan `{}`", quoted(&name.value))).at(name.at.clone());
            problems.push(if problems.is_full() { problem } else { problem.hint(self.hint(&name.value)) });
        }
        PlanRef::Deny
    }

    fn hint(&self, missing: &str) -> String {
        let built_in = [STANDARD, "deny", "allow"];
        let defined = self.list.iter().map(|plan| plan.name.as_str());
        if let Some(name) = nearest(missing, built_in.into_iter().chain(defined.clone())) {
            return format!("did you mean \"{}\"?", quoted(name));
        }
        let mut names: Vec<String> =
            defined.filter(|name| *name != STANDARD).take(8).map(|name| format!("\"{}\"", quoted(name))).collect();
        names.extend(built_in.map(|name| format!("\"{name}\"")));
        format!("define [plan.{}], or use one of {}", quoted(missing), names.join(", "))
    }
}

type Names = Vec<Spot<Name>>;

fn built_in_names(problems: &mut Problems) -> Draft {
    let mut built_in = Draft::default();
    read_file(&Source::new("built-in defaults", BUILT_IN_NAMES, usize::MAX), &mut built_in, problems);
    built_in
}

/// Who is exempt and who is denied. A built-in name gives way to what a file says about the same name.
fn names(
    allow_users: Option<Names>,
    groups: Names,
    deny_users: Option<Names>,
    rules: &[RuleDraft],
    problems: &mut Problems,
) -> (Allow, Names) {
    let built_in = built_in_names(problems);
    let written = |names: &Option<Names>| names.iter().flatten().map(|name| name.value.clone()).collect::<Vec<_>>();
    let in_rules = rules.iter().filter_map(|rule| match &rule.subject {
        Subject::User(name) => Some(name.value.clone()),
        Subject::Group(_) => None,
    });
    let spoken_for: HashSet<Name> =
        written(&allow_users).into_iter().chain(written(&deny_users)).chain(in_rules).collect();
    let or_built_in = |names: Option<Names>, built_in: Option<Names>| {
        names.unwrap_or_else(|| {
            let unspoken = |name: &Spot<Name>| !spoken_for.contains(&name.value);
            built_in.unwrap_or_default().into_iter().filter(unspoken).collect()
        })
    };
    let users = or_built_in(allow_users, built_in.allow_users);
    let denied = or_built_in(deny_users, built_in.deny_users);

    warn_of_repetition("allow.users", &users, problems);
    warn_of_repetition("allow.groups", &groups, problems);
    warn_of_repetition("deny.users", &denied, problems);
    let allowed = places(&users);
    for name in &denied {
        if let Some(other) = allowed.get(&name.value) {
            let shown = quoted(&name.value.to_string());
            let message = format!("user `{shown}` is denied here and allowed {}", other.seen_from(&name.at));
            problems.push(Problem::error(message).at(name.at.clone()).hint("remove one of the two"));
        }
    }
    (Allow { users, groups }, denied)
}

/// The first place of each name.
fn places(names: &[Spot<Name>]) -> HashMap<&Name, &Place> {
    names.iter().rev().map(|name| (&name.value, &name.at)).collect()
}

fn warn_of_repetition(list: &str, names: &[Spot<Name>], problems: &mut Problems) {
    let mut seen = HashSet::new();
    for name in names.iter().filter(|name| !seen.insert(&name.value)) {
        let message = format!("`{}` is in {list} twice", quoted(&name.value.to_string()));
        problems.push(Problem::warning(message).at(name.at.clone()).hint("remove one"));
    }
}

fn rules(
    drafts: Vec<RuleDraft>,
    allow: &Allow,
    deny: &[Spot<Name>],
    plans: &mut Plans,
    problems: &mut Problems,
) -> Vec<RuleEntry> {
    let allowed_users = places(&allow.users);
    let allowed_groups = places(&allow.groups);
    let denied = places(deny);
    let mut seen: HashMap<(bool, Name), Place> = HashMap::new();
    let mut rules = Vec::new();
    for draft in drafts {
        let (is_user, what, name) = match &draft.subject {
            Subject::User(name) => (true, "user", name),
            Subject::Group(name) => (false, "group", name),
        };
        let shown = quoted(&name.value.to_string());
        let stronger = if is_user {
            let denied = denied.get(&name.value).map(|place| ("deny", place));
            denied.or_else(|| allowed_users.get(&name.value).map(|place| ("allow", place)))
        } else {
            allowed_groups.get(&name.value).map(|place| ("allow", place))
        };
        if let Some((list, place)) = stronger {
            let place = place.seen_from(&name.at);
            let message = format!("this rule has no effect: {what} `{shown}` is in [{list}] {place}, which wins");
            problems.push(Problem::warning(message).at(name.at.clone()).hint("remove one of the two"));
        }
        if let Some(first) = seen.get(&(is_user, name.value.clone())) {
            let message = format!("{what} `{shown}` already has a rule {}", first.seen_from(&name.at));
            problems.push(Problem::error(message).at(name.at.clone()).hint("remove one of the two"));
        } else {
            seen.insert((is_user, name.value.clone()), name.at.clone());
        }
        let plan = plans.find(&draft.plan, problems);
        rules.push(RuleEntry { subject: draft.subject, plan });
    }
    rules
}
