//! HTTP: a POST with a time limit, and the signature of webhooks.

use std::{
    io::Read,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
    sync::Arc,
    time::Duration,
};

use ring::hmac;
use rustls::crypto::ring::default_provider;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::{accounts::label::printable, notify::now};

const CONNECT: Duration = Duration::from_secs(5);
const WHOLE: Duration = Duration::from_secs(15);
/// What is read of an answer that says no.
const LONGEST_ANSWER: u64 = 4096;

/// A secret that can be guessed signs nothing.
const SHORTEST_SECRET: usize = 16;
const LONGEST_SECRET: u64 = 4096;
pub(super) const SECRET_HINT: &str = "make it with: (umask 077; openssl rand -hex 32 > FILE)";

/// Delivers JSON, signed where there is a secret. The receiver computes HMAC-SHA256 over `TIMESTAMP.BODY`.
pub(super) fn hook(url: &str, secret_file: Option<&Path>, id: &str, body: &[u8]) -> Result<(), String> {
    let timestamp = now().to_string();
    let mut headers = vec![("X-Smtp-Agent-Delivery", id.to_owned()), ("X-Smtp-Agent-Timestamp", timestamp.clone())];
    if let Some(file) = secret_file {
        headers.push(("X-Smtp-Agent-Signature", signature(&secret(file)?, &timestamp, body)));
    }
    post(url, &headers, body)
}

fn signature(secret: &[u8], timestamp: &str, body: &[u8]) -> String {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret));
    context.update(timestamp.as_bytes());
    context.update(b".");
    context.update(body);
    let hex: String = context.sign().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("v1={hex}")
}

/// The secret in a file that nobody else can read, read anew each time: it may have been replaced.
pub(super) fn secret(path: &Path) -> Result<Vec<u8>, String> {
    let shown = path.display();
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .map_err(|e| format!("secret_file {shown}: {e}"))?;
    let found = file.metadata().map_err(|e| format!("secret_file {shown}: {e}"))?;
    if !found.is_file() {
        return Err(format!("secret_file {shown} is not a regular file"));
    }
    if found.mode() & 0o077 != 0 {
        let mode = found.mode() & 0o7777;
        return Err(format!("secret_file {shown} is open to others (mode {mode:04o}): run chmod 600 {shown}"));
    }
    if found.uid() != 0 && found.uid() != nix::unistd::geteuid().as_raw() {
        return Err(format!("secret_file {shown} belongs to uid {}: run chown root {shown}", found.uid()));
    }
    let mut secret = Vec::new();
    file.take(LONGEST_SECRET + 1).read_to_end(&mut secret).map_err(|e| format!("secret_file {shown}: {e}"))?;
    while secret.last().is_some_and(|byte| b"\r\n".contains(byte)) {
        secret.pop();
    }
    if secret.len() < SHORTEST_SECRET || secret.len() as u64 > LONGEST_SECRET {
        let length = secret.len();
        return Err(format!(
            "secret_file {shown} holds {length} bytes: a secret has from {SHORTEST_SECRET} to {LONGEST_SECRET}"
        ));
    }
    Ok(secret)
}

/// A POST of JSON that is well answered (2xx). Nobody is followed elsewhere: the body is for this URL.
pub(super) fn post(url: &str, headers: &[(&str, String)], body: &[u8]) -> Result<(), String> {
    let mut config = ureq::Agent::config_builder()
        .timeout_connect(Some(CONNECT))
        .timeout_global(Some(WHOLE))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .max_idle_connections(0)
        // The configuration says where notices go, and not the environment.
        .proxy(None)
        .user_agent(concat!("smtp-agent/", env!("CARGO_PKG_VERSION")));
    if url.starts_with("https:") {
        config = config.tls_config(tls()?);
    }
    let agent: ureq::Agent = config.build().into();
    let mut request = agent.post(url).header("Content-Type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let mut answer = request.send(body).map_err(|e| format!("{}: {e}", without_query(url)))?;
    if answer.status().is_success() {
        return Ok(());
    }
    let mut said = Vec::new();
    // What was read before an error is what it says.
    let _ = answer.body_mut().as_reader().take(LONGEST_ANSWER).read_to_end(&mut said);
    let first = said.split(|byte| *byte == b'\n').find(|line| !line.trim_ascii().is_empty()).unwrap_or_default();
    let first: String = printable(first).chars().take(200).collect();
    let said = if first.is_empty() { first } else { format!(": {first}") };
    Err(format!("{}: answered {}{said}", without_query(url), answer.status()))
}

/// The host's own certificates, as they are now.
fn tls() -> Result<TlsConfig, String> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let why = found.errors.first().map(|e| format!(" ({e})")).unwrap_or_default();
        return Err(format!("this host has no certificates to trust{why}: install ca-certificates"));
    }
    let certificates = found.certs.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(certificates)))
        .unversioned_rustls_crypto_provider(Arc::new(default_provider()))
        .build())
}

/// Tokens of webhooks stand in the query or in the path: neither belongs into a log.
fn without_query(url: &str) -> String {
    let end = url.match_indices('/').nth(2).map_or(url.len(), |(at, _)| at);
    url[..end].split('?').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt};

    #[test]
    fn the_signature_is_that_of_other_implementations() {
        // printf '1790000000.{"a":1}' | openssl dgst -sha256 -hmac 0123456789abcdef0123456789abcdef
        let wanted = "v1=f4346a65c05b64dd6b51506d8bb57787fd3805be72b2212c4b3b6e27d36316eb";
        assert_eq!(signature(b"0123456789abcdef0123456789abcdef", "1790000000", b"{\"a\":1}"), wanted);
    }

    #[test]
    fn a_secret_that_others_could_know_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let with = |text: &str, mode: u32| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            secret(&path)
        };
        assert_eq!(with("0123456789abcdef\r\n", 0o600).unwrap(), b"0123456789abcdef");
        for (text, mode, said) in [
            ("0123456789abcdef", 0o640, "is open to others (mode 0640): run chmod 600 "),
            ("0123456789abcdef", 0o604, "(mode 0604)"),
            ("short\n", 0o600, "holds 5 bytes: a secret has from 16 to 4096"),
            ("", 0o400, "holds 0 bytes"),
            (&"x".repeat(5000), 0o600, "holds 4097 bytes"),
        ] {
            let fault = with(text, mode).unwrap_err();
            assert!(fault.contains(said), "{fault}");
        }
        fs::remove_file(&path).unwrap();
        assert!(secret(&path).unwrap_err().contains("No such file"));
        std::os::unix::fs::symlink("/etc/hostname", &path).unwrap();
        assert!(secret(&path).is_err(), "a link is not followed");
        assert!(secret(dir.path()).unwrap_err().contains("not a regular file"));
    }

    #[test]
    fn what_is_logged_of_a_url_is_whom_it_reaches() {
        for (url, shown) in [
            ("https://hooks.example.org/T000/B000/secret?x=y", "https://hooks.example.org"),
            ("https://hooks.example.org?token=x", "https://hooks.example.org"),
            ("http://127.0.0.1:9093", "http://127.0.0.1:9093"),
        ] {
            assert_eq!(without_query(url), shown);
        }
    }
}
