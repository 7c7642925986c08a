//! The agent as a child: started, waited for, shown, and ended in order.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;

use super::config::PrivateConfig;
use crate::interrupt;
use crate::process::{end, limited, shown};
use crate::progress::Line;

/// From its start until `/-/ready` says yes.
const READY: Duration = Duration::from_secs(30);
/// From SIGTERM until it is killed.
const DRAIN: Duration = Duration::from_secs(15);
const DETACH: Duration = Duration::from_secs(30);
const TICK: Duration = Duration::from_millis(100);
/// How much of its log is shown when it dies.
const SHOWN_LINES: usize = 20;

pub(super) struct Agent {
    binary: PathBuf,
    config: PrivateConfig,
}

impl Agent {
    pub(super) fn new(binary: PathBuf, config: PrivateConfig) -> Self {
        Self { binary, config }
    }

    /// A run that was killed may have left its programs in the kernel.
    pub(super) fn clear_leftovers(&self) -> Result<()> {
        if self.config.pins.exists() { self.detach() } else { Ok(()) }
    }

    /// Starts the agent and shows its live connections until Ctrl-C, or until one of the two dies.
    pub(super) fn watch(&self, arguments: &[OsString]) -> Result<()> {
        let log = File::create(self.log()).with_context(|| format!("cannot create {}", self.log().display()))?;
        // Groups of their own: the terminal's Ctrl-C is ours, and we end them in order.
        let mut agent = self
            .command("run")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", self.binary.display()))?;
        let outcome = self.show(&mut agent);
        let died = agent.try_wait()?;
        end(&mut agent, Signal::SIGTERM, DRAIN)?;
        match died {
            None => outcome,
            Some(status) => bail!("the agent ended by itself ({status}); its last words:\n{}", self.last_words()),
        }
    }

    fn show(&self, agent: &mut Child) -> Result<()> {
        if !self.is_ready_in_time(agent)? {
            return Ok(());
        }
        let listen = self.config.listen;
        eprintln!("the agent observes this host (it counts what it would refuse, and refuses nothing)");
        eprintln!("  for people http://{listen}/");
        eprintln!("  metrics    http://{listen}/metrics");
        eprintln!("  its log    {}", self.log().display());
        eprintln!("  its config {}", self.config.path.display());
        eprintln!("live connections follow; Ctrl-C ends all of it and takes everything out of the kernel again");
        let mut command = self.command("events");
        let mut events = command.stdin(Stdio::null()).process_group(0).spawn().context("cannot start `events`")?;
        let ended = loop {
            if interrupt::received().is_some() || agent.try_wait()?.is_some() {
                break None;
            }
            if let Some(status) = events.try_wait()? {
                break Some(status);
            }
            thread::sleep(TICK);
        };
        end(&mut events, Signal::SIGINT, Duration::from_secs(3))?;
        match ended {
            Some(status) if !status.success() => bail!("{} failed ({status})", shown(&command)),
            _ => Ok(()),
        }
    }

    /// False when Ctrl-C or the agent's death came first.
    fn is_ready_in_time(&self, agent: &mut Child) -> Result<bool> {
        let began = Instant::now();
        while began.elapsed() < READY {
            if interrupt::received().is_some() || agent.try_wait()?.is_some() {
                return Ok(false);
            }
            if self.is_ready().unwrap_or(false) {
                return Ok(true);
            }
            thread::sleep(TICK);
        }
        bail!("the agent was not ready after {} s; its last words:\n{}", READY.as_secs(), self.last_words())
    }

    fn is_ready(&self) -> io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&self.config.listen, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        write!(stream, "GET /-/ready HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.config.listen)?;
        let mut answer = String::new();
        stream.take(1024).read_to_string(&mut answer)?;
        Ok(answer.split(' ').nth(1) == Some("200"))
    }

