//! Running a command: with a time limit and progress where it may hang, or in the foreground as a shell would.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, BufRead as _, BufReader, Read};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::interrupt;
use crate::progress::Line;

/// How often a waiting loop looks up.
const TICK: Duration = Duration::from_millis(100);
/// What a command gets between being asked to end and being killed.
const GRACE: Duration = Duration::from_secs(5);
/// How many of its last lines a failed command may quote.
const QUOTED: usize = 5;

/// Why a command did not do its work.
#[derive(Debug)]
pub(crate) enum Failure {
    NotStarted(io::Error),
    Failed { status: ExitStatus, tail: Vec<String> },
    TimedOut { limit: Duration, tail: Vec<String> },
    Interrupted(Signal),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quote =
            |f: &mut fmt::Formatter<'_>, tail: &[String]| tail.iter().try_for_each(|line| write!(f, "\n    | {line}"));
        match self {
            Self::NotStarted(error) => write!(f, "cannot be run: {error}"),
            Self::Failed { status, tail } => write!(f, "failed ({status})").and_then(|()| quote(f, tail)),
            Self::TimedOut { limit, tail } => {
                write!(f, "was not done after {} s and was ended", limit.as_secs()).and_then(|()| quote(f, tail))
            }
            Self::Interrupted(signal) => write!(f, "was ended by {signal}"),
        }
    }
}

impl std::error::Error for Failure {}

/// Runs `command` without a terminal, in a process group of its own, for no longer than `limit`. Returns its stdout.
pub(crate) fn limited(command: &mut Command, limit: Duration, line: &mut Line) -> Result<String, Failure> {
    let began = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(Failure::NotStarted)?;
    let (sender, receiver) = mpsc::channel();
    forward(child.stdout.take(), true, sender.clone());
    forward(child.stderr.take(), false, sender);

    let mut heard = Heard::default();
    let mut exited: Option<(ExitStatus, Instant)> = None;
    loop {
        match receiver.recv_timeout(TICK) {
            Ok(said) => {
                line.tick(&said.text);
                heard.take(said);
            }
            Err(RecvTimeoutError::Timeout) => line.tick(""),
            // Both pipes are closed. A command may close them and go on, so its end is waited for all the same.
            Err(RecvTimeoutError::Disconnected) => thread::sleep(TICK / 10),
        }
        if let Some(signal) = interrupt::received() {
            end_group(&mut child);
            return Err(Failure::Interrupted(signal));
        }
        if exited.is_none() {
            exited = child.try_wait().map_err(Failure::NotStarted)?.map(|status| (status, Instant::now()));
        }
        match exited {
            // What it wrote last may still be in the pipes; a daemon it left behind may hold them for ever.
            Some((status, at)) if at.elapsed() > 3 * TICK || heard.all_of(&receiver) => {
                return if status.success() {
                    Ok(heard.stdout)
                } else {
                    Err(Failure::Failed { status, tail: heard.tail() })
                };
            }
            None if began.elapsed() > limit => {
                end_group(&mut child);
                return Err(Failure::TimedOut { limit, tail: heard.tail() });
            }
            _ => {}
        }
    }
}

/// A line that a command wrote.
struct Said {
    on_stdout: bool,
    text: String,
}

/// What is kept of all that a command wrote.
#[derive(Default)]
struct Heard {
    stdout: String,
    /// The last lines of either pipe, stdout's first.
    tails: [VecDeque<String>; 2],
}

impl Heard {
    fn take(&mut self, said: Said) {
        if said.on_stdout {
            self.stdout.push_str(&said.text);
            self.stdout.push('\n');
        }
        if !said.text.trim().is_empty() {
            let tail = &mut self.tails[usize::from(!said.on_stdout)];
            tail.push_back(said.text);
            tail.drain(..tail.len().saturating_sub(QUOTED));
        }
    }

    /// What to quote of a failure: complaints go to stderr, and the order between two pipes is not known.
    fn tail(self) -> Vec<String> {
        let [stdout, stderr] = self.tails;
        if stderr.is_empty() { stdout.into() } else { stderr.into() }
    }

    /// Takes what waits in the channel; true once both pipes are closed.
    fn all_of(&mut self, receiver: &Receiver<Said>) -> bool {
        loop {
            match receiver.try_recv() {
                Ok(said) => self.take(said),
                Err(error) => return error == TryRecvError::Disconnected,
            }
        }
    }
}

/// Sends a pipe's lines on. The thread ends with the pipe or with the receiver.
fn forward(pipe: Option<impl Read + Send + 'static>, on_stdout: bool, sender: Sender<Said>) {
    let pipe = BufReader::new(pipe.expect("the pipe was asked for"));
    thread::spawn(move || {
        for bytes in pipe.split(b'\n').map_while(Result::ok) {
            let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            if sender.send(Said { on_stdout, text }).is_err() {
                return;
            }
        }
    });
}

