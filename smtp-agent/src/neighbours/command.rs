//! Asking other programs, with a limit on everything: time, output, environment.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use super::files::shown;
use crate::program::{PATH, command, end, reader, wait_until};

/// How long a program may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Most output that is read.
const LARGEST: u64 = 16 << 20;

/// Where a program is, looked for in the system's own directories only.
pub(super) fn locate(root: &Path, name: &str) -> Option<PathBuf> {
    PATH.split(':').map(|dir| root.join(dir.trim_start_matches('/')).join(name)).find(|path| path.is_file())
}

/// What a program prints, when it succeeds; else a sentence.
pub(super) fn output(program: &Path, arguments: &[&str]) -> Result<String, String> {
    within(program, arguments, PATIENCE, LARGEST)
}

fn within(program: &Path, arguments: &[&str], patience: Duration, largest: u64) -> Result<String, String> {
    let what = format!("{} {}", program.display(), arguments.join(" "));
    let mut child = command(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("{what}: {e}"))?;
    let deadline = Instant::now() + patience;
    // Threads, since both pipes must be emptied; they are not waited for: somebody else may hold a pipe open.
    let printed = reader(child.stdout.take(), largest, deadline);
    let complained = reader(child.stderr.take(), 4096, deadline);
    let answer = printed.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    let too_long = answer.as_ref().is_ok_and(|bytes| bytes.len() as u64 > largest);
    // Who has ended and left somebody behind who holds his output open is not waited for: once he is, his number and that of
    // his group may be another's, and are not to be killed.
    let status = if too_long || answer.is_err() { None } else { wait_until(&mut child, deadline) };
    let Some(status) = status else {
        end(&mut child);
        return Err(match too_long {
            true => format!("{what}: more than {} MiB of output", largest >> 20),
            false => format!("{what}: no answer within {} s", patience.as_secs()),
        });
    };
    if !status.success() {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(50));
        let words = complained.recv_timeout(left).unwrap_or_default();
        let words = String::from_utf8_lossy(&words);
        let first = words.lines().find(|line| !line.trim().is_empty()).unwrap_or("it failed without a word");
        return Err(format!("{what}: {}", shown(first)));
    }
    Ok(String::from_utf8_lossy(&answer.unwrap_or_default()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Result<String, String> {
        within(Path::new("/bin/sh"), &["-c", script], Duration::from_millis(700), 1 << 20)
    }

    #[test]
    fn a_program_is_heard_and_its_failure_told_in_its_own_words() {
        assert_eq!(sh("echo one; echo two >&2").as_deref(), Ok("one\n"));
        assert_eq!(sh("echo $HOME-$PATH").as_deref(), Ok(format!("-{PATH}\n").as_str()));
        let said = sh("printf 'no\\033[31m rights\\nmore' >&2; exit 4").unwrap_err();
        assert!(said.ends_with(": no\\u{1b}[31m rights"), "{said}");
        assert!(within(Path::new("/nonexistent"), &[], PATIENCE, 1).unwrap_err().contains("No such file"));
    }

    #[test]
    fn whoever_takes_too_long_or_never_ends_its_output_is_ended() {
        for (script, said) in [
            ("sleep 60", "no answer within"),
            ("exec 1>&-; sleep 60", "no answer within"),
            // A child that keeps the pipe open.
            ("sleep 60 & echo x", "no answer"),
            ("yes", "more than 1 MiB"),
            ("yes >&2", "no answer within"),
            // More than is read of it does not kill it.
            ("echo why >&2; head -c 1000000 /dev/zero >&2; exit 3", ": why"),
        ] {
            let began = Instant::now();
            let answer = sh(script).unwrap_err();
            assert!(answer.contains(said), "{script}: {answer}");
            assert!(began.elapsed() < Duration::from_secs(3), "{script}");
        }
    }

    #[test]
    fn nobody_is_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let number = dir.path().join("number");
        let script = format!("sleep 60 & echo $! > '{}'; exit 3", number.display());
        assert!(sh(&script).unwrap_err().contains("no answer"));
        let left = std::fs::read_to_string(&number).unwrap();
        let stat = format!("/proc/{}/stat", left.trim());
        let ended = || std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "));
        let deadline = Instant::now() + PATIENCE;
        while !ended() {
            assert!(Instant::now() < deadline, "{left} lives");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
