//! What control panels know of an account: its domains and its package.

use std::{
    collections::HashMap,
    fs,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{accounts::label::printable, neighbours::files};

/// How long an answer is good.
const FRESH: Duration = Duration::from_secs(60);

/// More domains than these say no more; the first by name are kept.
const DOMAINS: usize = 16;

/// Largest file that is read. 100,000 domains of cPanel are four megabytes.
const LARGEST: u64 = 32 << 20;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Site {
    pub domains: Vec<String>,
    pub plan: Option<String>,
}

/// The panels of a host, asked again after a minute.
pub struct Panels {
    root: PathBuf,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    sites: HashMap<String, (Instant, Site)>,
    /// What some panels keep of all accounts together.
    cpanel: Option<(Instant, HashMap<String, Site>)>,
    virtualmin: Option<(Instant, HashMap<String, Site>)>,
}

/// What is known of all accounts, read anew when it is too old.
fn fresh(
    known: &mut Option<(Instant, HashMap<String, Site>)>,
    read: impl FnOnce() -> HashMap<String, Site>,
) -> &HashMap<String, Site> {
    if known.as_ref().is_some_and(|(at, _)| at.elapsed() >= FRESH) {
        *known = None;
    }
    &known.get_or_insert_with(|| (Instant::now(), read())).1
}

impl Panels {
    /// `root` is `/`, but for tests.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), known: Mutex::default() }
    }

    /// What is known of a user; `home` asks for his home directory.
    pub fn site(&self, user: &str, home: impl FnOnce() -> Option<PathBuf>) -> Site {
        // A name that is no path component is no user of a panel.
        if user.is_empty() || user.contains(['/', '\0']) || user.starts_with('.') {
            return Site::default();
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, site)) = known.sites.get(user)
            && at.elapsed() < FRESH
        {
            return site.clone();
        }
        let site = self.ask(user, home, &mut known);
        known.sites.retain(|_, (at, _)| at.elapsed() < FRESH);
        known.sites.insert(user.to_owned(), (Instant::now(), site.clone()));
        site
    }

    fn ask(&self, user: &str, home: impl FnOnce() -> Option<PathBuf>, known: &mut Known) -> Site {
        let says = |site: Site| (site != Site::default()).then_some(site);
        // One after the other: the later ones read many files, and ask the name service.
        let mut site = says(self.cpanel(user, known))
            .or_else(|| says(self.directadmin(user)))
            .or_else(|| says(self.hestia(user)))
            .or_else(|| says(self.virtualmin(user, known)))
            .unwrap_or_else(|| self.plesk(home));
        site.domains.sort();
        site.domains.dedup();
        site.domains.truncate(DOMAINS);
        site
    }

    fn read(&self, path: &str) -> Option<String> {
        let bytes = files::bytes(&self.root.join(path), LARGEST).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// `/etc/userdomains` ("domain: user"), and `PLAN=` of `/var/cpanel/users/USER`.
    fn cpanel(&self, user: &str, known: &mut Known) -> Site {
        let all = fresh(&mut known.cpanel, || {
            let mut sites: HashMap<String, Site> = HashMap::new();
            for line in self.read("etc/userdomains").unwrap_or_default().lines() {
                // "*: nobody" stands for all others.
                if let Some((domain, owner)) = line.split_once(':').filter(|(domain, _)| *domain != "*") {
                    sites.entry(owner.trim().to_owned()).or_default().domains.push(shown(domain));
                }
            }
            sites
        });
        let site = all.get(user).cloned().unwrap_or_default();
        let settings = self.read(&format!("var/cpanel/users/{user}")).unwrap_or_default();
        Site { plan: setting(&settings, "PLAN"), ..site }
    }

    fn directadmin(&self, user: &str) -> Site {
        let dir = format!("usr/local/directadmin/data/users/{user}");
        let domains = self.read(&format!("{dir}/domains.list")).unwrap_or_default();
        let settings = self.read(&format!("{dir}/user.conf")).unwrap_or_default();
        Site { domains: lines(&domains), plan: setting(&settings, "package") }
    }

    /// HestiaCP and VestaCP: one line of `NAME='value'` pairs for each domain.
    fn hestia(&self, user: &str) -> Site {
        for panel in ["hestia", "vesta"] {
            let dir = format!("usr/local/{panel}/data/users/{user}");
            let web = self.read(&format!("{dir}/web.conf")).unwrap_or_default();
            let settings = self.read(&format!("{dir}/user.conf")).unwrap_or_default();
            let value = |line: &str, name: &str| {
                let (_, rest) = line.split_once(&format!("{name}='"))?;
                rest.split_once('\'').map(|(value, _)| shown(value))
            };
            let domains = web.lines().filter_map(|line| value(line, "DOMAIN")).collect();
            let site = Site { domains, plan: value(&settings, "PACKAGE").filter(|plan| !plan.is_empty()) };
            if site != Site::default() {
                return site;
            }
        }
        Site::default()
    }

    /// One file for each domain, by number.
    fn virtualmin(&self, user: &str, known: &mut Known) -> Site {
        let all = fresh(&mut known.virtualmin, || {
            let dir = "etc/webmin/virtual-server/domains";
            let mut sites: HashMap<String, Site> = HashMap::new();
            let entries = fs::read_dir(self.root.join(dir)).into_iter().flatten().filter_map(Result::ok);
            for entry in entries.take(10_000) {
                let text = entry.file_name().to_str().and_then(|name| self.read(&format!("{dir}/{name}")));
                let Some((text, user)) = text.and_then(|text| setting(&text, "user").map(|user| (text, user))) else {
                    continue;
                };
                let site = sites.entry(user).or_default();
                site.domains.extend(setting(&text, "dom"));
                site.plan = site.plan.take().or_else(|| self.virtualmin_plan(&setting(&text, "plan")?));
            }
            sites
        });
        all.get(user).cloned().unwrap_or_default()
    }

    /// A domain says its plan's number, and a file of that number the name.
    fn virtualmin_plan(&self, id: &str) -> Option<String> {
        let is_number = !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit());
        let plan = is_number.then(|| self.read(&format!("etc/webmin/virtual-server/plans/{id}")))??;
        setting(&plan, "name")
    }

    /// A subscription's home is named after its domain.
    fn plesk(&self, home: impl FnOnce() -> Option<PathBuf>) -> Site {
        let home = home();
        let below = home.as_deref().and_then(|home| home.strip_prefix("/var/www/vhosts").ok());
        let domain = below.and_then(|below| below.components().next()).and_then(|first| first.as_os_str().to_str());
        Site { domains: domain.map(shown).into_iter().collect(), plan: None }
    }
}

