//! `test-tools/mta/`: a root directory with a real exim, and postfix's smtp-sink and smtp-source beside it.
//! `test-tools/mta-postfix/`: another with a real postfix, and two small clients, swaks and msmtp.
//!
//! exim and postfix conflict as installed packages: hence two roots, and in the first only the two test programs
//! and their libraries of postfix, from the unpacked package. `chroot <root> …` runs any of them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::debian_root::{self, ask, bootstrap, open_to_all_users, starts};
use super::placed::Placed;
use super::{Item, apt};
use crate::progress::Line;
use crate::workspace::Workspace;

/// Postfix's root; the last two are what swaks needs for IPv6 and TLS.
const WITH_POSTFIX: [&str; 5] = ["postfix", "msmtp", "swaks", "libio-socket-inet6-perl", "libnet-ssleay-perl"];

pub(super) struct Mta {
    exim: Placed,
    postfix: Placed,
    suite: Option<String>,
}

impl Mta {
    pub(super) fn new(workspace: &Workspace) -> Self {
        let suite = apt::os_release("VERSION_CODENAME");
        let placed = |name: &str| Placed {
            path: workspace.test_tools().join(name),
            recipe: format!("{name} 1 {}", suite.as_deref().unwrap_or_default()),
        };
        Self { exim: placed("mta"), postfix: placed("mta-postfix"), suite }
    }
}

impl Item for Mta {
    fn name(&self) -> &'static str {
        "test mta roots"
    }

    fn look(&self) -> Result<String, String> {
        Ok(format!("{} and {}", self.exim.look()?, self.postfix.look()?))
    }

    fn install(&self, line: &mut Line) -> Result<()> {
        let (suite, sources) = debian_root::needs(&self.suite, line)?;
        if self.exim.look().is_err() {
            self.exim.replace(line, |root, line| exim(suite, &sources, root, line))?;
        }
        if self.postfix.look().is_err() {
            self.postfix.replace(line, |root, line| postfix(suite, &sources, root, line))?;
        }
        Ok(())
    }
}

fn exim(suite: &str, sources: &[PathBuf], root: &Path, line: &mut Line) -> Result<()> {
    let scratch = root.with_added_extension("postfix");
    if scratch.exists() {
        fs::remove_dir_all(&scratch)?;
    }
    fs::create_dir(&scratch)?;
    let built = exim_beside(suite, sources, root, &scratch, line);
    let _ = fs::remove_dir_all(&scratch);
    built
}

fn exim_beside(suite: &str, sources: &[PathBuf], root: &Path, scratch: &Path, line: &mut Line) -> Result<()> {
    let package = apt::download("postfix", scratch, line)?;
    let depends = ask(Command::new("dpkg-deb").arg("--field").arg(&package).arg("Depends"), line)?;
    ask(Command::new("dpkg-deb").arg("--extract").arg(&package).arg(scratch.join("root")), line)?;

    line.doing(format!("building a {suite} root with exim"));
    bootstrap(suite, sources, root, &[&["exim4-daemon-light"], &*libraries(&depends)].concat(), line)?;
    take_test_programs(&scratch.join("root"), root)?;
    line.doing("trying the programs in exim's root");
    starts(root, &["/usr/sbin/exim4", "-bV"], line)?;
    // The two of postfix have no `--version`; without arguments they name their usage.
    for program in ["/usr/sbin/smtp-sink", "/usr/sbin/smtp-source"] {
        starts(root, &["/bin/sh", "-c", &format!("{program} 2>&1 | grep -m1 -o usage:")], line)?;
    }
    Ok(())
}

fn postfix(suite: &str, sources: &[PathBuf], root: &Path, line: &mut Line) -> Result<()> {
    line.doing(format!("building a {suite} root with postfix, swaks and msmtp"));
    bootstrap(suite, sources, root, &WITH_POSTFIX, line)?;
    open_to_all_users(root)?;
    line.doing("trying the programs in postfix's root");
    starts(root, &["/usr/sbin/postconf", "-d", "mail_version"], line)?;
    starts(root, &["/usr/bin/msmtp", "--version"], line)?;
    starts(root, &["/usr/bin/swaks", "--support"], line)
}

/// The two programs and the libraries they look for in /usr/lib/postfix. Never postfix's sendmail: exim's is there.
fn take_test_programs(postfix: &Path, root: &Path) -> Result<()> {
    let libraries = Path::new("usr/lib/postfix");
    let mut wanted = vec![PathBuf::from("usr/sbin/smtp-sink"), PathBuf::from("usr/sbin/smtp-source")];
    let found = fs::read_dir(postfix.join(libraries)).context("postfix's package has no usr/lib/postfix")?;
    wanted.extend(found.flatten().map(|file| file.file_name()).filter_map(|name| {
        let is_library = name.to_string_lossy().starts_with("libpostfix-");
        is_library.then(|| libraries.join(name))
    }));
    fs::create_dir_all(root.join(libraries))?;
    for path in wanted {
        fs::copy(postfix.join(&path), root.join(&path))
            .with_context(|| format!("cannot take {} from postfix's package", path.display()))?;
    }
    // We may run with a umask that keeps others out.
    fs::set_permissions(root.join(libraries), fs::Permissions::from_mode(0o755))?;
    open_to_all_users(root)
}

/// The libraries among a package's dependencies, the first of each choice.
fn libraries(depends: &str) -> Vec<&str> {
    let names = depends.split(',').filter_map(|choice| choice.split(['|', '(', ':']).next()).map(str::trim);
    names.filter(|name| name.starts_with("lib")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_libraries_are_taken_from_the_dependencies() {
        let depends = "libc6 (>= 2.36), libdb5.3, libicu72 (>= 72.1~rc-1~) | libicu, debconf (>= 0.5) | debconf-2.0, \
                       netbase, libssl3:amd64\n";
        assert_eq!(libraries(depends), ["libc6", "libdb5.3", "libicu72", "libssl3"]);
    }

    #[test]
    fn exims_sendmail_stays_when_postfixs_programs_come() {
        let parent = tempfile::tempdir().unwrap();
        let (postfix, root) = (parent.path().join("postfix"), parent.path().join("root"));
        for path in
            ["usr/sbin/smtp-sink", "usr/sbin/smtp-source", "usr/sbin/sendmail", "usr/lib/postfix/libpostfix-util.so"]
        {
            fs::create_dir_all(postfix.join(path).parent().unwrap()).unwrap();
            fs::write(postfix.join(path), "postfix").unwrap();
        }
        fs::create_dir_all(root.join("usr/sbin")).unwrap();
        fs::write(root.join("usr/sbin/sendmail"), "exim").unwrap();

        take_test_programs(&postfix, &root).unwrap();
        assert_eq!(fs::read_to_string(root.join("usr/sbin/sendmail")).unwrap(), "exim");
        for path in ["usr/sbin/smtp-sink", "usr/sbin/smtp-source", "usr/lib/postfix/libpostfix-util.so"] {
            assert_eq!(fs::read_to_string(root.join(path)).unwrap(), "postfix", "{path}");
        }
    }
}
