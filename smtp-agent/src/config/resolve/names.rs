//! Who is exempt and who is denied.

use std::collections::{HashMap, HashSet};

use super::super::{
    draft::{Draft, RuleDraft, read_file},
    place::{Place, Source, Spot},
    problem::{Problem, Problems},
    render::quoted,
    schema::{Allow, BUILT_IN_NAMES, Name, Subject},
};

pub(super) type Names = Vec<Spot<Name>>;

pub(super) fn built_in_names(problems: &mut Problems) -> Draft {
    let mut built_in = Draft::default();
    read_file(&Source::new("built-in defaults", BUILT_IN_NAMES, usize::MAX), &mut built_in, problems);
    built_in
}

/// Who is exempt and who is denied. A built-in name gives way to what a file says about the same name, but not to an
/// exception, which says nothing about the rest of what he sends.
pub(super) fn names(
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
        Subject::Group(_) | Subject::Cgroup(_) => None,
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
pub(super) fn places(names: &[Spot<Name>]) -> HashMap<&Name, &Place> {
    names.iter().rev().map(|name| (&name.value, &name.at)).collect()
}

pub(super) fn warn_of_repetition(list: &str, names: &[Spot<Name>], problems: &mut Problems) {
    let mut seen = HashSet::new();
    for name in names.iter().filter(|name| !seen.insert(&name.value)) {
        let message = format!("`{}` is in {list} twice", quoted(&name.value.to_string()));
        problems.push(Problem::warning(message).at(name.at.clone()).hint("remove one"));
    }
}
