//! The packaged default config, turned into one that touches nothing an installed agent owns.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use toml::{Table, Value};

pub(super) struct PrivateConfig {
    pub(super) path: PathBuf,
    /// Holds the config and the agent's log as well.
    pub(super) directory: PathBuf,
    pub(super) pins: PathBuf,
    pub(super) listen: SocketAddr,
}

impl PrivateConfig {
    pub(super) fn write(packaged: &Path, directory: &Path, pins: &Path, listen: SocketAddr) -> Result<Self> {
        let text = fs::read_to_string(packaged).with_context(|| format!("cannot read {}", packaged.display()))?;
        let config = Self {
            path: directory.join("config.toml"),
            directory: directory.to_path_buf(),
            pins: pins.to_path_buf(),
            listen,
        };
        let text = config.adapt(&text).with_context(|| format!("in {}", packaged.display()))?;
        fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
        fs::write(&config.path, text).with_context(|| format!("cannot write {}", config.path.display()))?;
        Ok(config)
    }

    /// The agent's state and sockets: made for this run, removed with it.
    pub(super) fn transient(&self) -> [PathBuf; 2] {
        [self.directory.join("state"), self.directory.join("run")]
    }

    fn adapt(&self, packaged: &str) -> Result<String> {
        let mut table: Table = packaged.parse().context("the packaged config is no TOML")?;
        table.insert("mode".to_owned(), Value::from("observe"));
        let [state, run] = self.transient();
        set(
            &mut table,
            "paths",
            [("pins", &self.pins), ("state", &state), ("run", &run)]
                .map(|(key, path)| (key, path.display().to_string())),
        )?;
        set(&mut table, "metrics", [("listen", self.listen.to_string())])?;
        Ok(format!("# Written by `cargo xtask run` from the packaged default; overwritten each time.\n{table}"))
    }
}

fn set<const N: usize>(config: &mut Table, section: &str, values: [(&str, String); N]) -> Result<()> {
    let entry = config.entry(section.to_owned()).or_insert_with(|| Value::Table(Table::new()));
    let table = entry.as_table_mut().with_context(|| format!("`{section}` is not a table"))?;
    table.extend(values.map(|(key, value)| (key.to_owned(), Value::from(value))));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapted(packaged: &str) -> Table {
        let config = PrivateConfig {
            path: PathBuf::from("/t/run/config.toml"),
            directory: PathBuf::from("/t/run"),
            pins: PathBuf::from("/sys/fs/bpf/x"),
            listen: "127.0.0.1:9726".parse().unwrap(),
        };
        config.adapt(packaged).unwrap().parse().unwrap()
    }

    #[test]
    fn mode_paths_and_port_are_ours_and_the_rest_is_the_packages() {
        let packaged = "mode = \"enforce\"\n[paths]\nstate = \"/var/lib/smtp-agent\"\n[metrics]\nlisten = \"x\"\nmore = 1\n\
                        [plan.standard]\nper_hour = 100\n[[rule]]\nuser = \"shop\"\nplan = \"bulk\"\n";
        let table = adapted(packaged);
        assert_eq!(table["mode"].as_str(), Some("observe"));
        assert_eq!(table["paths"]["pins"].as_str(), Some("/sys/fs/bpf/x"));
        assert_eq!(table["paths"]["state"].as_str(), Some("/t/run/state"));
        assert_eq!(table["paths"]["run"].as_str(), Some("/t/run/run"));
        assert_eq!(table["metrics"]["listen"].as_str(), Some("127.0.0.1:9726"));
        assert_eq!(table["metrics"]["more"].as_integer(), Some(1));
        assert_eq!(table["plan"]["standard"]["per_hour"].as_integer(), Some(100));
        assert_eq!(table["rule"][0]["plan"].as_str(), Some("bulk"));
    }

    #[test]
    fn an_empty_default_gets_the_sections_it_lacks() {
        let table = adapted("");
        assert_eq!(table.keys().map(String::as_str).collect::<Vec<_>>(), ["metrics", "mode", "paths"]);
    }
}
