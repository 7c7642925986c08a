//! `allow`, `block` and `release` as the agent obeys them.

use smtp_common::{
    connection::{Account, kind},
    rule::{Action, Rules},
};

use super::{called, containers, put};
use crate::{
    accounts::{database::Database, label::printable},
    by_hand::{self, By, Entry, Says, Subject, Time, store::MOST},
    config::{Mode, Name, Pattern, nearest},
    control::{Answer, Deed, Order},
    daemon::{
        reload::{self, require_gate},
        shared::Shared,
    },
    exit::{Code, Failure, Result},
    kernel::{cgroup_tree::Tree, maps::Maps},
    metrics::budget,
    policy::patterns::Patterns,
};

/// Says something of somebody. When this returns it is on the disk and every connect() meets it.
pub async fn say(shared: &Shared, by: By, says: Says, order: &Order) -> Result<Answer> {
    let mut current = shared.config.lock().await;
    let tree = Tree::of(&shared.gate.lock().await.1);
    let mut notes = Vec::new();
    let users = tokio::task::block_in_place(|| {
        require_gate(shared)?;
        let users = reload::users()?;
        let named = check(shared, &users, &tree, &order.whom, &mut notes)?;
        if says == Says::Blocked && !order.force {
            refuse_to_block_exempt(shared, &users, &order.whom, &named)?;
        }
        Ok::<_, Failure>(users)
    })?;
    let since = Time::now();
    let reason = order.reason.clone().filter(|reason| !reason.trim().is_empty());
    let until = order.for_seconds.map(|seconds| since.after(seconds));
    let entry = Entry { whom: order.whom.clone(), says, since, until, reason, by };
    // What was said of him before does not hold any more, under whatever name.
    let mut entries = shared.said().holding();
    let before = entries.iter().rposition(|entry| entry.whom.is(&order.whom, &users));
    if let Some(before) = before.map(|at| &entries[at]) {
        notes.push(format!("it takes the place of what was said before: {}", told(before)));
    }
    entries.retain(|entry| !entry.whom.is(&order.whom, &users));
    if entries.len() >= MOST {
        let text = format!(
            "{MOST} things are said by hand already, and there is no room for more; release some, or write rules"
        );
        return Err(Failure::unavailable(text));
    }
    entries.push(entry.clone());
    put(shared, &mut current, entries, matches!(entry.whom, Subject::Cgroup(_))).await?;
    if current.mode == Mode::Observe && says == Says::Blocked {
        notes.push("mode = \"observe\": it is counted as would_refuse, and nothing is stopped".to_owned());
    }
    Ok(Answer::Taken { entry, notes })
}

/// In a sentence: what, by whom and why.
fn told(entry: &Entry) -> String {
    let by = entry.by.user.as_ref().map_or_else(|| format!("uid {}", entry.by.uid), |name| printable(name.as_bytes()));
    let until = entry.until.map(|until| format!(" until {until}")).unwrap_or_default();
    let reason = entry.reason.as_ref().map(|reason| format!(" ({})", printable(reason.as_bytes()))).unwrap_or_default();
    format!("{} by {by} on {}{until}{reason}", entry.says.name(), entry.since)
}

/// Whether this host has him. Returns the users that are meant.
fn check(shared: &Shared, users: &Database, tree: &Tree, whom: &Subject, notes: &mut Vec<String>) -> Result<Vec<u32>> {
    match whom {
        Subject::User(name) => {
            let uid = uid(users, name)?;
            match shared.maps().owner_of(uid)?.filter(|owner| *owner != uid) {
                None => return Ok(vec![uid]),
                Some(owner) => {
                    let text =
                        format!("uid {uid} is a subordinate uid, charged to uid {owner}; name that user instead");
                    return Err(Failure::config(text));
                }
            }
        }
        Subject::Group(name) => {
            let members = users.members(gid(users, name)?);
            notes.push(match members.len() {
                0 => "the group has no members now: it holds for those who join it".to_owned(),
                1 => "the group has 1 member now".to_owned(),
                n => format!("the group has {n} members now"),
            });
            return Ok(members);
        }
        Subject::Container(name) => drop(accounts_called(shared, &shared.maps(), name)?),
        Subject::Cgroup(pattern) => {
            if !tree.all().iter().any(|(_, path)| matches(pattern, path)) {
                notes.push("no cgroup matches now: it holds for those that are made".to_owned());
            }
        }
    }
    Ok(Vec::new())
}

fn uid(users: &Database, name: &Name) -> Result<u32> {
    users.uid_of(name).ok_or_else(|| absent("user", name, users.users(), "passwd"))
}

fn gid(users: &Database, name: &Name) -> Result<u32> {
    users.gid_of(name).ok_or_else(|| absent("group", name, users.groups(), "group"))
}

fn accounts_called(shared: &Shared, maps: &Maps, name: &str) -> Result<Vec<Account>> {
    let known = containers(maps, &shared.naming)?;
    let found = called(&known)(name);
    if !found.is_empty() {
        return Ok(found);
    }
    let names = known.iter().filter_map(|(_, label)| label.strip_prefix("container:"));
    let hint = nearest(name, names).map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
    Err(Failure::config(format!(
        "no container called `{}` has connected yet; {hint}`smtp-agent status` shows what they are called",
        printable(name.as_bytes())
    )))
}

