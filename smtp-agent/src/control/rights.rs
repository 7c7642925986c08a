//! Who may use the control socket: root, the agent's own user, and the members of `[control] group`.
//!
//! The file modes keep others from connecting, and every connection is asked who it is (SO_PEERCRED, unix(7)), since a
//! process may have groups that its user is no longer a member of.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock},
};

use nix::unistd::{Gid, Group, Uid, User, geteuid};

use super::SOCKET;
use crate::{
    config::{Config, Name, Problem},
    exit::{Failure, Result},
};

/// Who may be let in besides root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Members {
    pub gid: u32,
    /// As the configuration has it.
    pub name: String,
}

/// The group of a configuration. `Err`: this host does not have it.
pub fn members(config: &Config) -> Result<Option<Members>, Problem> {
    let Some(name) = &config.control_group else { return Ok(None) };
    let gid = match &name.value {
        Name::Id(gid) => Some(*gid),
        Name::Text(text) => Group::from_name(text).ok().flatten().map(|group| group.gid.as_raw()),
    };
    let gid = gid.ok_or_else(|| {
        let message = format!("[control] group: this host has no group `{}`", name.value);
        Problem::error(message).at(name.at.clone()).hint("make it (groupadd), or name one from `getent group`")
    })?;
    Ok(Some(Members { gid, name: name.value.to_string() }))
}

/// The same for an agent that starts or reloads.
pub fn require(config: &Config) -> Result<Option<Members>> {
    members(config).map_err(|problem| Failure::config(crate::config::Problems::from(problem).render(false)))
}

/// Who is let in at a running agent.
pub struct Rights {
    run: PathBuf,
    members: RwLock<Option<Members>>,
}

impl Rights {
    pub fn new(run: &Path, members: Option<Members>) -> Self {
        Self { run: run.to_owned(), members: RwLock::new(members) }
    }

    pub fn members(&self) -> Option<Members> {
        self.members.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets others in from now on, and the ones before no more.
    pub fn change(&self, now: Option<Members>) -> Result<()> {
        let before = self.members();
        if before == now {
            return Ok(());
        }
        *self.members.write().unwrap_or_else(PoisonError::into_inner) = now.clone();
        give(&self.run, &self.run.join(SOCKET), before.as_ref(), now.as_ref())
    }
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    pub uid: u32,
    /// Its effective gid when it connected.
    pub gid: u32,
    pub pid: Option<i32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Root,
    Member,
    Stranger,
}

impl Peer {
    /// Asks the databases, which may take a while.
    pub fn standing(&self, members: Option<&Members>) -> Standing {
        if self.uid == 0 || self.uid == geteuid().as_raw() {
            return Standing::Root;
        }
        match members {
            Some(members) if self.gid == members.gid || is_listed(self.uid, members.gid) => Standing::Member,
            _ => Standing::Stranger,
        }
    }
}

fn is_listed(uid: u32, gid: u32) -> bool {
    let Ok(Some(user)) = User::from_uid(Uid::from_raw(uid)) else { return false };
    let listed =
        || Group::from_gid(Gid::from_raw(gid)).ok().flatten().is_some_and(|group| group.mem.contains(&user.name));
    user.gid.as_raw() == gid || listed()
}

/// Gives the socket and its directory to whom they belong from now on.
pub fn give(run: &Path, socket: &Path, before: Option<&Members>, now: Option<&Members>) -> Result<()> {
    let failed = |e: io::Error| {
        Failure::from_io(&e, format!("the control socket {socket:?} cannot be given to those who may use it"))
    };
    // Closed first: between two groups it is nobody's.
    fs::set_permissions(socket, Permissions::from_mode(0o600)).map_err(failed)?;
    match now {
        Some(Members { gid, .. }) => {
            chown(socket, None, Some(*gid)).map_err(failed)?;
            fs::set_permissions(socket, Permissions::from_mode(0o660)).map_err(failed)?;
            let dir = fs::metadata(run).map_err(failed)?;
            // A directory that everybody may enter is left as it is: it may be shared with others.
            if dir.mode() & 0o001 == 0 && !(dir.gid() == *gid && dir.mode() & 0o010 != 0) {
                chown(run, None, Some(*gid)).map_err(failed)?;
                fs::set_permissions(run, Permissions::from_mode(0o750)).map_err(failed)?;
            }
        }
        None => {
            let own = nix::unistd::getegid().as_raw();
            chown(socket, None, Some(own)).map_err(failed)?;
            let theirs = |gid: u32| before.is_some_and(|before| before.gid == gid);
            if fs::metadata(run).is_ok_and(|dir| theirs(dir.gid())) {
                chown(run, None, Some(own)).map_err(failed)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn peer(uid: u32, gid: u32) -> Peer {
        Peer { uid, gid, pid: None }
    }

    #[test]
    fn root_is_let_in_and_others_only_as_members() {
        let group = Members { gid: 61_050, name: "smtpadm".into() };
        assert_eq!(peer(0, 61_051).standing(None), Standing::Root);
        assert_eq!(peer(61_001, 61_050).standing(None), Standing::Stranger);
        assert_eq!(peer(61_001, 61_050).standing(Some(&group)), Standing::Member, "his gid is that of the group");
        assert_eq!(peer(61_001, 61_001).standing(Some(&group)), Standing::Stranger);
        // Primary in the user database, whatever the process has.
        let daemon = User::from_name("daemon").unwrap().expect("every Linux host has it");
        let group = Members { gid: daemon.gid.as_raw(), name: "daemon".into() };
        assert_eq!(peer(daemon.uid.as_raw(), 61_001).standing(Some(&group)), Standing::Member);
    }

    #[test]
    fn a_group_that_is_not_there_is_an_error_at_its_place() {
        let config = |text: &str| config::parse_str("test.toml", text).unwrap().config;
        assert_eq!(members(&config("")).unwrap(), None);
        assert_eq!(
            members(&config("[control]\ngroup = 'root'\n")).unwrap(),
            Some(Members { gid: 0, name: "root".into() })
        );
        assert_eq!(
            members(&config("[control]\ngroup = 61050\n")).unwrap().unwrap().gid,
            61_050,
            "a number need not be known"
        );
        let failure = require(&config("[control]\ngroup = 'no-such-group'\n")).unwrap_err();
        assert_eq!(failure.code, crate::exit::Code::Usage);
        assert!(failure.message.contains("test.toml:2:9") && failure.message.contains("no-such-group"), "{failure}");
    }

    #[test]
    fn a_directory_that_is_shared_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (shared, own) = (dir.path().join("shared"), dir.path().join("own"));
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        // The group of the tests' own process needs no right to give away.
        let gid = nix::unistd::getegid().as_raw();
        for (run, before, after) in [(&shared, 0o755, 0o755), (&own, 0o700, 0o750)] {
            fs::create_dir(run).unwrap();
            fs::set_permissions(run, Permissions::from_mode(before)).unwrap();
            let socket = run.join("control.sock");
            fs::write(&socket, "").unwrap();
            let group = Members { gid, name: "own".into() };
            give(run, &socket, None, Some(&group)).unwrap();
            assert_eq!((mode(&socket), mode(run)), (0o660, after));
            give(run, &socket, Some(&group), None).unwrap();
            assert_eq!(mode(&socket), 0o600);
        }
    }
}
