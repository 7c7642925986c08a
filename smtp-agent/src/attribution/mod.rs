//! From what the kernel saw of a process to the user, service, script and parents behind it.
//!
//! The kernel's portrait was taken at the moment of the attempt and needs no luck; /proc adds what only it has, as long as
//! the process lives. Both are checked against the start of the process, so that a number that is used again names nobody.

mod again;
pub mod container;
pub mod culprit;
mod family;
mod fpm;
pub mod living;
pub mod mask;
mod memory;
mod origin;
pub mod panel;
mod path;
mod php;
mod script;
mod subject;

use std::{
    path::PathBuf,
    sync::{PoisonError, RwLock},
};

use smtp_common::{
    connection::kind,
    event::{self, ConnectEvent},
    portrait::{Execution, Lineage, Portrait, ProcessKey, UNSET},
};

use again::{Again, likeness};
pub use culprit::Culprit;
use culprit::{Ancestor, Script};
use family::Families;
use mask::Mask;
use subject::{Near, Subject};

use crate::accounts::{container::unit_of_cgroup, label::printable};

/// How far up a script is looked for that has run the process: `mail()` of PHP runs a shell that runs sendmail.
const CLIMB: usize = 4;

/// Octets of a command line that are told, of the process and of one above it: who fills his with rubbish shall fill nobody's
/// history, mail or screen.
const COMMAND: usize = 4096;
const COMMAND_ABOVE: usize = 1024;
/// Longer names no file has (`PATH_MAX`).
const LONGEST_PATH: usize = 4096;

/// What the kernel remembers of processes.
pub trait Memory {
    /// What the process executed last, if that is still remembered.
    fn execution(&self, process: ProcessKey) -> Option<Box<Execution>>;
    fn lineage(&self, process: ProcessKey) -> Option<Lineage>;
}

/// An attempt and what is known around it.
pub struct Attempt<'a> {
    pub event: &'a ConnectEvent,
    /// `None` where the kernel had no room for it.
    pub portrait: Option<&'a Portrait>,
    /// Path of the cgroup.
    pub cgroup: Option<&'a str>,
    pub user_name: &'a dyn Fn(u32) -> String,
    /// A time of the boot clock, written as a date.
    pub date: &'a dyn Fn(u64) -> String,
}

/// Tells who is behind attempts.
pub struct Attributor {
    panels: panel::Panels,
    runtimes: container::Runtimes,
    mask: RwLock<Mask>,
    families: Families,
    again: Again,
    boards: fpm::Scoreboards,
}

impl Attributor {
    pub fn new(mask: Mask) -> Self {
        let root = PathBuf::from("/");
        Self {
            panels: panel::Panels::new(root.clone()),
            runtimes: container::Runtimes::new(root),
            mask: RwLock::new(mask),
            families: Families::default(),
            again: Again::default(),
            boards: fpm::Scoreboards::default(),
        }
    }

    /// Masks otherwise from now on.
    pub fn set_mask(&self, mask: Mask) {
        *self.mask.write().unwrap_or_else(PoisonError::into_inner) = mask;
        self.again.forget();
    }

    /// Masks a command line that was read elsewhere.
    pub fn masked(&self, command: Option<Vec<String>>) -> Option<Vec<String>> {
        let mut command = command?;
        self.mask.read().unwrap_or_else(PoisonError::into_inner).apply(&mut command);
        Some(command)
    }

    pub fn tell(&self, attempt: &Attempt<'_>, memory: &dyn Memory) -> Culprit {
        let Some(portrait) = attempt.portrait else { return self.look(attempt, memory) };
        let like = likeness(attempt, portrait);
        self.again.told(portrait.process, like).unwrap_or_else(|| {
            let culprit = self.look(attempt, memory);
            self.again.keep(portrait.process, like, &culprit);
            culprit
        })
    }

    fn look(&self, attempt: &Attempt<'_>, memory: &dyn Memory) -> Culprit {
        let event = attempt.event;
        let mut culprit = Culprit::default();
        let (container, pod) = attempt.cgroup.map_or((None, None), |path| self.runtimes.of_cgroup(path));
        (culprit.container, culprit.pod) = (container, pod);
        culprit.unit = attempt.cgroup.and_then(unit_of_cgroup).map(str::to_owned);
        let user = (event.account.kind == kind::USER).then(|| (attempt.user_name)(event.account.id as u32));
        if let Some(user) = &user {
            let site = self.panels.site(user, || home(event.account.id as u32));
            (culprit.domains, culprit.plan) = (site.domains, site.plan);
        }
        let kernel_thread = event.flags & event::flag::KERNEL_THREAD != 0;
        let subjects = match attempt.portrait {
            Some(portrait) if !kernel_thread => self.portray(&mut culprit, attempt, portrait, memory),
            _ => Vec::new(),
        };
        let steps: Vec<_> = subjects.iter().map(Subject::step).collect();
        let container = culprit.container.as_ref().map(|one| one.name.as_deref().unwrap_or(&one.id));
        let around = origin::Around {
            kernel_thread,
            container,
            unit: culprit.unit.as_deref(),
            user: user.as_deref().unwrap_or_default(),
        };
        culprit.origin = origin::of(&steps, &around);
        culprit
    }

