//! A web host of one test: a real PHP, as FPM, CGI and on the command line (`apache` has the module), and a real cron.

use super::root::Root;
use crate::{
    Cgroup, Must, poll,
    process::{self, Output, Running},
    scratch,
};
use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;

pub(super) const PATIENCE: Duration = Duration::from_secs(20);
const SOCKET: &str = "/run/pool.sock";
const SOCKET_OF_CGI: &str = "/run/fastcgi/socket";

pub struct Web {
    root: Root,
    logs: TempDir,
}

impl Web {
    /// A host with these users, and these files of theirs.
    #[track_caller]
    pub fn with(users: &[(&str, u32)], files: &[(&str, u32, String)]) -> Self {
        let added: Vec<_> = users.iter().map(|(name, uid)| ((*name).to_owned(), *uid)).collect();
        let web = Self { root: Root::new("web", None, &added, &[]), logs: scratch::dir() };
        // PAM lets cron run no jobs of somebody without an entry.
        let entries: String = users.iter().map(|(name, _)| format!("{name}:*:19000:0:99999:7:::\n")).collect();
        web.root.inside(|root| {
            let shadow = root.join("etc/shadow");
            let text = fs::read_to_string(&shadow).must("the Debian root has no /etc/shadow");
            fs::write(&shadow, text + &entries).must("cannot write /etc/shadow");
        });
        for (path, owner, text) in files {
            web.put(path, *owner, text);
        }
        web
    }

    /// Writes an executable file of a user's, in a directory of his.
    #[track_caller]
    pub fn put(&self, path: &str, owner: u32, text: &str) {
        self.root.inside(|root| {
            let path = root.join(path.trim_start_matches('/'));
            let dir = path.parent().must("it has one");
            fs::create_dir_all(dir).must(format_args!("cannot make {}", dir.display()));
            fs::write(&path, text).must(format_args!("cannot write {}", path.display()));
            fs::set_permissions(&path, Permissions::from_mode(0o755)).must("cannot make it executable");
            for one in [dir, &path] {
                chown(one, Some(owner), Some(owner)).must("cannot give it away");
            }
        });
    }

    /// Whether a file is there.
    #[track_caller]
    pub fn has(&self, path: &str) -> bool {
        self.root.inside(|root| root.join(path.trim_start_matches('/')).exists())
    }

    /// Where the root lies, for who sees all mounts, as the kernel does.
    pub fn path(&self) -> &Path {
        self.root.seen().1
    }

    /// A program on this host. It begins in the root directory.
    #[track_caller]
    pub fn command(&self, program: &str, uid: Option<u32>, cgroup: &Cgroup) -> Command {
        self.root.command(program, uid, Some(cgroup))
    }

    #[track_caller]
    pub fn run(&self, program: &str, arguments: &[&str], uid: u32, cgroup: &Cgroup) -> Output {
        process::output(self.command(program, Some(uid), cgroup).args(arguments).stdin(Stdio::null()), PATIENCE)
    }

    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.logs.path().join(name)
    }

    /// Starts PHP-FPM with one pool.
    #[track_caller]
    pub fn fpm(&self, pool: &str, user: &str, cgroup: &Cgroup) -> Running {
        let conf = format!(
            "[global]\ndaemonize = no\nerror_log = /dev/stderr\n[{pool}]\nuser = {user}\ngroup = {user}\n\
             listen = {SOCKET}\npm = static\npm.max_children = 2\n"
        );
        self.put("/etc/php-fpm-test.conf", 0, &conf);
        let fpm = self.root.inside(|root| {
            let mut names = fs::read_dir(root.join("usr/sbin")).must("cannot list").flatten().map(|e| e.file_name());
            names.find_map(|name| name.to_str().filter(|name| name.starts_with("php-fpm")).map(str::to_owned))
        });
        let fpm = format!("/usr/sbin/{}", fpm.must("no php-fpm in the root: run `cargo xtask setup`"));
        let mut command = self.command(&fpm, None, cgroup);
        let running = Running::start_logged(command.args(["-F", "-y", "/etc/php-fpm-test.conf"]), &self.log("fpm"));
        poll::eventually(PATIENCE, "php-fpm listens", || self.has(SOCKET));
        running
    }

    /// Starts a CGI that serves one request after the other by FastCGI, as mod_fcgid does.
    #[track_caller]
    pub fn fastcgi(&self, uid: u32, cgroup: &Cgroup) -> Running {
        self.put(&format!("{SOCKET_OF_CGI}.txt"), uid, "the socket is beside this file\n");
        let mut command = self.command("/usr/bin/php-cgi", Some(uid), cgroup);
        let running = Running::start_logged(command.args(["-b", SOCKET_OF_CGI]), &self.log("fastcgi"));
        poll::eventually(PATIENCE, "php-cgi listens", || self.has(SOCKET_OF_CGI));
        running
    }

    /// Has the pool run a script, as a web server would.
    #[track_caller]
    pub fn request(&self, script: &str, cgroup: &Cgroup) -> Output {
        self.request_at(SOCKET, script, cgroup)
    }

    #[track_caller]
    pub fn request_by_fastcgi(&self, script: &str, cgroup: &Cgroup) -> Output {
        self.request_at(SOCKET_OF_CGI, script, cgroup)
    }

    #[track_caller]
    fn request_at(&self, socket: &str, script: &str, cgroup: &Cgroup) -> Output {
        let mut command = self.command("/usr/bin/cgi-fcgi", None, cgroup);
        let uri = format!("/{}", script.rsplit('/').next().unwrap_or_default());
        command.args(["-bind", "-connect", socket]);
        for (name, value) in cgi(script, &uri) {
            command.env(name, value);
        }
        process::output(command.stdin(Stdio::null()), PATIENCE)
    }

    /// Runs a script as a CGI of its user's, as suPHP and suexec do.
    #[track_caller]
    pub fn cgi(&self, script: &str, uid: u32, cgroup: &Cgroup) -> Output {
        let mut command = self.command("/usr/bin/php-cgi", Some(uid), cgroup);
        for (name, value) in cgi(script, script) {
            command.env(name, value);
        }
        process::output(command.env("REDIRECT_STATUS", "200").stdin(Stdio::null()), PATIENCE)
    }

    /// Starts cron with a table of which `@reboot` runs at once.
    #[track_caller]
    pub fn cron(&self, table: &str, cgroup: &Cgroup) -> Running {
        self.put("/etc/cron.d/test", 0, table);
        self.root.inside(|root| {
            fs::set_permissions(root.join("etc/cron.d/test"), Permissions::from_mode(0o644)).must("cannot set a mode");
        });
        let mut command = self.command("/usr/sbin/cron", None, cgroup);
        Running::start_logged(command.arg("-f"), &self.log("cron"))
    }
}

fn cgi<'s>(script: &'s str, uri: &'s str) -> [(&'static str, &'s str); 7] {
    [
        ("GATEWAY_INTERFACE", "CGI/1.1"),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("REQUEST_METHOD", "GET"),
        ("QUERY_STRING", ""),
        ("REQUEST_URI", uri),
        ("SCRIPT_NAME", uri),
        ("SCRIPT_FILENAME", script),
    ]
}
