//! The sendmail program: where it leads, and who could replace it or get around it.

use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::{Finding, Gap, Level, host::Host};
use crate::{
    accounts::label::printable,
    config::Config,
    neighbours::{
        files,
        way::{Place, Way},
    },
};

const SUBJECT: &str = "sendmail";
/// Where MTAs put it, when no configuration says more.
const USUAL: [&str; 3] = ["/usr/sbin/sendmail", "/usr/lib/sendmail", "/usr/bin/sendmail"];
const SETUID: u32 = 0o4000;
const SETGID: u32 = 0o2000;
const STICKY: u32 = 0o1000;

/// The programs that are submissions to the local MTA.
pub(super) fn paths(config: Option<&Config>) -> Vec<String> {
    match config {
        Some(config) => config.sendmail.iter().map(|path| path.to_string_lossy().into_owned()).collect(),
        None => USUAL.map(str::to_owned).into(),
    }
}

pub(super) fn examine(host: &Host, config: Option<&Config>) -> Vec<Finding> {
    let mut found = Vec::new();
    // Several names mostly lead to one file, which is looked at once.
    let mut seen: Vec<PathBuf> = Vec::new();
    for path in paths(config) {
        match host.follow(&path) {
            Ok(way) if !way.end.is_file() => {}
            Ok(way) => {
                let is_new = !seen.iter().any(|end| end == way.last());
                // The file is looked at once, the ways to it each.
                let more = if is_new { program(host, &way) } else { replaceable(host, &way) };
                for finding in more {
                    if !found.contains(&finding) {
                        found.push(finding);
                    }
                }
                seen.push(way.last().to_owned());
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                found.push(Finding::unseen(SUBJECT, Gap::Rights, format!("{} cannot be looked at: {e}", safe(&path))));
            }
            Err(e) => found.push(Finding::new(Level::Note, SUBJECT, format!("{} leads nowhere: {e}", safe(&path)))),
        }
    }
    found.extend(postfix(host));
    if found.is_empty() {
        found.push(Finding::new(Level::Ok, SUBJECT, "there is no sendmail program"));
    }
    found
}

/// One program, with the links that lead to it.
fn program(host: &Host, way: &Way) -> Vec<Finding> {
    let (end, metadata) = (way.last(), &way.end);
    let shown = safe(&end.to_string_lossy());
    let links: Vec<_> = way.paths.iter().map(|path| safe(&path.to_string_lossy())).collect();
    let evidence = format!("{} {}", links.join(" -> "), described(host, metadata));
    let warn = |what: String, advice: String| {
        Finding::new(Level::Warning, SUBJECT, what).because([evidence.clone()]).advice(advice)
    };
    let mode = metadata.mode();
    let mut found = Vec::new();
    if mode & 0o002 != 0 {
        found.push(warn(format!("every user can replace {shown}"), format!("chmod o-w {shown}")));
    } else if mode & 0o020 != 0 && metadata.gid() != 0 {
        let group = host.group(metadata.gid());
        found.push(warn(format!("the group {group} can replace {shown}"), format!("chmod g-w {shown}")));
    }
    if metadata.uid() != 0 {
        let user = host.user(metadata.uid());
        found.push(warn(format!("{user} can replace {shown}, whose owner he is"), format!("chown root {shown}")));
    }
    found.extend(replaceable(host, way));
    let name = end.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if let Some(line) = script(host, end) {
        found.push(
            Finding::new(Level::Note, SUBJECT, format!("{shown} is a wrapper, not a mail server's own program"))
                .because([evidence.clone(), files::shown(&line)])
                .advice("name the program it starts in [smtp] sendmail, if it is not there"),
        );
    } else if name.starts_with("exim") && mode & SETUID == 0 {
        found.push(
            Finding::new(
                Level::Note,
                SUBJECT,
                format!("{shown} is not setuid root, so users cannot hand in mail with it"),
            )
            .because([evidence.clone()])
            .advice("where users should, set the mode that the package has: chmod 4755"),
        );
    } else if name.contains("sendmail") && mode & SETUID != 0 && metadata.uid() == 0 && !has_exim(host) {
        found.push(warn(
            format!("{shown} is setuid root, which no sendmail needs any more"),
            "Sendmail since 8.12 is setgid smmsp, and Postfix's sendmail is neither: set the package's mode".to_owned(),
        ));
    }
    if found.is_empty() {
        found.push(
            Finding::new(Level::Ok, SUBJECT, format!("{shown} can be changed by root alone")).because([evidence]),
        );
    }
    found
}

