//! A real Apache with PHP as its module, on a web host.

use super::{Web, web::PATIENCE};
use crate::{Cgroup, http, poll, port, process::Running};
use std::os::unix::process::CommandExt;

/// What each Apache here loads of Debian's configuration.
const LOADED: [&str; 5] = [
    "mods-available/mpm_prefork.load",
    "mods-available/authz_core.load",
    "mods-available/env.load",
    "mods-available/php*.load",
    "mods-available/php*.conf",
];

/// Ends when it is dropped, workers and all.
pub struct Apache {
    daemon: Running,
    port: u16,
}

impl Web {
    /// Starts an Apache that serves each request as the owner of the site (mpm_itk).
    #[track_caller]
    pub fn apache_as_owner(&self, owner: &str, site: &str, cgroup: &Cgroup) -> Apache {
        let itk = format!(
            "Include /etc/apache2/mods-available/mpm_itk.load\nLimitUIDRange 1 65535\nLimitGIDRange 1 65535\n\
             AssignUserID {owner} {owner}\n"
        );
        self.apache("www-data", site, &itk, cgroup)
    }

    /// Starts an Apache whose workers are this user's, and whose site is this directory, with more lines of configuration.
    #[track_caller]
    pub fn apache(&self, worker: &str, site: &str, more: &str, cgroup: &Cgroup) -> Apache {
        let port = port::free();
        let name = format!("apache-{port}");
        let include = LOADED.map(|file| format!("Include /etc/apache2/{file}\n")).concat();
        let conf = format!(
            "ServerRoot /etc/apache2\nServerName site.test\nPidFile /run/{name}.pid\nDefaultRuntimeDir /run\n\
             ErrorLog /dev/stderr\nListen 127.0.0.1:{port}\nUser {worker}\nGroup {worker}\n{include}{more}\
             StartServers 1\nMinSpareServers 1\nMaxSpareServers 1\nMaxRequestWorkers 1\n\
             DocumentRoot {site}\n<Directory {site}>\nRequire all granted\nAllowOverride None\n</Directory>\n"
        );
        let path = format!("/etc/{name}.conf");
        self.put(&path, 0, &conf);
        let mut command = self.command("/usr/sbin/apache2", None, cgroup);
        // When it is to end it signals its process group, which must not be that of the test.
        command.args(["-D", "FOREGROUND", "-f", &path]).process_group(0);
        let mut daemon = Running::start_logged(&mut command, &self.log(&name));
        // It listens before it has read everything; a worker comes after this file.
        poll::eventually(PATIENCE, "apache2 runs", || {
            assert!(daemon.ended().is_none(), "apache2 has ended:\n{}", daemon.log());
            self.has(&format!("/run/{name}.pid"))
        });
        Apache { daemon, port }
    }
}

impl Apache {
    /// Asks for a page of the site.
    #[track_caller]
    pub fn get(&self, path: &str) -> String {
        match http::get(&format!("http://127.0.0.1:{}{path}", self.port), &[]) {
            Ok((200, page)) => page,
            other => panic!("{path}: {other:?}\n{}", self.daemon.log()),
        }
    }

    /// The process that the workers are forked by.
    pub fn pid(&self) -> nix::unistd::Pid {
        self.daemon.pid()
    }
}

impl Drop for Apache {
    fn drop(&mut self) {
        // Killed at once it would leave its workers behind.
        if self.daemon.ended().is_none() {
            self.daemon.stop(PATIENCE);
        }
    }
}