    /// Takes programs, pins and state away. Pins that the agent cannot remove are removed for it.
    pub(super) fn detach(&self) -> Result<()> {
        let mut command = self.command("detach");
        let mut line = Line::begin("detach");
        line.doing("taking the programs out of the kernel");
        let outcome = limited(&mut command, DETACH, &mut line);
        if self.config.pins.exists() {
            fs::remove_dir_all(&self.config.pins).with_context(|| {
                format!("cannot remove {}: remove it by hand to end the observation", self.config.pins.display())
            })?;
        }
        for directory in self.config.transient() {
            if directory.exists() {
                fs::remove_dir_all(&directory).with_context(|| format!("cannot remove {}", directory.display()))?;
            }
        }
        match outcome {
            Ok(_) => line.end("done", "nothing of it is left in the kernel"),
            // The last pin's removal ends the program, so the kernel is clean all the same; but detach has a fault.
            Err(failure) => bail!("{}: {failure}\n  its pins were removed for it", shown(&command)),
        }
        Ok(())
    }

    fn command(&self, what: &str) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("--config").arg(&self.config.path).arg(what);
        command
    }

    fn log(&self) -> PathBuf {
        self.config.directory.join("agent.log")
    }

    fn last_words(&self) -> String {
        let text = fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
        if last.is_empty() { "  (none)".to_owned() } else { last.iter().map(|line| format!("  {line}\n")).collect() }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::path::Path;

    use super::*;

    /// A script in the agent's place, which notes how it is called and how it ends, and a server that is always ready.
    fn fake(directory: &Path, run: &str, events: &str) -> Agent {
        let notes = directory.join("notes");
        let script = format!(
            "#!/bin/sh\necho \"$3\" >>{notes}\ncase $3 in\nrun) {run};;\nevents) {events};;\nesac\n",
            notes = notes.display()
        );
        let binary = directory.join("agent");
        let text = directory.join("agent.sh");
        fs::write(&text, script).unwrap();
        // By another process: a descriptor of ours, open for writing, could leak into a child of another test's
        // thread for a moment, and the script then be "busy" (ETXTBSY).
        assert!(Command::new("install").args(["-m", "755"]).args([&text, &binary]).status().unwrap().success());

        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = server.local_addr().unwrap();
        thread::spawn(move || {
            for stream in server.incoming().flatten() {
                let mut request = [0; 512];
                let _ = (&stream).read(&mut request);
                let _ = (&stream).write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
            }
        });
        let packaged = directory.join("packaged.toml");
        fs::write(&packaged, "").unwrap();
        let pins = directory.join("pins");
        let config = PrivateConfig::write(&packaged, &directory.join("run"), &pins, listen).unwrap();
        Agent::new(binary, config)
    }

    fn notes(directory: &Path) -> String {
        fs::read_to_string(directory.join("notes")).unwrap()
    }

    #[test]
    fn when_events_end_the_agent_is_ended_and_detach_leaves_nothing() {
        let home = tempfile::tempdir().unwrap();
        let run =
            format!("trap 'echo ended >>{}/notes; exit 0' TERM; while :; do sleep 0.05; done", home.path().display());
        let agent = fake(home.path(), &run, "sleep 0.5");
        let state = home.path().join("run/state");
        fs::create_dir_all(&state).unwrap();
        fs::create_dir(home.path().join("pins")).unwrap();

        agent.watch(&[]).unwrap();
        assert_eq!(notes(home.path()), "run\nevents\nended\n");
        agent.detach().unwrap();
        assert_eq!(notes(home.path()), "run\nevents\nended\ndetach\n");
        assert!(!home.path().join("pins").exists() && !state.exists());
    }

    #[test]
    fn an_agent_that_dies_is_reported_with_its_last_words() {
        let home = tempfile::tempdir().unwrap();
        let agent = fake(home.path(), "echo no BPF here >&2; exit 69", "sleep 60");
        let error = agent.watch(&[]).unwrap_err().to_string();
        assert!(error.contains("exit status: 69") && error.contains("no BPF here"), "{error}");
    }
}