/// Asks the child's whole group to end, then makes it.
fn end_group(child: &mut Child) {
    let group = pid_of(child);
    // It may have ended since: then there is nobody to signal, which is what we want.
    let _ = killpg(group, Signal::SIGTERM);
    if wait_for(child, GRACE).is_none() {
        let _ = killpg(group, Signal::SIGKILL);
        let _ = child.wait();
    }
}

/// Ends one child: `signal` first, SIGKILL when it has not gone after `grace`. Returns how it ended.
pub(crate) fn end(child: &mut Child, signal: Signal, grace: Duration) -> io::Result<ExitStatus> {
    if let Some(status) = child.try_wait()? {
        return Ok(status);
    }
    let _ = kill(pid_of(child), signal);
    match wait_for(child, grace) {
        Some(status) => Ok(status),
        None => {
            child.kill()?;
            child.wait()
        }
    }
}

fn wait_for(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let began = Instant::now();
    while began.elapsed() < limit {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        thread::sleep(TICK / 5);
    }
    None
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

/// A command in the foreground ended badly. It has said why itself, so nothing is added to it.
#[derive(Debug)]
pub(crate) struct Ended(u8);

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ended with exit code {}", self.0)
    }
}

impl std::error::Error for Ended {}

/// Runs `command` with our own terminal until it ends. A signal to us alone is passed on to it.
pub(crate) fn foreground(command: &mut Command) -> Result<()> {
    let mut child = command.spawn().with_context(|| format!("cannot run {}", shown(command)))?;
    let mut passed_on = false;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if let Some(signal) = interrupt::received().filter(|_| !passed_on) {
            passed_on = true;
            let _ = kill(pid_of(&child), signal);
        }
        thread::sleep(TICK / 5);
    };
    if status.success() {
        return Ok(());
    }
    // As a shell would put it.
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    Err(Ended(u8::try_from(code).unwrap_or(1)).into())
}

/// Says what went wrong, unless that has been said, and gives it an exit code.
pub(crate) fn exit_code(error: &anyhow::Error) -> ExitCode {
    if let Some(Ended(code)) = error.downcast_ref() {
        return ExitCode::from(*code);
    }
    eprintln!("error: {error:#}");
    // As a shell would put it.
    let signal = interrupt::received().map(|signal| 128 + signal as u8);
    ExitCode::from(signal.unwrap_or(1))
}

/// The command as one would type it: the program without its directory.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let program = program.file_name().unwrap_or(program.as_os_str());
    let words = std::iter::once(program).chain(command.get_args()).map(|word| {
        let word = word.to_string_lossy();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,+@*".contains(c);
        if !word.is_empty() && word.chars().all(plain) { word.into_owned() } else { format!("'{word}'") }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> Result<String, Failure> {
        limited(Command::new("sh").args(["-c", script]), limit, &mut Line::silent())
    }

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn stdout_is_returned_whole_and_stderr_is_not_in_it() {
        let stdout = shell("seq 1000; echo noise >&2; echo last", LONG).unwrap();
        assert_eq!(stdout.lines().count(), 1001);
        assert!(stdout.ends_with("1000\nlast\n"), "{stdout:?}");
    }

    #[test]
    fn a_failure_quotes_its_last_lines() {
        let failure = shell("seq 9; exit 7", LONG).unwrap_err();
        assert_eq!(failure.to_string(), "failed (exit status: 7)\n    | 5\n    | 6\n    | 7\n    | 8\n    | 9");
        let failure = shell("echo because >&2; seq 9; exit 7", LONG).unwrap_err();
        assert_eq!(failure.to_string(), "failed (exit status: 7)\n    | because", "complaints come before chatter");
    }

    #[test]
    fn a_hanging_command_is_ended_with_the_children_it_left_waiting() {
        let began = Instant::now();
        let failure = shell("echo started; sleep 60 & echo $!; wait", Duration::from_millis(300)).unwrap_err();
        let Failure::TimedOut { tail, .. } = &failure else { panic!("{failure}") };
        assert_eq!(tail[0], "started");
        let grandchild = Pid::from_raw(tail[1].parse().unwrap());
        // Its new parent reaps it in its own time.
        let gone = || kill(grandchild, None).is_err() || state_of(grandchild) == Some('Z');
        while !gone() && began.elapsed() < LONG {
            thread::sleep(TICK);
        }
        assert!(gone(), "the grandchild {grandchild} still runs");
    }

    #[test]
    fn a_daemon_that_holds_the_pipes_does_not_hold_us() {
        let began = Instant::now();
        assert_eq!(shell("sleep 7 & echo done", LONG).unwrap(), "done\n");
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }

    #[test]
    fn a_command_that_is_not_there_says_so() {
        let failure = limited(&mut Command::new("/nonexistent/program"), LONG, &mut Line::silent()).unwrap_err();
        assert!(matches!(failure, Failure::NotStarted(_)), "{failure}");
    }

    #[test]
    fn a_command_is_shown_as_typed() {
        let mut command = Command::new("/some/where/cargo");
        command.args(["install", "--features=a,b", "two words", ""]);
        assert_eq!(shown(&command), "cargo install --features=a,b 'two words' ''");
    }

    fn state_of(pid: Pid) -> Option<char> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    }
}
