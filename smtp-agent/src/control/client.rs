//! A command's end of the control socket.

use std::{
    io::{BufRead, BufReader, ErrorKind, Write},
    os::unix::net::UnixStream,
    path::Path,
};

use super::{Answer, Request, SOCKET};
use crate::exit::{Code, Failure, Result};

/// A connection on which a request was sent.
pub struct Connection {
    lines: BufReader<UnixStream>,
}

/// Sends a request to the agent whose run directory this is.
pub fn send(run: &Path, request: &Request) -> Result<Connection> {
    let line = request.line().map_err(Failure::config)?;
    let path = run.join(SOCKET);
    let mut stream = UnixStream::connect(&path).map_err(|e| match e.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => Failure::unavailable(format!(
            "no smtp-agent listens on {path:?}; start it with `smtp-agent run`. The gate itself may still stand: see `smtp-agent status`"
        )),
        _ => Failure::from_io(&e, format!("the control socket {path:?} cannot be reached")),
    })?;
    match stream.write_all(line.as_bytes()) {
        // Whom the agent does not listen to it tells so without reading.
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(Failure::from_io(&e, "the agent does not take the request")),
        _ => Ok(Connection { lines: BufReader::new(stream) }),
    }
}

/// Sends a request and waits for its one answer.
pub fn ask(run: &Path, request: &Request) -> Result<Answer> {
    send(run, request).and_then(|mut agent| agent.answer())
}

/// An answer to something that was not asked.
pub fn unexpected<T>() -> Result<T> {
    Err(Failure::unavailable("the agent answered something else than was asked"))
}

impl Connection {
    /// The next line, without its end; `None` when the agent has closed the connection.
    pub fn line(&mut self) -> Result<Option<String>> {
        let mut line = String::new();
        let read =
            self.lines.read_line(&mut line).map_err(|e| Failure::from_io(&e, "the agent's answer cannot be read"))?;
        Ok((read > 0).then(|| line.trim_end().to_owned()))
    }

    /// The agent's answer; one that says it failed becomes that failure.
    pub fn answer(&mut self) -> Result<Answer> {
        let line =
            self.line()?.ok_or_else(|| Failure::unavailable("the agent closed the connection without an answer"))?;
        match serde_json::from_str(&line) {
            Ok(Answer::Failed { code, message }) => {
                let code = [Code::Usage, Code::NotPermitted, Code::No].into_iter().find(|c| *c as u8 == code);
                Err(Failure::new(code.unwrap_or(Code::Unavailable), message))
            }
            Ok(answer) => Ok(answer),
            Err(_) => Err(Failure::unavailable(
                "the agent answers in a way this smtp-agent does not understand; are both of the same version?",
            )),
        }
    }
}