fn shown(text: &str) -> String {
    printable(text.trim().as_bytes())
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(shown).filter(|line| !line.is_empty()).collect()
}

fn setting(text: &str, name: &str) -> Option<String> {
    let of = |line: &str| Some(shown(line.split_once('=').filter(|(key, _)| key.trim() == name)?.1));
    text.lines().find_map(of).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn site(domains: &[&str], plan: Option<&str>) -> Site {
        Site { domains: domains.iter().map(|d| (*d).to_owned()).collect(), plan: plan.map(str::to_owned) }
    }

    #[test]
    fn each_panel_tells_in_its_own_files() {
        for (files, expected) in [
            (
                &[
                    ("etc/userdomains", "shop.example: shop\nother.example: other\nb.example: shop\n*: nobody\n"),
                    ("var/cpanel/users/shop", "BWLIMIT=unlimited\nPLAN=gold\n"),
                ][..],
                site(&["b.example", "shop.example"], Some("gold")),
            ),
            (
                &[
                    ("usr/local/directadmin/data/users/shop/domains.list", "shop.example\n"),
                    ("usr/local/directadmin/data/users/shop/user.conf", "email=x\npackage=silver\n"),
                ],
                site(&["shop.example"], Some("silver")),
            ),
            (
                &[
                    ("usr/local/hestia/data/users/shop/web.conf", "DOMAIN='shop.example' IP='192.0.2.1'\n"),
                    ("usr/local/hestia/data/users/shop/user.conf", "NAME='x'\nPACKAGE='default'\n"),
                ],
                site(&["shop.example"], Some("default")),
            ),
            (
                &[
                    ("etc/webmin/virtual-server/domains/1", "dom=shop.example\nuser=shop\nplan=1280\n"),
                    ("etc/webmin/virtual-server/plans/1280", "id=1280\nname=Gold\nquota=1\n"),
                ],
                site(&["shop.example"], Some("Gold")),
            ),
            (
                &[("etc/webmin/virtual-server/domains/1", "dom=shop.example\nuser=shop\nplan=0\n")],
                site(&["shop.example"], None),
            ),
            (
                &[
                    ("etc/webmin/virtual-server/domains/1", "dom=shop.example\nuser=shop\nplan=../x\n"),
                    ("etc/webmin/virtual-server/x", "name=x\n"),
                ],
                site(&["shop.example"], None),
            ),
            (&[], site(&[], None)),
        ] {
            let root = host(files);
            assert_eq!(Panels::new(root.path()).site("shop", || None), expected);
        }
        let home = || Some("/var/www/vhosts/shop.example".into());
        assert_eq!(Panels::new("/nonexistent").site("shop", home), site(&["shop.example"], None));
    }

    #[test]
    fn hostile_names_and_files_say_nothing() {
        let root = host(&[("var/cpanel/users/shop", "PLAN=a\x1b[31m\n"), ("var/cpanel/secret", "PLAN=x\n")]);
        let panels = Panels::new(root.path());
        assert_eq!(panels.site("../secret", || None), Site::default());
        assert_eq!(panels.site("shop", || None).plan.as_deref(), Some("a\\u{1b}[31m"));
        fs::create_dir_all(root.path().join("var/cpanel/users/dir")).unwrap();
        assert_eq!(panels.site("dir", || None), Site::default());
    }
}
