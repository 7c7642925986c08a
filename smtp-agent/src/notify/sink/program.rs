//! A program that is given something on its standard input: no shell, hardly an environment, and not for ever.

use std::{
    fs::File,
    io::{Seek, Write},
    process::Stdio,
    time::{Duration, Instant},
};

use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::{
    accounts::label::printable,
    program::{command, end, reader, wait_until},
};

/// What is read of its complaints.
const LONGEST: u64 = 4096;

/// Runs a program to its end. It has taken what it was given if it exits with 0.
pub(super) fn run(argv: &[String], input: &[u8], timeout: Duration) -> Result<(), String> {
    let [program, arguments @ ..] = argv else { return Err("there is no program to run".to_owned()) };
    let mut child = command(program)
        .args(arguments)
        // A file rather than a pipe: a program that does not read it cannot hold anybody up.
        .stdin(in_memory(input).map_err(|e| format!("{program}: no memory for its input: {e}"))?)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("{program}: {e}"))?;
    let deadline = Instant::now() + timeout;
    let complaints = reader(child.stderr.take(), LONGEST, deadline);
    let Some(status) = wait_until(&mut child, deadline) else {
        end(&mut child);
        return Err(format!("{program}: did not end within {} s and was killed", timeout.as_secs()));
    };
    if status.success() {
        return Ok(());
    }
    // Somebody it has left behind may hold the pipe open.
    let words = complaints.recv_timeout(Duration::from_millis(100)).unwrap_or_default();
    let first = words.split(|byte| *byte == b'\n').find(|line| !line.trim_ascii().is_empty()).map(printable);
    Err(format!("{program}: {status}{}", first.map(|first| format!(": {first}")).unwrap_or_default()))
}

fn in_memory(input: &[u8]) -> std::io::Result<Stdio> {
    let mut file = File::from(memfd_create(c"notice", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(input)?;
    file.rewind()?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, input: &[u8]) -> Result<(), String> {
        let argv = ["/bin/sh", "-c", script].map(str::to_owned);
        run(&argv, input, Duration::from_millis(800))
    }

    #[test]
    fn it_gets_its_input_whole_and_hardly_an_environment() {
        let dir = tempfile::tempdir().unwrap();
        let [input, environment] = ["input", "environment"].map(|name| dir.path().join(name));
        let large = vec![b'x'; 1 << 20];
        sh(&format!("cat > {}; env > {}", input.display(), environment.display()), &large).unwrap();
        assert_eq!(std::fs::read(input).unwrap(), large);
        let environment = std::fs::read_to_string(environment).unwrap();
        let mut names: Vec<_> = environment.lines().filter_map(|line| line.split('=').next()).collect();
        names.sort_unstable();
        // The shell adds its own.
        names.retain(|name| !["_", "OLDPWD", "SHLVL"].contains(name));
        assert_eq!(names, ["LC_ALL", "PATH", "PWD"]);
        sh("true", &large).expect("one that reads nothing has taken it all the same");
    }

    #[test]
    fn one_that_fails_is_told_in_its_own_words() {
        let said = sh("printf '\\nno\\033[31m such list\\nmore' >&2; exit 67", b"").unwrap_err();
        assert_eq!(said, "/bin/sh: exit status: 67: no\\u{1b}[31m such list");
        assert!(sh("exit 75", b"").unwrap_err().ends_with("exit status: 75"));
        assert!(sh("kill -9 $$", b"").unwrap_err().contains("signal: 9"));
        let missing = run(&["/nonexistent".to_owned()], b"", Duration::from_secs(1)).unwrap_err();
        assert!(missing.starts_with("/nonexistent: No such file"), "{missing}");
    }

    #[test]
    fn one_that_has_much_to_say_has_taken_it_all_the_same() {
        sh("head -c 1000000 /dev/zero >&2", b"").unwrap();
        let said = sh("echo why >&2; head -c 1000000 /dev/zero >&2; exit 3", b"").unwrap_err();
        assert_eq!(said, "/bin/sh: exit status: 3: why");
    }

    #[test]
    fn one_that_takes_too_long_goes_with_all_it_has_started() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let began = Instant::now();
        let said = sh(&format!("sleep 60 & echo $! > {}; wait", pid.display()), b"").unwrap_err();
        assert!(said.contains("did not end within"), "{said}");
        assert!(began.elapsed() < Duration::from_secs(3));
        let pid: i32 = std::fs::read_to_string(pid).unwrap().trim().parse().unwrap();
        let gone = || std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "));
        let deadline = Instant::now() + Duration::from_secs(2);
        while !gone() {
            assert!(Instant::now() < deadline, "what it has started lives on");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn one_that_leaves_somebody_behind_has_ended() {
        let began = Instant::now();
        sh("sleep 2 & exit 0", b"").unwrap();
        assert!(sh("sleep 2 & exit 1", b"").is_err());
        assert!(began.elapsed() < Duration::from_millis(1500), "{:?}", began.elapsed());
    }
}
