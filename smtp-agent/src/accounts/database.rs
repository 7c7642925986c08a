//! Users and groups as the name service switch tells them (getpwent(3), getgrent(3)).

use std::{
    collections::{HashMap, HashSet},
    ffi::CStr,
    sync::{Mutex, PoisonError},
};

use nix::unistd::{Gid, Group, Uid, User};

use crate::config::Name;

/// One reading of the host's databases.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Database {
    uids: HashMap<String, u32>,
    /// Members by gid, primary and supplementary.
    members: HashMap<u32, HashSet<u32>>,
    gids: HashMap<String, u32>,
    /// Some source may know names that it does not list: names that were not listed are asked for one by one. With a source
    /// that is a file, each such question reads the whole file.
    unlisted: bool,
}

/// Sources of nsswitch.conf(5) that list all they know.
const LISTING: [&str; 5] = ["files", "compat", "db", "systemd", "altfiles"];

/// Whether a source of users or groups is not one of [`LISTING`], by the text of /etc/nsswitch.conf.
fn has_unlisted(nsswitch: &str) -> bool {
    let lines = nsswitch.lines().map(|line| line.split('#').next().unwrap_or_default());
    let sources = lines.filter_map(|line| {
        let (database, sources) = line.split_once(':')?;
        ["passwd", "group"].contains(&database.trim()).then_some(sources)
    });
    // What stands in brackets says what to do about an answer, and is no source.
    sources.flat_map(str::split_whitespace).any(|word| !word.contains(['[', ']', '=']) && !LISTING.contains(&word))
}

/// getpwent and getgrent walk one position shared by the whole process.
static WALK: Mutex<()> = Mutex::new(());

impl Database {
    /// Reads everything the databases list. Sources that answer by name only (LDAP without enumeration) are
    /// asked by name in [`Self::uid`] and [`Self::members`].
    pub fn read() -> Self {
        let nsswitch = std::fs::read_to_string("/etc/nsswitch.conf").unwrap_or_default();
        let mut found = Self { unlisted: has_unlisted(&nsswitch), ..Self::default() };
        let walk = WALK.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: nobody else walks meanwhile; each entry is copied before the next is fetched.
        unsafe {
            libc::setpwent();
            while let Some(entry) = libc::getpwent().as_ref() {
                let name = text(entry.pw_name);
                found.uids.entry(name).or_insert(entry.pw_uid);
                found.members.entry(entry.pw_gid).or_default().insert(entry.pw_uid);
            }
            libc::endpwent();
        }
        let mut supplementary = Vec::new();
        // SAFETY: as above; `gr_mem` is an array of strings ended by a null pointer.
        unsafe {
            libc::setgrent();
            while let Some(entry) = libc::getgrent().as_ref() {
                found.gids.entry(text(entry.gr_name)).or_insert(entry.gr_gid);
                let mut member = entry.gr_mem;
                while !member.is_null() && !(*member).is_null() {
                    supplementary.push((entry.gr_gid, text(*member)));
                    member = member.add(1);
                }
            }
            libc::endgrent();
        }
        drop(walk);
        for (gid, name) in supplementary {
            if let Some(uid) = found.uid(&name) {
                found.members.entry(gid).or_default().insert(uid);
            }
        }
        found
    }

    /// A host with these users (name, uid, gid) and groups (name, gid, members).
    #[cfg(test)]
    pub(crate) fn of(users: &[(&str, u32, u32)], groups: &[(&str, u32, &[&str])]) -> Self {
        let mut made = Self::default();
        for &(name, uid, gid) in users {
            made.uids.insert(name.into(), uid);
            made.members.entry(gid).or_default().insert(uid);
        }
        for &(name, gid, members) in groups {
            made.gids.insert(name.into(), gid);
            made.members.entry(gid).or_default().extend(members.iter().map(|m| made.uids[*m]));
        }
        made
    }

    pub fn uid(&self, name: &str) -> Option<u32> {
        let known = self.uids.get(name).copied();
        let asked = || User::from_name(name).ok().flatten().map(|u| u.uid.as_raw());
        if self.unlisted { known.or_else(asked) } else { known }
    }

    pub fn gid(&self, name: &str) -> Option<u32> {
        let known = self.gids.get(name).copied();
        let asked = || Group::from_name(name).ok().flatten().map(|g| g.gid.as_raw());
        if self.unlisted { known.or_else(asked) } else { known }
    }

    /// The uid of a user as a configuration names him.
    pub fn uid_of(&self, name: &Name) -> Option<u32> {
        match name {
            Name::Id(uid) => Some(*uid),
            Name::Text(text) => self.uid(text),
        }
    }

    /// The gid of a group as a configuration names it.
    pub fn gid_of(&self, name: &Name) -> Option<u32> {
        match name {
            Name::Id(gid) => Some(*gid),
            Name::Text(text) => self.gid(text),
        }
    }

    /// Every member of a group: by primary group in the user database, by list in the group database.
    pub fn members(&self, gid: u32) -> Vec<u32> {
        let mut all = self.members.get(&gid).cloned().unwrap_or_default();
        if self.unlisted
            && let Ok(Some(group)) = Group::from_gid(Gid::from_raw(gid))
        {
            all.extend(group.mem.iter().filter_map(|name| self.uid(name)));
        }
        let mut all: Vec<_> = all.into_iter().collect();
        all.sort_unstable();
        all
    }

    /// True when nothing was found. The C library does not tell an error from the end of a list, but no host is
    /// without users and groups: such a reading has failed.
    pub fn is_empty(&self) -> bool {
        self.uids.is_empty() || self.gids.is_empty()
    }

    /// Every name of a user that is listed.
    pub fn users(&self) -> impl Iterator<Item = &str> {
        self.uids.keys().map(String::as_str)
    }

    /// Every name of a group that is listed.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.gids.keys().map(String::as_str)
    }

    /// Every uid listed.
    pub fn uids(&self) -> impl Iterator<Item = u32> {
        self.uids.values().copied()
    }
}

/// The name of a uid now.
pub fn user_name(uid: u32) -> Option<String> {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|u| u.name)
}

/// # Safety
/// `pointer` is a NUL-terminated string or null.
unsafe fn text(pointer: *const libc::c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_found_by_name_and_belongs_to_its_primary_group() {
        let database = Database::read();
        assert_eq!(database.uid("root"), Some(0));
        assert_eq!(database.gid("root"), Some(0));
        assert!(database.members(0).contains(&0));
        assert_eq!(user_name(0).as_deref(), Some("root"));
        assert!(!database.is_empty() && Database::default().is_empty());
    }

    #[test]
    fn only_sources_that_do_not_list_are_asked_by_name() {
        let asks = |text: &str| has_unlisted(text);
        assert!(!asks("passwd: files systemd\ngroup: files [SUCCESS=merge] systemd\nhosts: files dns\n"));
        assert!(!asks("") && !asks("# passwd: ldap\npasswd: compat"));
        assert!(asks("passwd:\tfiles sss\n") && asks("group: files ldap # remote"));
    }

    #[test]
    fn an_absent_name_has_no_uid() {
        assert_eq!(Database::default().uid("no-such-user-here"), None);
    }
}