fn matches(pattern: &Pattern, path: &str) -> bool {
    let mut one = Patterns::default();
    one.add(pattern.clone());
    !one.matching(path).is_empty()
}

fn absent<'a>(what: &str, name: &Name, known: impl Iterator<Item = &'a str>, database: &str) -> Failure {
    let mut known: Vec<_> = known.collect();
    known.sort_unstable();
    let text = name.to_string();
    let hint = nearest(&text, known).map(|near| format!("did you mean `{}`? ", printable(near.as_bytes())));
    Failure::config(format!(
        "this host has no {what} `{}`; {}`getent {database}` shows them all",
        printable(text.as_bytes()),
        hint.unwrap_or_default()
    ))
}

/// Blocking the MTA or root is seldom meant.
fn refuse_to_block_exempt(shared: &Shared, users: &Database, whom: &Subject, named: &[u32]) -> Result<()> {
    let maps = shared.maps();
    let exempt = |uid: &&u32| maps.rule(Account::user(**uid)).is_some_and(|rule| rule.action == Action::Exempt as u8);
    let exempt: Vec<u32> = named.iter().filter(exempt).copied().collect();
    if exempt.is_empty() {
        return Ok(());
    }
    let shown = |uid: &u32| {
        let name = users.users().find(|name| users.uid(name) == Some(*uid));
        name.map_or_else(|| uid.to_string(), |name| printable(name.as_bytes()))
    };
    let mut who = exempt.iter().take(3).map(shown).collect::<Vec<_>>().join(", ");
    if exempt.len() > 3 {
        who.push_str(&format!(" and {} more", exempt.len() - 3));
    }
    Err(Failure::new(
        Code::Usage,
        format!(
            "[allow] names {who}: blocking {whom} stops what this host itself sends with, mail in the MTA's queue \
             included; if that is meant, say it with --force"
        ),
    ))
}

/// Takes back what was said of somebody, lets his failure brake go and empties his windows.
pub async fn release(shared: &Shared, whom: &Subject) -> Result<Answer> {
    let mut current = shared.config.lock().await;
    tokio::task::block_in_place(|| require_gate(shared))?;
    let users = tokio::task::block_in_place(reload::users)?;
    let (taken, left): (Vec<_>, Vec<_>) =
        shared.said().holding().into_iter().partition(|entry| entry.whom.is(whom, &users));
    let scopes = match scopes(shared, &users, whom).await {
        // Of one who is no more, what was said is taken back all the same.
        Err(_) if !taken.is_empty() => Vec::new(),
        found => found?,
    };
    if !taken.is_empty() {
        put(shared, &mut current, left.clone(), matches!(whom, Subject::Cgroup(_))).await?;
    }
    let mut deeds: Vec<_> = taken.into_iter().map(|entry| Deed::TookBack { entry }).collect();
    tokio::task::block_in_place(|| {
        let mut maps = shared.maps_mut();
        let policy = maps.policy()?;
        for (scope, name) in scopes {
            let rule = maps.rule_for(&policy, scope);
            let braked =
                budget::brake(&maps, scope, &rule, &budget::plan(&*maps, &rule))?.is_some_and(|brake| brake.holds);
            let charged = maps.release(scope)?;
            if braked {
                deeds.push(Deed::LetGo { brake_of: name.clone() });
            }
            if charged {
                deeds.push(Deed::Emptied { windows_of: name });
            }
        }
        Ok::<_, Failure>(())
    })?;
    let mut notes = Vec::new();
    if let Subject::User(name) = whom
        && let Some(uid) = users.uid_of(name)
        && let Some(still) = by_hand::deciding(&left, &users, Some(uid), None, None)
    {
        notes.push(format!("what was said of the {} still holds for him: {}", still.whom, told(still)));
    }
    Ok(Answer::Released { deeds, notes })
}

/// Whose windows are emptied, and what each is called.
async fn scopes(shared: &Shared, users: &Database, whom: &Subject) -> Result<Vec<(Account, String)>> {
    let purses = match whom {
        Subject::Cgroup(pattern) => shared.following.lock().await.purses_of(pattern),
        _ => Vec::new(),
    };
    tokio::task::block_in_place(|| {
        let maps = shared.maps();
        let labelled = |account: Account| (account, shared.naming.label(account, &maps));
        Ok(match whom {
            Subject::User(name) => vec![labelled(Account::user(uid(users, name)?))],
            Subject::Group(name) => {
                let gid = gid(users, name)?;
                let members = users.members(gid).into_iter().map(|uid| labelled(Account::user(uid)));
                let together = (Account::new(kind::GROUP, gid as u64), format!("the {whom} together"));
                members.chain([together]).collect()
            }
            Subject::Container(name) => accounts_called(shared, &maps, name)?.into_iter().map(labelled).collect(),
            Subject::Cgroup(_) => {
                let scopes = purses.into_iter().filter_map(|number| maps.purse(number)).map(|purse| purse.scope);
                let name = |scope| printable(maps.name(scope).unwrap_or_default().as_bytes());
                scopes.map(|scope| (scope, format!("the rule for {}", name(scope)))).collect()
            }
        })
    })
}
