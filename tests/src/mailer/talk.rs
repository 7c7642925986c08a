//! A conversation that a test leads, said and heard by a process of its own.

use super::{Plan, wire::Wire};
use crate::{Must, Netns, process::Running};
use anyhow::{Context, Result};
use nix::{
    libc::linger,
    sys::socket::{MsgFlags, send, setsockopt, sockopt},
};
use serde::{Deserialize, Serialize};
use std::{
    io::{BufRead, BufReader, Write},
    os::fd::AsRawFd,
    process::{ChildStdin, ChildStdout, Command, Stdio},
    time::Instant,
};

/// One step of a conversation, all parts of which are left out or done in this order.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Step {
    connect: bool,
    say: String,
    /// The last byte is urgent (RFC 9293, 3.8.5), and not part of the stream to most.
    urgent: bool,
    /// Answers to wait for.
    hear: usize,
    /// Whether to wait for the other side's end.
    hear_the_end: bool,
    /// With a reset?
    leave: Option<bool>,
}

/// What came of it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Heard {
    /// Of each answer.
    pub codes: Vec<u16>,
    /// How the connection ended, if it did: an error's name, "EOF" or "silence".
    pub end: Option<String>,
    /// Milliseconds that the step has taken.
    pub took: u64,
}

/// A process that says what it is told to. Dropping it ends it.
pub struct Talk {
    process: Running,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    _ns: Option<Netns>,
}

impl Talk {
    #[track_caller]
    pub(super) fn start(command: &mut Command, ns: Option<Netns>) -> Self {
        let mut process = Running::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
        let stdin = process.child().stdin.take();
        let stdout = process.child().stdout.take().must("smtp-mailer has no standard output");
        Self { process, stdin, stdout: BufReader::new(stdout), _ns: ns }
    }

    pub fn pid(&self) -> i32 {
        self.process.pid().as_raw()
    }

    /// Connects and hears the greeting.
    #[track_caller]
    pub fn connect(&mut self) -> Heard {
        self.step(&Step { connect: true, hear: 1, ..Step::default() })
    }

    /// Connects, greets, and fails the test unless both are answered well.
    #[track_caller]
    pub fn greet(&mut self) {
        let (one, other) = (self.connect(), self.say("EHLO client.test\r\n", 1));
        assert_eq!((one.codes.as_slice(), other.codes.as_slice()), (&[220][..], &[250][..]), "{one:?} {other:?}");
    }

    /// Only connects.
    #[track_caller]
    pub fn dial(&mut self) -> Heard {
        self.step(&Step { connect: true, ..Step::default() })
    }

    /// Says this in one write, and waits for so many answers.
    #[track_caller]
    pub fn say(&mut self, text: &str, answers: usize) -> Heard {
        self.step(&Step { say: text.into(), hear: answers, ..Step::default() })
    }

    /// Says this with its last byte as urgent data, which servers do not read.
    #[track_caller]
    pub fn urge(&mut self, text: &str) -> Heard {
        self.step(&Step { say: text.into(), urgent: true, ..Step::default() })
    }

    /// Says this, and waits until the connection has ended.
    #[track_caller]
    pub fn say_to_the_end(&mut self, text: &str) -> Heard {
        self.step(&Step { say: text.into(), hear_the_end: true, ..Step::default() })
    }

    /// One message in six steps; the codes of all its answers.
    #[track_caller]
    pub fn message(&mut self) -> Heard {
        let mut all = Heard::default();
        for text in
            ["MAIL FROM:<shop@client.test>", "RCPT TO:<you@far.test>", "DATA", "Subject: a test\r\n\r\nhello\r\n."]
        {
            let heard = self.say(&format!("{text}\r\n"), 1);
            all.codes.extend(heard.codes);
            all.took = heard.took;
            if heard.end.is_some() {
                return Heard { end: heard.end, ..all };
            }
        }
        all
    }

    #[track_caller]
    pub fn close(&mut self) {
        self.step(&Step { leave: Some(false), ..Step::default() });
    }

    /// Closes with RST instead of FIN.
    #[track_caller]
    pub fn reset(&mut self) {
        self.step(&Step { leave: Some(true), ..Step::default() });
    }

    #[track_caller]
    fn step(&mut self, step: &Step) -> Heard {
        let line = serde_json::to_string(step).must("a step is JSON") + "\n";
        self.stdin.as_mut().must("it has a standard input").write_all(line.as_bytes()).must("smtp-mailer has ended");
        let mut answer = String::new();
        self.stdout.read_line(&mut answer).must("cannot read what smtp-mailer prints");
        serde_json::from_str(&answer).must(format_args!("smtp-mailer printed {answer:?}"))
    }
}

/// The inside of such a process: does what the lines say, until there are no more.
pub(super) fn lead(plan: &Plan) -> Result<()> {
    let mut open: Option<Wire> = None;
    for line in std::io::stdin().lines() {
        let step: Step = serde_json::from_str(&line?).context("not a step")?;
        let begin = Instant::now();
        let mut heard = Heard::default();
        if let Err(end) = act(plan, &step, &mut open, &mut heard.codes) {
            heard.end = Some(end);
            // What was cut may be begun again; what is only silent goes on.
            if heard.end.as_deref() != Some("silence") {
                open = None;
            }
        }
        heard.took = begin.elapsed().as_millis() as u64;
        println!("{}", serde_json::to_string(&heard)?);
    }
    Ok(())
}

fn act(plan: &Plan, step: &Step, open: &mut Option<Wire>, codes: &mut Vec<u16>) -> Result<(), String> {
    if step.connect {
        *open = Some(Wire::to(plan)?);
    }
    let wire = open.as_mut().ok_or("not connected")?;
    if step.urgent {
        send(wire.stream.as_raw_fd(), step.say.as_bytes(), MsgFlags::MSG_OOB).map_err(|error| format!("{error:?}"))?;
    } else if !step.say.is_empty() {
        wire.say(step.say.as_bytes()).map_err(|cut| cut.name)?;
    }
    while codes.len() < step.hear || step.hear_the_end {
        codes.push(wire.hear().map_err(|cut| cut.name)?);
    }
    if let Some(with_reset) = step.leave {
        let linger = linger { l_onoff: i32::from(with_reset), l_linger: 0 };
        setsockopt(&wire.stream, sockopt::Linger, &linger).map_err(|error| error.to_string())?;
        *open = None;
    }
    Ok(())
}
