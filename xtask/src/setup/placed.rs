//! A directory that is there whole or not at all: built under another name, stamped, then renamed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};

use crate::process::{limited, shown};
use crate::progress::Line;

const STAMP: &str = ".smtp-test-tools";
const REMOVE: Duration = Duration::from_secs(60);

/// A directory and what it should hold, in a word that changes when the recipe does.
pub(super) struct Placed {
    pub(super) path: PathBuf,
    pub(super) recipe: String,
}

impl Placed {
    pub(super) fn look(&self) -> Result<String, String> {
        match fs::read_to_string(self.path.join(STAMP)) {
            Ok(stamp) if stamp.trim_end() == self.recipe => Ok(self.path.display().to_string()),
            Ok(stamp) => Err(format!("{} holds {:?}, not {:?}", self.path.display(), stamp.trim_end(), self.recipe)),
            Err(_) if self.path.exists() => Err(format!("{} is not complete", self.path.display())),
            Err(_) => Err(format!("{} is absent", self.path.display())),
        }
    }

    /// Lets `build` fill an empty directory, which then takes the place of what was there.
    pub(super) fn replace(&self, line: &mut Line, build: impl FnOnce(&Path, &mut Line) -> Result<()>) -> Result<()> {
        let new = self.beside("new");
        let old = self.beside("old");
        remove(&new, line)?;
        remove(&old, line)?;
        fs::create_dir_all(&new).with_context(|| format!("cannot create {}", new.display()))?;
        if let Err(error) = build(&new, line) {
            // The reason matters more than the rest of the failed build, which the next attempt removes.
            let _ = remove(&new, line);
            return Err(error);
        }
        fs::write(new.join(STAMP), format!("{}\n", self.recipe))?;
        if self.path.exists() {
            fs::rename(&self.path, &old).with_context(|| format!("cannot move {} away", self.path.display()))?;
        }
        fs::rename(&new, &self.path).with_context(|| format!("cannot put {} in place", self.path.display()))?;
        remove(&old, line)
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        self.path.with_added_extension(suffix)
    }
}

/// Removes a directory without ever leaving its file system: a test that died may have left the host's own mounted in it.
fn remove(path: &Path, line: &mut Line) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let mut command = Command::new("rm");
    command.args(["-rf", "--one-file-system", "--"]).arg(path);
    limited(&mut command, REMOVE, line)
        .map_err(|failure| anyhow!("{}: {failure}\n  by hand: unmount what is mounted in it", shown(&command)))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn a_directory_is_there_whole_or_not_at_all() {
        let parent = tempfile::tempdir().unwrap();
        let mut placed = Placed { path: parent.path().join("tool"), recipe: "tool 1".to_owned() };
        let mut line = Line::silent();
        let fill = |with: &'static str| move |path: &Path, _: &mut Line| Ok(fs::write(path.join("file"), with)?);
        let names = || {
            let mut names: Vec<_> =
                fs::read_dir(parent.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert!(placed.look().unwrap_err().contains("absent"));

        let failed = placed.replace(&mut line, |path, _| {
            fs::write(path.join("half"), "")?;
            bail!("the network is down")
        });
        assert_eq!(failed.unwrap_err().to_string(), "the network is down");
        assert!(names().is_empty(), "a failed build leaves nothing: {:?}", names());

        placed.replace(&mut line, fill("one")).unwrap();
        placed.look().unwrap();
        assert_eq!(names(), ["tool"]);

        placed.recipe = "tool 2".to_owned();
        assert!(placed.look().unwrap_err().contains("tool 1"), "an older recipe is named");
        placed.replace(&mut line, fill("two")).unwrap();
        placed.look().unwrap();
        assert_eq!(
            (names(), fs::read_to_string(placed.path.join("file")).unwrap()),
            (vec!["tool".into()], "two".into())
        );

        fs::remove_file(placed.path.join(STAMP)).unwrap();
        assert!(placed.look().unwrap_err().contains("not complete"));
    }
}
