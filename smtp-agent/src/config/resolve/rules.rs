//! Rules: one for each subject, and whether each can have an effect.

use std::collections::{HashMap, hash_map::Entry};

use super::{
    super::{
        draft::{ExceptionDraft, RuleDraft},
        network::Network,
        pattern::Pattern,
        place::{Place, Spot},
        plan::PlanRef,
        problem::{Problem, Problems},
        render::quoted,
        schema::{Allow, ExceptionEntry, Name, RuleEntry, Subject},
    },
    names::places,
    plans::Plans,
};

/// The lists that are asked before any rule.
pub(super) struct Lists<'a> {
    allowed_users: HashMap<&'a Name, &'a Place>,
    allowed_groups: HashMap<&'a Name, &'a Place>,
    denied: HashMap<&'a Name, &'a Place>,
}

impl<'a> Lists<'a> {
    pub(super) fn new(allow: &'a Allow, deny: &'a [Spot<Name>]) -> Self {
        Self { allowed_users: places(&allow.users), allowed_groups: places(&allow.groups), denied: places(deny) }
    }

    /// A rule for somebody whom a list speaks of.
    fn check(&self, user: Option<&Spot<Name>>, group: Option<&Spot<Name>>, problems: &mut Problems) {
        let of_user = user.and_then(|name| {
            let denied = self.denied.get(&name.value).map(|place| ("deny", place));
            let (list, place) = denied.or_else(|| Some(("allow", self.allowed_users.get(&name.value)?)))?;
            Some(("user", name, list, *place))
        });
        let of_group = || group.and_then(|name| Some(("group", name, "allow", *self.allowed_groups.get(&name.value)?)));
        let Some((what, name, list, place)) = of_user.or_else(of_group) else { return };
        let (shown, place) = (quoted(&name.value.to_string()), place.seen_from(&name.at));
        let message = format!("this rule has no effect: {what} `{shown}` is in [{list}] {place}, which wins");
        problems.push(Problem::warning(message).at(name.at.clone()).hint("remove one of the two"));
    }
}

/// Who has which plan. Of two rules for the same subject in different files the later one holds.
pub(super) fn plain(
    drafts: Vec<RuleDraft>,
    lists: &Lists<'_>,
    plans: &mut Plans,
    default: PlanRef,
    problems: &mut Problems,
) -> Vec<RuleEntry> {
    let mut numbers: HashMap<Key, usize> = HashMap::with_capacity(drafts.len());
    let mut rules: Vec<RuleEntry> = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let RuleDraft { subject, each, strict, at, .. } = draft;
        match &subject {
            Subject::User(name) => lists.check(Some(name), None, problems),
            Subject::Group(name) => lists.check(None, Some(name), problems),
            Subject::Cgroup(_) => {}
        }
        let base = draft.plan.map_or(default, |name| plans.find(&name, problems));
        let plan = draft.limits.map_or(base, |limits| plans.own(base, &limits, problems));
        let rule = RuleEntry { subject, plan, each, strict, at, replaces: None };
        match numbers.entry(Key::of(&rule.subject)) {
            Entry::Vacant(entry) => {
                entry.insert(rules.len());
                rules.push(rule);
            }
            Entry::Occupied(entry) => {
                let first = &mut rules[*entry.get()];
                let (what, shown, place) = naming(&rule.subject);
                let (_, _, first_place) = naming(&first.subject);
                if first_place.is_in_the_file_of(place) {
                    let message = format!("{what} `{shown}` already has a rule {}", first_place.seen_from(place));
                    problems.push(Problem::error(message).at(place.clone()).hint("remove one of the two"));
                } else {
                    *first = RuleEntry { replaces: Some(first.at.clone()), ..rule };
                }
            }
        }
    }
    rules
}

/// What must not have two rules.
#[derive(PartialEq, Eq, Hash)]
enum Key {
    User(Name),
    Group(Name),
    Cgroup(Pattern),
}

impl Key {
    fn of(subject: &Subject) -> Self {
        match subject {
            Subject::User(name) => Self::User(name.value.clone()),
            Subject::Group(name) => Self::Group(name.value.clone()),
            Subject::Cgroup(pattern) => Self::Cgroup(pattern.value.clone()),
        }
    }
}

/// How messages name a subject, and where it stands.
fn naming(subject: &Subject) -> (&'static str, String, &Place) {
    match subject {
        Subject::User(name) => ("user", quoted(&name.value.to_string()), &name.at),
        Subject::Group(name) => ("group", quoted(&name.value.to_string()), &name.at),
        Subject::Cgroup(pattern) => ("cgroup", quoted(pattern.value.as_str()), &pattern.at),
    }
}

/// What an exception asks for, its lists in order.
type Condition = (Option<Name>, Option<Name>, Option<Pattern>, Vec<Network>, Vec<u16>);

/// What is allowed or denied. `ports` are those that are looked at, where that is known.
pub(super) fn exceptions(
    drafts: Vec<ExceptionDraft>,
    lists: &Lists<'_>,
    ports: Option<&[u16]>,
    problems: &mut Problems,
) -> Vec<ExceptionEntry> {
    let mut numbers: HashMap<Condition, usize> = HashMap::with_capacity(drafts.len());
    let mut entries: Vec<ExceptionEntry> = Vec::with_capacity(drafts.len());
    for draft in drafts {
        lists.check(draft.user.as_ref(), draft.group.as_ref(), problems);
        for port in draft.ports.iter().filter(|port| ports.is_some_and(|ports| !ports.contains(&port.value))) {
            let message = format!("port {} is not in [smtp] ports: this never matches", port.value);
            problems.push(Problem::warning(message).at(port.at.clone()).hint("add it to [smtp] ports, or remove it"));
        }
        let ExceptionDraft { user, group, cgroup, to, allow, at, .. } = draft;
        let ports = draft.ports.into_iter().map(|port| port.value).collect();
        let exception = ExceptionEntry { user, group, cgroup, to, ports, allow, at, replaces: None };
        match numbers.entry(condition(&exception)) {
            Entry::Vacant(entry) => {
                entry.insert(entries.len());
                entries.push(exception);
            }
            Entry::Occupied(entry) => {
                let first = &mut entries[*entry.get()];
                if first.at.is_in_the_file_of(&exception.at) {
                    let place = first.at.seen_from(&exception.at);
                    let message = format!("there already is a rule for the same connections {place}");
                    problems.push(Problem::error(message).at(exception.at).hint("remove one of the two"));
                } else {
                    *first = ExceptionEntry { replaces: Some(first.at.clone()), ..exception };
                }
            }
        }
    }
    entries
}

fn condition(exception: &ExceptionEntry) -> Condition {
    let name = |spot: &Option<Spot<Name>>| spot.as_ref().map(|spot| spot.value.clone());
    let (mut to, mut ports) = (exception.to.clone(), exception.ports.clone());
    to.sort_unstable();
    ports.sort_unstable();
    let cgroup = exception.cgroup.as_ref().map(|spot| spot.value.clone());
    (name(&exception.user), name(&exception.group), cgroup, to, ports)
}
