//! An HTTP server that writes down what is posted to it, with TLS if wanted.

use crate::Must;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{ServerConfig, ServerConnection, StreamOwned, crypto::ring, pki_types::PrivateKeyDer};
use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

/// One POST.
#[derive(Clone, Debug)]
pub struct Posted {
    /// Method, path and version.
    pub line: String,
    /// By their names in small letters.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

/// A server on loopback, until the process ends.
pub struct Hook {
    address: SocketAddr,
    certificate: Option<String>,
    posted: Arc<Mutex<Vec<Posted>>>,
}

impl Hook {
    #[track_caller]
    pub fn http() -> Self {
        Self::start(None)
    }

    /// With a certificate of its own making for `localhost`.
    #[track_caller]
    pub fn https() -> Self {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".into()]).must("no certificate");
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).must("no key");
        let config = ServerConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .must("no TLS versions")
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .must("no TLS server");
        Self::start(Some((Arc::new(config), cert.pem())))
    }

    #[track_caller]
    fn start(tls: Option<(Arc<ServerConfig>, String)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").must("cannot listen on loopback");
        let address = listener.local_addr().must("the address of a listener");
        let (config, certificate) = tls.unzip();
        let posted = Arc::default();
        let book: Arc<Mutex<Vec<Posted>>> = Arc::clone(&posted);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Whoever gives up in the middle has posted nothing.
                let _ = serve(stream, config.clone(), &book);
            }
        });
        Self { address, certificate, posted }
    }

    pub fn url(&self) -> String {
        match self.certificate {
            Some(_) => format!("https://localhost:{}/hook", self.address.port()),
            None => format!("http://{}/hook", self.address),
        }
    }

    /// The certificate as PEM, for those who are to trust it.
    #[track_caller]
    pub fn certificate(&self) -> &str {
        self.certificate.as_deref().must("a server with TLS")
    }

    pub fn posted(&self) -> Vec<Posted> {
        self.posted.lock().must("the book of a hook").clone()
    }
}

fn serve(stream: TcpStream, tls: Option<Arc<ServerConfig>>, book: &Mutex<Vec<Posted>>) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    match tls {
        None => answer(stream, book),
        Some(config) => {
            let connection = ServerConnection::new(config).map_err(io::Error::other)?;
            let mut stream = StreamOwned::new(connection, stream);
            answer(&mut stream, book)?;
            stream.conn.send_close_notify();
            stream.flush()
        }
    }
}

fn answer(stream: impl Read + Write, book: &Mutex<Vec<Posted>>) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut headers = BTreeMap::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    book.lock().must("the book of a hook").push(Posted { line: line.trim_end().to_owned(), headers, body });
    reader.get_mut().write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
}
