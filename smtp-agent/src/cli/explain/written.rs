//! Which line of the configuration an account's rule comes from.

use smtp_common::{
    connection::Account,
    rule::{Origin, Rule},
};

use crate::{
    accounts::database::Database,
    config::{Config, Name, Place, RuleEntry, Spot, Subject},
    policy::patterns::ancestry,
};

/// Where a rule is written.
pub(super) struct Written {
    pub(super) at: Place,
    /// The rule of an earlier file in whose place it stands.
    pub(super) replaces: Option<Place>,
}

/// The line that gives an account its rule. `None` for defaults and exceptions, and where the configuration has changed
/// since the policy was loaded.
pub(super) fn written(
    config: &Config,
    users: &Database,
    rule: &Rule,
    account: Account,
    cgroup: Option<&str>,
) -> Option<Written> {
    let named = |names: &[Spot<Name>], found: &dyn Fn(&Name) -> bool| {
        let name = names.iter().find(|name| found(&name.value))?;
        Some(Written { at: name.at.clone(), replaces: None })
    };
    let is_user = |name: &Name| account.uid().is_some() && users.uid_of(name) == account.uid();
    let is_member = |name: &Name| {
        let members = users.gid_of(name).map(|gid| users.members(gid)).unwrap_or_default();
        account.uid().is_some_and(|uid| members.contains(&uid))
    };
    let entry = |entry: &RuleEntry| Written { at: entry.at.clone(), replaces: entry.replaces.clone() };
    match rule.origin {
        o if o == Origin::AllowUser as u8 => named(&config.allow.users, &is_user),
        o if o == Origin::AllowGroup as u8 => named(&config.allow.groups, &is_member),
        o if o == Origin::DenyUser as u8 => named(&config.deny, &is_user),
        o if o == Origin::RuleUser as u8 => {
            config.rules.iter().find(|e| matches!(&e.subject, Subject::User(name) if is_user(&name.value))).map(entry)
        }
        o if o == Origin::RuleGroup as u8 => config
            .rules
            .iter()
            .find(|e| matches!(&e.subject, Subject::Group(name) if is_member(&name.value)))
            .map(entry),
        o if o == Origin::RuleCgroup as u8 => {
            // The inner one speaks, and of two for the same cgroup the later.
            let around: Vec<&str> = ancestry(cgroup?).collect();
            let matches = |path: &str, entry: &RuleEntry| matches!(&entry.subject, Subject::Cgroup(p) if p.value.glob().compile_matcher().is_match(path));
            let inner = around.iter().rev().find_map(|path| config.rules.iter().rev().find(|e| matches(path, e)));
            inner.map(entry)
        }
        _ => None,
    }
}