/// Exim may be installed under that name, and is setuid root.
fn has_exim(host: &Host) -> bool {
    ["/usr/sbin/exim", "/usr/sbin/exim4"].iter().any(|path| host.exists(path))
}

/// Postfix hands mail in through two programs that have the group of the queue.
fn postfix(host: &Host) -> Vec<Finding> {
    let mut found = Vec::new();
    let group = host.gid("postdrop");
    for path in ["/usr/sbin/postdrop", "/usr/sbin/postqueue"] {
        let Ok(Way { end: metadata, .. }) = host.follow(path) else { continue };
        let right = metadata.mode() & SETGID != 0 && group.is_none_or(|group| metadata.gid() == group);
        if !right {
            found.push(
                Finding::new(
                    Level::Warning,
                    SUBJECT,
                    format!("{path} is not setgid postdrop, so users cannot hand in mail"),
                )
                .because([format!("{path} {}", described(host, &metadata))])
                .advice("run `postfix set-permissions`"),
            );
        }
    }
    let path = "/var/spool/postfix/maildrop";
    if let Ok(Way { end: metadata, .. }) = host.follow(path)
        && metadata.mode() & 0o002 != 0
    {
        found.push(
            Finding::new(
                Level::Warning,
                SUBJECT,
                "every user can write into Postfix's queue, around sendmail and its count",
            )
            .because([format!("{path} {}", described(host, &metadata))])
            .advice("run `postfix set-permissions`"),
        );
    }
    found
}

/// Who else than root can put something else in the place of what is passed on the way: a directory, a link, the file.
fn replaceable(host: &Host, way: &Way) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    for Place { directory, entry, found: itself } in &way.places {
        // What has gone meanwhile is nobody's.
        let Some(above) = host.look(directory) else { continue };
        let entry = safe(&entry.to_string_lossy());
        let directory = safe(&directory.to_string_lossy());
        let mut warn = |who: String, why: &str, advice: String| {
            let what = format!("{who} can put something else in the place of {entry}: {directory} {why}");
            let evidence = format!("{directory} {}", described(host, &above));
            found.push(Finding::new(Level::Warning, SUBJECT, what).because([evidence]).advice(advice));
        };
        let (mode, sticky) = (above.mode(), above.mode() & STICKY != 0);
        let (by_all, by_group) = (mode & 0o002 != 0, mode & 0o020 != 0 && above.gid() != 0);
        if above.uid() != 0 {
            warn(host.user(above.uid()), "is his", format!("chown root {directory}"));
        }
        if by_all && !sticky {
            warn("every user".to_owned(), "is open to all", format!("chmod o-w {directory}"));
        } else if by_group && !sticky {
            let who = format!("the group {}", host.group(above.gid()));
            warn(who, "is open to it", format!("chmod g-w {directory}"));
        } else if (by_all || by_group) && itself.uid() != 0 {
            // The sticky bit (inode(7)) leaves to owners what is their own.
            warn(host.user(itself.uid()), "is open and that is his", format!("chown -h root {entry}"));
        }
    }
    found
}

/// The first line, where it names an interpreter.
fn script(host: &Host, file: &Path) -> Option<String> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file: File = OpenOptions::new().read(true).custom_flags(flags).open(host.path(&file.to_string_lossy())).ok()?;
    let mut head = Vec::new();
    file.take(256).read_to_end(&mut head).ok()?;
    let line = head.split(|octet| *octet == b'\n').next()?;
    line.starts_with(b"#!").then(|| String::from_utf8_lossy(line).into_owned())
}

/// `-rwxr-sr-x root:postdrop`
fn described(host: &Host, metadata: &Metadata) -> String {
    let mode = metadata.mode();
    let mut text = String::from(if metadata.is_dir() { "d" } else { "-" });
    let special = [(SETUID, 's', 'S'), (SETGID, 's', 'S'), (STICKY, 't', 'T')];
    for (n, (bit, with, without)) in special.into_iter().enumerate() {
        let part = mode >> (6 - 3 * n);
        text.push(if part & 4 != 0 { 'r' } else { '-' });
        text.push(if part & 2 != 0 { 'w' } else { '-' });
        text.push(match (part & 1 != 0, mode & bit != 0) {
            (true, true) => with,
            (false, true) => without,
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    format!("{text} {}:{}", host.user(metadata.uid()), host.group(metadata.gid()))
}

fn safe(path: &str) -> String {
    printable(path.as_bytes())
}
