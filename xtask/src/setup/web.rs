//! `test-tools/web/`: a root directory with a real PHP (FPM, CGI, command line and in Apache), a FastCGI client, cron, and a DNS server.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::debian_root::{self, bootstrap, open_to_all_users, starts};
use super::placed::Placed;
use super::{Item, apt};
use crate::progress::Line;
use crate::workspace::Workspace;

/// mpm-itk runs each site of Apache as its own user. msmtp is a sendmail that connects by itself.
const PACKAGES: [&str; 10] = [
    "php-fpm",
    "php-cgi",
    "php-cli",
    "libfcgi-bin",
    "cron",
    "apache2",
    "libapache2-mod-php",
    "libapache2-mpm-itk",
    "msmtp",
    "dnsmasq-base",
];

pub(super) struct Web {
    root: Placed,
    suite: Option<String>,
}

impl Web {
    pub(super) fn new(workspace: &Workspace) -> Self {
        let suite = apt::os_release("VERSION_CODENAME");
        let recipe = format!("web 2 {}", suite.as_deref().unwrap_or_default());
        Self { root: Placed { path: workspace.test_tools().join("web"), recipe }, suite }
    }
}

impl Item for Web {
    fn name(&self) -> &'static str {
        "test web root"
    }

    fn look(&self) -> Result<String, String> {
        self.root.look()
    }

    fn install(&self, line: &mut Line) -> Result<()> {
        let (suite, sources) = debian_root::needs(&self.suite, line)?;
        self.root.replace(line, |root, line| web(suite, &sources, root, line))
    }
}

fn web(suite: &str, sources: &[PathBuf], root: &Path, line: &mut Line) -> Result<()> {
    line.doing(format!("building a {suite} root with PHP, Apache and cron"));
    bootstrap(suite, sources, root, &PACKAGES, line)?;
    open_to_all_users(root)?;
    line.doing("trying the programs in PHP's root");
    starts(root, &["/usr/bin/php", "--version"], line)?;
    starts(root, &["/bin/sh", "-c", "/usr/sbin/php-fpm* --test"], line)?;
    starts(root, &["/usr/sbin/apache2ctl", "-M"], line)
}
