//! Plays a script over a real connection, and keeps the book by the answers.

use super::script::{Act, Awaited, Cut, Script, To};
use crate::tally::{Event, Ledger, Tally};
use anyhow::{Context, Result, bail};
use nix::{
    libc::linger,
    sys::socket::{setsockopt, sockopt},
};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct Came {
    pub(super) tally: Tally,
    pub(super) bytes: u64,
    pub(super) surprises: Vec<String>,
}

struct Player {
    stream: TcpStream,
    heard: Vec<u8>,
    ledger: Ledger,
    each: Vec<u16>,
    came: Came,
}

pub(super) fn play(to: SocketAddr, script: &Script, rng: &mut fastrand::Rng) -> Result<Came> {
    let stream = TcpStream::connect(to).with_context(|| format!("cannot connect to {to}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let came = Came { tally: Tally::default(), bytes: 0, surprises: Vec::new() };
    let mut player = Player { stream, heard: Vec::new(), ledger: Ledger::default(), each: Vec::new(), came };
    for (n, act) in script.acts.iter().enumerate() {
        player.act(act, rng).with_context(|| format!("act {n} of {:?}: {act:.300?}", script.names))?;
    }
    player.ledger.note(&Event::End);
    player.came.tally = player.ledger.tally();
    Ok(player.came)
}

impl Player {
    fn act(&mut self, act: &Act, rng: &mut fastrand::Rng) -> Result<()> {
        match act {
            Act::Say { bytes, cut, awaited } => {
                self.write(bytes, *cut, rng)?;
                for awaited in awaited {
                    self.hear(*awaited)?;
                }
            }
            Act::SayAndLeave { bytes, awaited } => {
                self.write(bytes, Cut::Whole, rng)?;
                let end = Instant::now() + PATIENCE;
                let mut peeked = [0; 512];
                let code = loop {
                    let count = self.stream.peek(&mut peeked)?;
                    if let Some((code, _)) = reply(&peeked[..count]) {
                        break code;
                    }
                    if Instant::now() > end {
                        bail!("no answer to be seen");
                    }
                    thread::sleep(Duration::from_millis(1));
                };
                self.note(*awaited, code);
                self.leave(true)?;
            }
            Act::HearTheEnd { bytes } => {
                // The server may close before it has heard all of it, and while it says something.
                let _ = self.write(bytes, Cut::Bytes, rng);
                let mut rest = Vec::new();
                let _ = self.stream.read_to_end(&mut rest);
            }
            Act::Leave { reset } => self.leave(*reset)?,
        }
        Ok(())
    }

    fn leave(&mut self, reset: bool) -> Result<()> {
        if reset {
            setsockopt(&self.stream, sockopt::Linger, &linger { l_onoff: 1, l_linger: 0 })?;
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8], cut: Cut, rng: &mut fastrand::Rng) -> Result<()> {
        self.came.bytes += bytes.len() as u64;
        let mut rest = bytes;
        while !rest.is_empty() {
            let count = match cut {
                Cut::Whole => rest.len(),
                Cut::Bytes => 1,
                Cut::Random(most) => rng.usize(1..=most).min(rest.len()),
            };
            self.stream.write_all(&rest[..count])?;
            rest = &rest[count..];
        }
        Ok(())
    }

    /// Waits for an answer, unless none will come.
    fn hear(&mut self, awaited: Awaited) -> Result<()> {
        if awaited.to == To::Sent {
            self.ledger.note(&Event::LastChunk);
            return Ok(());
        }
        if awaited.code == 0 {
            return Ok(());
        }
        loop {
            if let Some((code, length)) = reply(&self.heard) {
                self.heard.drain(..length);
                self.note(awaited, code);
                return Ok(());
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer).with_context(|| format!("no {awaited:?}"))? {
                0 => bail!("the server has closed instead of {awaited:?}"),
                count => self.heard.extend_from_slice(&buffer[..count]),
            }
        }
    }

    fn note(&mut self, awaited: Awaited, code: u16) {
        if code != awaited.code {
            self.came.surprises.push(format!("{code} instead of {awaited:?}"));
        }
        let event = match awaited.to {
            To::Other | To::Sent => return,
            To::Each => return self.each.push(code),
            To::LastOfEach => {
                self.each.push(code);
                Event::MessageForEach(std::mem::take(&mut self.each))
            }
            To::Reset => Event::Reset,
            To::Mail => Event::Mail(code),
            To::Rcpt => Event::Rcpt(code),
            To::Data => Event::Data(code),
            To::Chunk => Event::Chunk(code),
            To::Message => Event::Message(code),
            To::StartTls => Event::Encrypted,
        };
        self.ledger.note(&event);
    }
}

/// The code of the first whole answer in these bytes, and its length.
pub(crate) fn reply(bytes: &[u8]) -> Option<(u16, usize)> {
    let mut length = 0;
    for line in bytes.split_inclusive(|&byte| byte == b'\n').take_while(|line| line.ends_with(b"\n")) {
        length += line.len();
        if line.get(3) != Some(&b'-') {
            let code = std::str::from_utf8(line.get(..3)?).ok()?.parse().ok()?;
            return Some((code, length));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_with_its_last_line() {
        assert_eq!(reply(b"250-a\r\n550 b\r\n250 c"), Some((550, 14)));
        assert_eq!(reply(b"250-a\r\n250"), None);
        assert_eq!(reply(b""), None);
    }
}
