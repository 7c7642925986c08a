//! Where the workspace and its target directory are, and the cargo that started us.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
}

impl Workspace {
    /// Asks cargo: the target directory may come from the environment or from a config file anywhere above.
    pub(crate) fn find() -> Result<Self> {
        // `cargo run` tells where we are now; what the compiler was told is another place once a checkout has moved.
        let home = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let output = cargo()
            .args(["metadata", "--no-deps", "--format-version=1", "--offline", "--manifest-path"])
            .arg(Path::new(&home).join("Cargo.toml"))
            .output()
            .context("cannot run `cargo metadata`")?;
        if !output.status.success() {
            bail!("`cargo metadata` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Self::parse(&output.stdout)
    }

    fn parse(metadata: &[u8]) -> Result<Self> {
        let metadata: serde_json::Value = serde_json::from_slice(metadata).context("`cargo metadata` wrote no JSON")?;
        let directory = |key: &str| {
            let path = metadata[key].as_str().with_context(|| format!("`cargo metadata` names no {key}"))?;
            anyhow::Ok(PathBuf::from(path))
        };
        Ok(Self { root: directory("workspace_root")?, target: directory("target_directory")? })
    }

    /// What the tests use besides the programs built here.
    pub(crate) fn test_tools(&self) -> PathBuf {
        self.target.join("test-tools")
    }

    /// `cargo …`, to be run in the workspace's root.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = cargo();
        command.current_dir(&self.root);
        command
    }
}

/// The cargo that runs us, else the one on the PATH.
pub(crate) fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directories_are_read_from_the_metadata() {
        let found =
            Workspace::parse(br#"{"packages":[],"workspace_root":"/w","target_directory":"/t \"x\""}"#).unwrap();
        assert_eq!((found.root, found.target), (PathBuf::from("/w"), PathBuf::from("/t \"x\"")));
    }

    #[test]
    fn metadata_without_a_target_directory_is_an_error_that_names_it() {
        let error = Workspace::parse(br#"{"workspace_root":"/w"}"#).map(|found| found.target).unwrap_err();
        assert!(error.to_string().contains("target_directory"), "{error}");
    }
}
