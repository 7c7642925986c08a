//! A server on loopback that answers as a test says, and keeps every line it has heard.

use std::{
    io::{BufRead, BufReader, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// What a server is asked to answer to.
pub(super) struct Asked<'a> {
    /// Counted from 0.
    pub(super) connection: usize,
    /// Commands before this one on the connection.
    pub(super) number: usize,
    /// Empty for the greeting.
    pub(super) line: &'a str,
}

impl Asked<'_> {
    /// The address in the command.
    pub(super) fn path(&self) -> &str {
        let inner = self.line.split_once('<').map_or("", |(_, rest)| rest);
        inner.strip_suffix('>').unwrap_or(inner)
    }

    pub(super) fn is(&self, verb: &str) -> bool {
        self.line.starts_with(verb)
    }
}

pub(super) enum Act {
    /// Octets as they are.
    Say(String),
    SayAndClose(String),
    Close,
    Silence,
    /// One octet each so often, for ever.
    Drip(&'static str, Duration),
    /// The same over and over, as fast as it goes.
    Flood(&'static str),
}

pub(super) fn say(text: &str) -> Act {
    Act::Say(format!("{text}\r\n"))
}

pub(super) struct Server {
    pub(super) address: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
    connections: Arc<Mutex<usize>>,
    over: Arc<AtomicBool>,
}

impl Server {
    pub(super) fn new(answer: impl Fn(&Asked) -> Act + Send + Sync + 'static) -> Self {
        Self::at("127.0.0.1:0", answer)
    }

    pub(super) fn at(place: &str, answer: impl Fn(&Asked) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(place).expect("a port on loopback");
        let server = Self {
            address: listener.local_addr().expect("its address"),
            heard: Arc::default(),
            connections: Arc::default(),
            over: Arc::default(),
        };
        let (heard, connections, over) = (server.heard.clone(), server.connections.clone(), server.over.clone());
        let answer = Arc::new(answer);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let connection = {
                    let mut count = connections.lock().expect("no panic in another thread");
                    *count += 1;
                    *count - 1
                };
                let (heard, over, answer) = (heard.clone(), over.clone(), answer.clone());
                thread::spawn(move || serve(connection, stream, &heard, &over, &*answer));
            }
        });
        server
    }

    /// One that behaves, but for what the test says of recipients.
    pub(super) fn obedient(recipient: impl Fn(&str) -> &'static str + Send + Sync + 'static) -> Self {
        Self::new(move |asked| match asked {
            asked if asked.is("RCPT") => say(recipient(asked.path())),
            asked => usual(asked),
        })
    }

    pub(super) fn heard(&self) -> Vec<String> {
        self.heard.lock().expect("no panic in another thread").clone()
    }

    pub(super) fn connections(&self) -> usize {
        *self.connections.lock().expect("no panic in another thread")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // Wakes the listener up, which then ends.
        let _ = TcpStream::connect(self.address);
    }
}

/// What a well-mannered server answers to everything but RCPT.
pub(super) fn usual(asked: &Asked) -> Act {
    match asked.line.split([' ', ':']).next().unwrap_or_default() {
        "" => say("220 mx.server.example ESMTP"),
        "EHLO" => Act::Say("250-mx.server.example\r\n250-PIPELINING\r\n250 SIZE 1000\r\n".to_owned()),
        "QUIT" => Act::SayAndClose("221 bye\r\n".to_owned()),
        _ => say("250 2.0.0 Ok"),
    }
}

fn serve(
    connection: usize,
    mut stream: TcpStream,
    heard: &Mutex<Vec<String>>,
    over: &AtomicBool,
    answer: &dyn Fn(&Asked) -> Act,
) {
    let Ok(copy) = stream.try_clone() else { return };
    let mut lines = BufReader::new(copy).lines();
    let mut line = String::new();
    for number in 0.. {
        match answer(&Asked { connection, number, line: &line }) {
            Act::Say(text) => {
                if stream.write_all(text.as_bytes()).is_err() {
                    return;
                }
            }
            Act::SayAndClose(text) => {
                let _ = stream.write_all(text.as_bytes());
                return;
            }
            Act::Close => {
                let _ = stream.shutdown(Shutdown::Both);
                return;
            }
            Act::Silence => {}
            Act::Drip(text, pause) => {
                while !over.load(Ordering::Relaxed) && stream.write_all(text.as_bytes()).is_ok() {
                    thread::sleep(pause);
                }
                return;
            }
            Act::Flood(text) => {
                let block = text.repeat(200);
                while !over.load(Ordering::Relaxed) && stream.write_all(block.as_bytes()).is_ok() {}
                return;
            }
        }
        let Some(Ok(next)) = lines.next() else { return };
        heard.lock().expect("no panic in another thread").push(next.clone());
        line = next;
    }
}
