//! Programs that tests run: to their end, or for a while.

use crate::{Must, poll};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs::File,
    io::{self, Read, Seek},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

/// What a program that has ended left behind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Output {
    /// The exit code, or 128 plus the number of the signal that ended it, as a shell counts.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// Fails the test unless the program ended well.
    #[track_caller]
    pub fn expect_ok(self, what: &str) -> Self {
        assert_eq!(self.code, 0, "{what} failed\nstdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }
}

/// The code of [`Output::code`].
pub fn code(status: ExitStatus) -> i32 {
    status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
}

/// Runs a program to its end. A program that outlives `deadline` is killed and fails the test.
#[track_caller]
pub fn output(command: &mut Command, deadline: Duration) -> Output {
    try_output(command, deadline).must(format_args!("{command:?}"))
}

/// Like [`output`] for a `Drop`, which must not panic.
pub fn try_output(command: &mut Command, deadline: Duration) -> io::Result<Output> {
    // Files, not pipes: a grandchild that keeps a pipe open would keep the reader waiting.
    let (mut stdout, mut stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
    let child = command.stdout(stdout.try_clone()?).stderr(stderr.try_clone()?).spawn()?;
    let status = Running { child, log: None }.wait(deadline);
    let text = |file: &mut File| -> io::Result<String> {
        let mut bytes = Vec::new();
        file.rewind()?;
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let (stdout, stderr) = (text(&mut stdout)?, text(&mut stderr)?);
    match status {
        Some(status) => Ok(Output { code: code(status), stdout, stderr }),
        None => Err(io::Error::other(format!("did not end within {deadline:?}\nstdout: {stdout}\nstderr: {stderr}"))),
    }
}

/// A program that runs until it is told to end, at the latest by `Drop`.
pub struct Running {
    child: Child,
    log: Option<PathBuf>,
}

impl Running {
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        let child = command.spawn().must(format_args!("cannot start {:?}", command.get_program()));
        Self { child, log: None }
    }

    /// Starts a program whose standard output and error are added to the file `log`.
    #[track_caller]
    pub fn start_logged(command: &mut Command, log: &Path) -> Self {
        let out = File::options().create(true).append(true).open(log).must(format_args!("{}", log.display()));
        let err = out.try_clone().must("cannot share the log file");
        let mut running = Self::start(command.stdin(Stdio::null()).stdout(out).stderr(err));
        running.log = Some(log.into());
        running
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// What it has written so far, when it was started with a log.
    pub fn log(&self) -> String {
        let bytes = self.log.as_ref().and_then(|path| std::fs::read(path).ok()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// The exit status if it has ended.
    #[track_caller]
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().must("cannot wait for a program")
    }

    /// Sends a signal to a program that has not been waited for.
    #[track_caller]
    pub fn signal(&mut self, signal: Signal) {
        assert!(self.ended().is_none(), "the program had ended before {signal}:\n{}", self.log());
        kill(self.pid(), signal).must(format_args!("cannot send {signal}"));
    }

    /// Waits for the end; `None` when it does not come within `deadline`.
    #[track_caller]
    pub fn wait(&mut self, deadline: Duration) -> Option<ExitStatus> {
        let mut status = None;
        poll::holds_within(deadline, || {
            status = self.ended();
            status.is_some()
        });
        status
    }

    /// Asks it to end and returns its exit code; `None` when it had to be killed.
    #[track_caller]
    pub fn stop(&mut self, deadline: Duration) -> Option<i32> {
        if self.ended().is_none() {
            self.signal(Signal::SIGTERM);
        }
        self.wait(deadline).map(code)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it has ended and been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
