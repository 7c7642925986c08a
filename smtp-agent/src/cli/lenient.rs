//! Where the pins and the socket are, even when the configuration has been broken since the agent started.

use std::path::Path;

use crate::{
    accounts::naming::Naming,
    config::{self, Config, Paths},
    exit::Result,
    kernel::{cgroup::Hierarchy, maps::Maps, pins::Pins},
};

/// What a command that only looks at the gate needs of the configuration.
pub(super) struct Lenient {
    pub(super) paths: Paths,
    /// The configuration, when it has no errors.
    pub(super) config: Option<Config>,
}

impl Lenient {
    /// The gate that is pinned there, and what its accounts are called.
    pub(super) fn gate(&self) -> Result<(Pins, Maps, Naming)> {
        let pins = Pins::new(&self.paths.pins);
        pins.require_ours()?;
        let maps = Maps::open(&pins)?;
        // Only the names of containers need the hierarchy, so a host without one can still be looked at.
        let choice = self.config.as_ref().map(|config| config.cgroup.clone()).unwrap_or_default();
        Ok((pins, maps, Naming::new(Hierarchy::find(&choice).ok())))
    }
}

/// Loads the configuration; when it has errors, says so on standard error and takes just the paths from it.
pub(super) fn load(path: &Path) -> Lenient {
    match config::load(path) {
        Ok(loaded) => Lenient { paths: loaded.config.paths.clone(), config: Some(loaded.config) },
        Err(_) => {
            let paths = paths(path);
            eprintln!(
                "smtp-agent: {path:?} is missing or has errors (see `smtp-agent check`); looking for the gate at {:?}",
                paths.pins
            );
            Lenient { paths, config: None }
        }
    }
}

/// The paths a file with errors still tells, else the defaults.
fn paths(path: &Path) -> Paths {
    let mut paths = Paths::default();
    let Ok(text) = std::fs::read_to_string(path) else { return paths };
    let (table, _) = toml::de::DeTable::parse_recoverable(&text);
    let Some(section) = table.get_ref().get("paths").and_then(|v| v.get_ref().as_table()) else { return paths };
    let found = |key: &str| section.get(key).and_then(|v| v.get_ref().as_str()).filter(|p| p.starts_with('/'));
    for (key, slot) in [("pins", &mut paths.pins), ("state", &mut paths.state), ("run", &mut paths.run)] {
        if let Some(value) = found(key) {
            *slot = value.into();
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_file_with_errors_still_tells_its_paths() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write!(file, "mode = \"enforcee\"\n[paths]\npins = \"/sys/fs/bpf/mine\"\nrun = 7\n[plan\n").unwrap();
        let lenient = load(file.path());
        assert!(lenient.config.is_none());
        assert_eq!(lenient.paths.pins, Path::new("/sys/fs/bpf/mine"));
        assert_eq!(lenient.paths.run, Paths::default().run);
    }
}
