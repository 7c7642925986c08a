//! What set a process going: by the processes above it and the cgroup around it.

use super::{culprit::Origin, fpm};
use crate::accounts::label::printable;

/// Daemons that run jobs of users, by the name of their processes.
const CRON: [&str; 8] = ["cron", "CRON", "crond", "CROND", "anacron", "fcron", "dcron", "busybox-crond"];
const AT: [&str; 1] = ["atd"];
/// Those that let people in.
const LOGIN: [&str; 7] = ["sshd", "sshd-session", "login", "telnetd", "in.telnetd", "dropbear", "agetty"];

/// A process on the way up, the culprit itself first.
pub(super) struct Step<'a> {
    pub comm: &'a str,
    pub uid: u32,
    /// The command line as it stands now.
    pub args: &'a [u8],
    pub exe: Option<&'a [u8]>,
}

/// What is known besides.
pub(super) struct Around<'a> {
    pub kernel_thread: bool,
    pub container: Option<&'a str>,
    pub unit: Option<&'a str>,
    /// The user that a job or a login is of.
    pub user: &'a str,
}

pub(super) fn of(steps: &[Step<'_>], around: &Around<'_>) -> Option<Origin> {
    let origin = |kind: &str, name: &str| Some(Origin { kind: kind.to_owned(), name: name.to_owned() });
    if around.kernel_thread {
        return origin("kernel", "kernel");
    }
    if let Some(name) = around.container {
        return origin("container", name);
    }
    for step in steps.iter().skip(1) {
        // Everybody can call his process so; these run as root.
        if step.uid != 0 {
            continue;
        }
        let is = |names: &[&str]| names.contains(&step.comm);
        if is(&CRON) {
            return origin("cron", around.user);
        }
        if is(&AT) {
            return origin("at", around.user);
        }
        if is(&LOGIN) {
            return origin("login", around.user);
        }
    }
    if let Some(pool) = steps.windows(2).find_map(|pair| pool(&pair[0], &pair[1])) {
        return origin("web", &printable(pool));
    }
    match around.unit {
        Some(unit) if unit.ends_with(".service") => origin("service", unit),
        Some(unit) if unit.starts_with("session-") && unit.ends_with(".scope") => origin("login", around.user),
        _ => None,
    }
}

/// The pool that a worker of PHP-FPM calls itself of. Everybody can call his process so: the worker runs the same program as
/// the process that forked it, and that is root's.
fn pool<'a>(worker: &Step<'a>, master: &Step<'_>) -> Option<&'a [u8]> {
    let exe = worker.exe.filter(|exe| fpm::is_fpm(exe))?;
    let is_masters = master.uid == 0 && master.exe.is_some_and(|its| program(its) == program(exe));
    fpm::pool(worker.args).filter(|_| is_masters)
}

/// The path of a program's file, whether that was replaced since it was started or not.
fn program(exe: &[u8]) -> &[u8] {
    exe.strip_suffix(b" (deleted)").unwrap_or(exe)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step<'a>(comm: &'a str, uid: u32, args: &'a str, exe: Option<&'a str>) -> Step<'a> {
        Step { comm, uid, args: args.as_bytes(), exe: exe.map(str::as_bytes) }
    }

    fn told(steps: &[(&str, u32, &str)], container: Option<&str>, unit: Option<&str>) -> Option<(String, String)> {
        let steps: Vec<_> = steps.iter().map(|(comm, uid, args)| step(comm, *uid, args, None)).collect();
        of_steps(&steps, container, unit)
    }

    fn of_steps(steps: &[Step<'_>], container: Option<&str>, unit: Option<&str>) -> Option<(String, String)> {
        let around = Around { kernel_thread: false, container, unit, user: "shop" };
        of(steps, &around).map(|origin| (origin.kind, origin.name))
    }

    #[test]
    fn jobs_logins_pools_and_services_are_told_apart() {
        let job = [("sendmail", 1000, ""), ("sh", 1000, "/bin/sh\0-c\0job\0"), ("cron", 0, ""), ("systemd", 0, "")];
        let pair = |kind: &str, name: &str| Some((kind.to_owned(), name.to_owned()));
        assert_eq!(told(&job, None, Some("cron.service")), pair("cron", "shop"));
        assert_eq!(told(&job, Some("web-1"), None), pair("container", "web-1"));
        let exe = Some("/usr/sbin/php-fpm8.2");
        let worker = step("php-fpm8.2", 33, "php-fpm: pool www\0\0", exe);
        let pool = [worker, step("php-fpm8.2", 0, "php-fpm: master process\0", Some("/usr/sbin/php-fpm8.2 (deleted)"))];
        assert_eq!(of_steps(&pool, None, Some("php8.2-fpm.service")), pair("web", "www"));
        assert_eq!(told(&[("bash", 1000, ""), ("sshd", 0, "")], None, None), pair("login", "shop"));
        assert_eq!(told(&[("x", 1000, "")], None, Some("bot.service")), pair("service", "bot.service"));
        assert_eq!(told(&[("x", 1000, ""), ("systemd", 0, "")], None, None), None);
    }

    #[test]
    fn a_title_of_ones_own_names_no_pool() {
        let (title, fpm) = ("php-fpm: pool victim\0", Some("/usr/sbin/php-fpm8.2"));
        let master = || step("php-fpm8.2", 0, "php-fpm: master process\0", fpm);
        for steps in [
            // Of a login, of a worker that ran another program in its place, of a worker's child.
            vec![step("perl", 1000, title, Some("/usr/bin/perl")), step("sshd", 1, "", None)],
            vec![step("php-fpm8.2", 1000, title, Some("/home/x/php-fpm8.2")), master()],
            vec![step("php-fpm8.2", 1000, title, fpm), step("bash", 1000, "", Some("/usr/bin/bash"))],
            vec![step("php-fpm8.2", 1000, title, fpm), step("sh", 0, "", Some("/usr/bin/dash"))],
            vec![step("php-fpm8.2", 1000, title, fpm)],
        ] {
            assert_eq!(of_steps(&steps, None, None), None);
        }
    }

    #[test]
    fn a_users_own_cron_is_none() {
        assert_eq!(told(&[("bot", 1000, ""), ("cron", 1000, ""), ("systemd", 0, "")], None, None), None);
        assert_eq!(told(&[("cron", 0, "")], None, Some("cron.service")).unwrap().0, "service");
    }
}
