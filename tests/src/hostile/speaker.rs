//! Writes a script, line by line: in a hostile spelling, and in groups that are cut somehow.

use super::script::{Act, Awaited, Cut, Script, To};
use crate::tally::Outcomes;
use fastrand::Rng;

pub(super) struct Speaker<'a> {
    pub(super) rng: &'a mut Rng,
    pub(super) script: Script,
    pub(super) lmtp: bool,
    /// BDAT is understood.
    pub(super) chunking: bool,
    group: Vec<u8>,
    awaited: Vec<Awaited>,
    /// One in so many lines is waited for, the others go out with the next.
    patience: u32,
}

impl<'a> Speaker<'a> {
    pub(super) fn new(rng: &'a mut Rng, lmtp: bool) -> Self {
        let mut script = Script::default();
        script.intended.sessions = 1;
        let mut new = Self { rng, script, lmtp, chunking: false, group: Vec::new(), awaited: Vec::new(), patience: 1 };
        // The greeting answers nothing.
        new.expect(To::Other, 220);
        new.flush();
        new
    }

    pub(super) fn scene(&mut self, name: &'static str) {
        self.script.names.push(name);
        self.patience = if self.rng.bool() { 1 } else { self.rng.u32(2..1000) };
    }

    pub(super) fn one_in(&mut self, n: u32) -> bool {
        self.rng.u32(0..n) == 0
    }

    pub(super) fn choose<T: Copy>(&mut self, among: &[T]) -> T {
        among[self.rng.usize(..among.len())]
    }

    /// A command in some spelling, whose answer will have this code.
    pub(super) fn command(&mut self, verb: &str, rest: &str, to: To, code: u16) {
        let line = self.spelled(verb, rest);
        self.raw(line.as_bytes());
        self.expect(to, code);
        if self.one_in(self.patience) {
            self.flush();
        }
    }

    /// The same for one that has to be answered before anything else is said.
    pub(super) fn command_alone(&mut self, verb: &str, rest: &str, to: To, code: u16) {
        self.command(verb, rest, to, code);
        self.flush();
    }

    pub(super) fn expect(&mut self, to: To, code: u16) {
        self.awaited.push(Awaited { to, code });
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.group.extend_from_slice(bytes);
    }

    /// Says what there is to be said, and waits for the answers.
    pub(super) fn flush(&mut self) {
        let (bytes, awaited) = (std::mem::take(&mut self.group), std::mem::take(&mut self.awaited));
        let cut = match (self.rng.u32(0..4), bytes.len()) {
            (0, _) => Cut::Whole,
            (1, ..2000) => Cut::Bytes,
            (_, ..2000) => Cut::Random(9),
            _ => Cut::Random(70_000),
        };
        if !(bytes.is_empty() && awaited.is_empty()) {
            self.script.acts.push(Act::Say { bytes, cut, awaited });
        }
    }

    /// Says this last, and leaves when the answer can be read.
    pub(super) fn say_and_leave(&mut self, bytes: &[u8], to: To, code: u16) {
        self.flush();
        self.script.acts.push(Act::SayAndLeave { bytes: bytes.to_vec(), awaited: Awaited { to, code } });
    }

    pub(super) fn act(&mut self, act: Act) {
        self.flush();
        self.script.acts.push(act);
    }

    pub(super) fn messages(&mut self) -> &mut Outcomes {
        &mut self.script.intended.messages
    }

    /// Any case, blanks before it, a line end of either kind, and a lone CR or a NUL where nobody looks.
    pub(super) fn spelled(&mut self, verb: &str, rest: &str) -> String {
        let rng = &mut self.rng;
        let verb: String =
            verb.chars().map(|c| if rng.bool() { c.to_ascii_lowercase() } else { c.to_ascii_uppercase() }).collect();
        let blanks = ["", "", " ", "\t", "  \t "][rng.usize(..5)];
        let gap = if rest.is_empty() { "" } else { [" ", " ", "\t", "  "][rng.usize(..4)] };
        let extra = match (verb.to_ascii_uppercase().as_str(), rng.u32(0..6)) {
            ("MAIL" | "RCPT", 0) => " X=\rDATA",
            ("MAIL" | "RCPT", 1) => " X=\0\0",
            ("NOOP" | "RSET", 2) => " \r.\rRCPT TO:<a@far.test>\r\0",
            _ => "",
        };
        let end = if rng.u32(0..3) == 0 { "\n" } else { "\r\n" };
        format!("{blanks}{verb}{gap}{rest}{extra}{end}")
    }
}