    /// What the portrait tells. Returns the process and those above it.
    fn portray(
        &self,
        culprit: &mut Culprit,
        attempt: &Attempt<'_>,
        portrait: &Portrait,
        memory: &dyn Memory,
    ) -> Vec<Subject> {
        let own = Subject::of_portrait(portrait, &attempt.event.comm, attempt.event.uid, memory);
        let above = portrait.ancestors().iter().map(|ancestor| Subject::of_ancestor(ancestor, memory));
        let subjects: Vec<_> = std::iter::once(own).chain(above).collect();
        culprit.script = script_behind(&subjects, &self.boards);
        // Not before: whoever wants to mask otherwise does not wait for what is read of processes.
        let mask = self.mask.read().unwrap_or_else(PoisonError::into_inner);
        let own = &subjects[0];
        culprit.exe = own.exe.as_deref().map(printable);
        culprit.exe_deleted = path::is_deleted(&portrait.exe);
        culprit.cwd = own.cwd.as_deref().map(printable);
        culprit.command = words(&own.args, &mask, COMMAND);
        culprit.started_as = own.started_as().and_then(|args| words(args, &mask, COMMAND));
        culprit.started = Some((attempt.date)(portrait.process.start));
        culprit.login_user = (portrait.login_uid != UNSET).then(|| (attempt.user_name)(portrait.login_uid));
        let above = subjects.iter().skip(1);
        let lineage = above.map(|subject| (subject.process, ancestor(subject, attempt, &mask))).collect();
        culprit.lineage = self.families.complete(portrait.process, lineage);
        subjects
    }
}

/// The script that the process runs, or else the nearest above it that the same user runs.
fn script_behind(subjects: &[Subject], boards: &fpm::Scoreboards) -> Option<Script> {
    let uid = subjects.first()?.uid;
    let near =
        |at: usize| Near { child: at.checked_sub(1).map(|below| &subjects[below]), parent: subjects.get(at + 1) };
    let same_user = subjects.iter().enumerate().take_while(|(_, subject)| subject.uid == uid);
    let (path, how) = same_user
        .take(CLIMB)
        .find_map(|(at, subject)| subject.script(near(at), boards))
        .filter(|(path, _)| path.len() <= LONGEST_PATH)?;
    Some(Script { path: printable(&path), how: how.to_owned() })
}

fn ancestor(subject: &Subject, attempt: &Attempt<'_>, mask: &Mask) -> Ancestor {
    Ancestor {
        tgid: subject.process.tgid,
        started: Some((attempt.date)(subject.process.start)),
        uid: (subject.uid != UNSET).then_some(subject.uid),
        user: (subject.uid != UNSET).then(|| (attempt.user_name)(subject.uid)),
        comm: subject.comm.clone(),
        exe: subject.exe.as_deref().map(printable),
        command: words(&subject.args, mask, COMMAND_ABOVE),
    }
}

/// A command line of at most so many octets, of which nothing is told that the mask hides: it is cut afterwards.
fn words(args: &[u8], mask: &Mask, most: usize) -> Option<Vec<String>> {
    // Who writes over his command line leaves blanks where the old one was longer.
    let mut words: Vec<_> =
        script::words(args.strip_suffix(&[0]).unwrap_or(args).trim_ascii_end()).into_iter().map(printable).collect();
    mask.apply(&mut words);
    let mut room = most;
    for at in 0..words.len() {
        let word = &mut words[at];
        match room.checked_sub(word.len() + 1) {
            Some(left) => room = left,
            None => {
                word.truncate(word.floor_char_boundary(room));
                word.push('…');
                words.truncate(at + 1);
                break;
            }
        }
    }
    (!words.is_empty()).then_some(words)
}

fn home(uid: u32) -> Option<PathBuf> {
    nix::unistd::User::from_uid(uid.into()).ok().flatten().map(|user| user.dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_cut_after_what_is_secret_was_hidden() {
        let mask = Mask::default();
        let told = |args: &[u8], most| words(args, &mask, most).map(|words| words.join(" "));
        assert_eq!(told(b"msmtp\0-t\0", 100).as_deref(), Some("msmtp -t"));
        assert_eq!(told(b"", 100), None);
        let long = [b"perl\0".as_slice(), &b"x".repeat(60_000)].concat();
        let cut = told(&long, 100).unwrap();
        assert!(cut.starts_with("perl xxx") && cut.ends_with('…') && cut.len() <= 110, "{cut}");
        let many = told(&b"a\0".repeat(30_000), 100).unwrap();
        assert!(many.len() <= 110 && many.ends_with('…'), "{many}");
        // Control characters take more room when they are shown.
        assert!(told(&b"\x01".repeat(60_000), 4096).unwrap().len() <= 4_100);
        // The end of the address is what tells the password before it.
        let secret = [b"curl\0https://user:hunter2".as_slice(), &b"2".repeat(300), b"@host/"].concat();
        let cut = told(&secret, 24).unwrap();
        assert!(!cut.contains("hunter2"), "{cut}");
        let umlauts = "ü".repeat(100);
        assert!(told(umlauts.as_bytes(), 51).unwrap().len() <= 60);
    }
}
