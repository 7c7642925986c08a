//! What is said by hand: `smtp-agent allow`, `block` and `release`.
//!
//! It is kept in a file with times of the wall clock, so that it holds over reboots, and put into the kernel with times
//! of the boot clock, so that it holds and lapses without an agent. Nothing here touches the kernel.
#![forbid(unsafe_code)]

pub mod clock;
pub mod entry;
pub mod store;
pub mod subject;

pub use clock::{Clock, Time};
pub use entry::{By, Entry, Says};
pub use store::Store;
pub use subject::Subject;

use smtp_common::connection::Account;

use crate::{
    accounts::database::Database,
    policy::{Said, Whom, patterns::ancestry},
};

/// The same as the policy wants it; `containers` finds the accounts of a container by its name.
pub fn for_policy(entries: &[Entry], clock: Clock, containers: impl Fn(&str) -> Vec<Account>) -> Vec<Said> {
    let mut all = Vec::new();
    for entry in entries {
        let said = |whom| Said { whom, blocked: entry.says == Says::Blocked, until: clock.boot(entry.until) };
        match &entry.whom {
            Subject::User(name) => all.push(said(Whom::User(name.clone()))),
            Subject::Group(name) => all.push(said(Whom::Group(name.clone()))),
            Subject::Container(name) => all.extend(containers(name).into_iter().map(|a| said(Whom::Account(a)))),
            Subject::Cgroup(pattern) => all.push(said(Whom::Cgroup(pattern.clone()))),
        }
    }
    all
}

/// Which entry it is that decides about a user or a container: what names him himself comes before what names a group of
/// his, that before the cgroup, and there the innermost; of two alike the later holds.
pub fn deciding<'a>(
    entries: &'a [Entry],
    users: &Database,
    uid: Option<u32>,
    container: Option<&str>,
    cgroup: Option<&str>,
) -> Option<&'a Entry> {
    let last = |is: &dyn Fn(&Subject) -> bool| entries.iter().rev().find(|entry| is(&entry.whom));
    let own = |whom: &Subject| match whom {
        Subject::User(name) => uid.is_some() && users.uid_of(name) == uid,
        Subject::Container(name) => container == Some(name),
        _ => false,
    };
    let of_group = |whom: &Subject| {
        let Subject::Group(name) = whom else { return false };
        users.gid_of(name).zip(uid).is_some_and(|(gid, uid)| users.members(gid).contains(&uid))
    };
    let matches = |path: &str| {
        last(&|whom: &Subject| matches!(whom, Subject::Cgroup(p) if p.glob().compile_matcher().is_match(path)))
    };
    let of_cgroup = || ancestry(cgroup?).collect::<Vec<_>>().into_iter().rev().find_map(matches);
    last(&own).or_else(|| last(&of_group)).or_else(of_cgroup)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(whom: Subject, says: Says) -> Entry {
        Entry { whom, says, since: Time::EPOCH, until: None, reason: None, by: By { uid: 0, user: None } }
    }

    #[test]
    fn the_nearer_entry_decides_and_of_two_alike_the_later() {
        let users = Database::of(&[("ann", 1, 10), ("bob", 2, 20)], &[("staff", 10, &["bob"]), ("sales", 20, &[])]);
        let user = |name: &str| Subject::user(name).unwrap();
        let group = |name: &str| Subject::group(name).unwrap();
        let cgroup = |path: &str| Subject::cgroup(path).unwrap();
        let entries = [
            entry(user("ann"), Says::Allowed),
            entry(group("staff"), Says::Blocked),
            entry(group("sales"), Says::Allowed),
            entry(cgroup("/a/*"), Says::Blocked),
            entry(cgroup("/a"), Says::Allowed),
        ];
        let found = |uid, path| deciding(&entries, &users, Some(uid), None, path).map(|entry| entry.whom.clone());
        assert_eq!(found(1, None), Some(user("ann")));
        assert_eq!(found(2, None), Some(group("sales")));
        assert_eq!(found(3, None), None);
        assert_eq!(found(3, Some("/a/b/c")), Some(cgroup("/a/*")));
        assert_eq!(found(3, Some("/a")), Some(cgroup("/a")));
        assert_eq!(found(3, Some("/b")), None);
        let web = [entry(Subject::container("web").unwrap(), Says::Blocked)];
        assert!(deciding(&web, &users, None, Some("web"), None).is_some());
        assert!(deciding(&web, &users, None, None, Some("/web")).is_none());
    }

    #[test]
    fn a_container_is_as_many_accounts_as_have_its_name() {
        let clock = Clock::new(Time::EPOCH, 0);
        let [first, second] = [3, 4].map(|id| Account::new(smtp_common::connection::kind::CGROUP, id));
        let entries = [entry(Subject::container("container:web").unwrap(), Says::Blocked)];
        let known = |name: &str| if name == "web" { vec![first, second] } else { Vec::new() };
        let said = for_policy(&entries, clock, known);
        let whom: Vec<_> = said.iter().map(|said| said.whom.clone()).collect();
        assert_eq!(whom, [Whom::Account(first), Whom::Account(second)]);
        assert!(said.iter().all(|said| said.blocked && said.until == 0));
        assert!(for_policy(&entries, clock, |_| Vec::new()).is_empty());
    }
}
