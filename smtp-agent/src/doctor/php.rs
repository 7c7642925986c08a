//! As whom PHP runs here, by the configuration of web servers, PHP-FPM and panels.

use super::host::Host;
use crate::neighbours::files::Text;

/// A way in which PHP is run under a user that sites share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Handler {
    /// "mod_php", "PHP-FPM (pool www)"
    pub(super) how: String,
    pub(super) user: String,
    pub(super) evidence: Vec<String>,
}

/// Users of web servers, by distribution.
const SHARED: [&str; 7] = ["nobody", "www-data", "apache", "httpd", "nginx", "www", "wwwrun"];
/// Where a line of a web server's configuration loads PHP into it.
const MODULES: [&str; 4] =
    ["/etc/apache2/mods-enabled", "/etc/httpd/conf.modules.d", "/etc/httpd/conf.d", "/etc/apache2/conf.d"];
/// Where PHP-FPM has its pools; below `*` is a directory for each version.
const POOLS: [(&str, &str); 4] = [
    ("/etc/php", "fpm/pool.d"),
    ("/etc/php-fpm.d", ""),
    ("/opt/cpanel", "root/etc/php-fpm.d"),
    ("/etc/opt/remi", "php-fpm.d"),
];
/// cPanel's handlers (EasyApache 4).
const HANDLERS: &str = "/etc/cpanel/ea4/php.conf";

pub(super) fn examine(host: &Host) -> Vec<Handler> {
    let mut found: Vec<_> = mod_php(host).into_iter().chain(cpanel(host)).collect();
    found.extend(pools(host));
    found
}

/// Whose rights the web server has.
fn web_user(host: &Host) -> (String, Option<String>) {
    for file in [
        "/etc/apache2/envvars",
        "/etc/apache2/apache2.conf",
        "/etc/httpd/conf/httpd.conf",
        "/etc/apache2/conf/httpd.conf",
    ] {
        let Some(conf) = host.text(file) else { continue };
        for (number, line) in conf.text.lines().enumerate() {
            let user = match line.trim().split_once(['=', ' ']) {
                Some(("export APACHE_RUN_USER" | "User", user)) => user,
                Some(("export", rest)) if rest.starts_with("APACHE_RUN_USER=") => &rest["APACHE_RUN_USER=".len()..],
                _ => continue,
            };
            let user = user.trim().trim_matches('"');
            if !user.is_empty() && !user.contains('$') {
                return (user.to_owned(), Some(conf.line(number + 1)));
            }
        }
    }
    let known = SHARED[1..].iter().find(|user| host.uid(user).is_some());
    (known.map_or_else(|| "the web server's user".to_owned(), |user| (*user).to_owned()), None)
}

fn mod_php(host: &Host) -> Option<Handler> {
    let mut evidence = Vec::new();
    for directory in MODULES {
        for name in host.names(directory) {
            let path = format!("{directory}/{name}");
            let Some(conf) = host.text(&path) else { continue };
            let loads = |line: &str| {
                let line = line.trim().to_ascii_lowercase();
                line.starts_with("loadmodule") && line.contains("libphp")
            };
            evidence.extend(conf.text.lines().position(loads).map(|at| conf.line(at + 1)));
        }
    }
    if evidence.is_empty() {
        return None;
    }
    let (user, said) = web_user(host);
    evidence.extend(said);
    Some(Handler { how: "mod_php".to_owned(), user: crate::accounts::label::printable(user.as_bytes()), evidence })
}

/// `ea-php81: dso`: inside the web server, or as CGI of its user. suPHP, lsapi, FPM and CGI with suEXEC have the
/// owner's rights.
fn cpanel(host: &Host) -> Option<Handler> {
    let conf = host.text(HANDLERS)?;
    let inside =
        |line: &str| line.split_once(':').is_some_and(|(key, how)| key.trim() != "default" && how.trim() == "dso");
    let evidence: Vec<_> = lines(&conf, inside);
    // With one of these modules even mod_php runs as the owner of the site.
    let by_owner = ["ruid2", "mpm_itk"]
        .iter()
        .any(|module| host.names("/etc/apache2/conf.modules.d").iter().any(|name| name.contains(module)));
    (!evidence.is_empty() && !by_owner).then(|| Handler {
        how: "mod_php (DSO)".to_owned(),
        user: "nobody".to_owned(),
        evidence,
    })
}

fn pools(host: &Host) -> Vec<Handler> {
    let mut directories = Vec::new();
    for (base, below) in POOLS {
        if below.is_empty() {
            directories.push(base.to_owned());
        } else {
            directories.extend(host.names(base).iter().map(|version| format!("{base}/{version}/{below}")));
        }
    }
    let mut found = Vec::new();
    for directory in directories {
        for name in host.names(&directory).into_iter().filter(|name| name.ends_with(".conf")) {
            if let Some(conf) = host.text(&format!("{directory}/{name}")) {
                found.extend(shared_pools(&conf));
            }
        }
    }
    found
}

/// Pools of one file that run as a user of web servers.
fn shared_pools(conf: &Text) -> Vec<Handler> {
    let mut found = Vec::new();
    let mut pool = "global";
    for (number, line) in conf.text.lines().enumerate() {
        let line = line.split(';').next().unwrap_or_default().trim();
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            pool = name;
        } else if let Some((key, user)) = line.split_once('=')
            && key.trim() == "user"
            && SHARED.contains(&user.trim().trim_matches('"'))
        {
            let how = format!("PHP-FPM (pool {})", crate::accounts::label::printable(pool.as_bytes()));
            let user = user.trim().trim_matches('"').to_owned();
            found.push(Handler { how, user, evidence: vec![conf.line(number + 1)] });
        }
    }
    found
}

/// The lines of a file that are so, with their places.
fn lines(conf: &Text, is: impl Fn(&str) -> bool) -> Vec<String> {
    let all = conf.text.lines().enumerate();
    all.filter(|(_, line)| is(line)).map(|(at, _)| conf.line(at + 1)).collect()
}
