//! WHM's "SMTP Restrictions" (Tweak Settings: `smtpmailgidonly`).

use std::path::Path;

use super::{
    Neighbour, Ours, Severity,
    files::{self, Text},
    live::redirected,
    rules::Ports,
};

pub(super) const WHO: &str = "WHM SMTP Restrictions";
const CONF: &str = "/var/cpanel/cpanel.config";
/// What the restriction itself goes by: it is on while this exists.
const FLAG: &str = "/var/cpanel/smtpgidonlytweak";
/// Its rules name these, whatever Exim listens on.
const PORTS: [u16; 3] = [25, 465, 587];

pub(super) fn find(root: &Path, ours: &Ours) -> Option<Neighbour> {
    let mut evidence = Vec::new();
    match Text::read(root, Path::new(CONF)) {
        Some(Ok(conf)) => {
            let on = |line: &str| {
                line.split_once('=').is_some_and(|(k, v)| k.trim() == "smtpmailgidonly" && v.trim() == "1")
            };
            evidence.extend(conf.text.lines().position(on).map(|at| conf.line(at + 1)));
        }
        Some(Err(why)) if !files::exists(root, FLAG) => return Some(Neighbour::unseen(WHO, why)),
        _ => {}
    }
    if files::exists(root, FLAG) {
        evidence.push(FLAG.to_owned());
    }
    let ports = Ports(&ours.ports);
    let ports = ports.list(PORTS.iter().fold(0, |mask, port| mask | ports.within(*port, *port)));
    if evidence.is_empty() || ports.is_empty() {
        return None;
    }
    let mut together = format!(
        "sends {} of everyone but root, the MTA and Mailman to this host's MTA: {}",
        files::ports(&ports),
        redirected(&ports, ours)
    );
    if files::exists(root, "/etc/csf/csf.conf") {
        together.push_str(". CSF, which is installed here, takes these rules away when it loads its own");
    }
    Some(Neighbour::new(Severity::Warning, WHO, evidence, together))
}
