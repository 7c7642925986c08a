//! Sinks over HTTP against a server that writes down what it is sent, and what the host lacks for others.

use super::*;
use crate::config;
use serde_json::Value;
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
};

struct Request {
    line: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map_or_else(|| panic!("no {name} in {:?}", self.headers), |(_, value)| value)
    }
}

/// A server that answers one request.
fn serve(answer: &'static str) -> (String, thread::JoinHandle<Request>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let mut headers = Vec::new();
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).unwrap();
            let Some((name, value)) = header.trim_end().split_once(": ") else { break };
            headers.push((name.to_owned(), value.to_owned()));
        }
        let length = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let mut body = vec![0; length.map_or(0, |(_, length)| length.parse().unwrap())];
        reader.read_exact(&mut body).unwrap();
        stream.write_all(answer.as_bytes()).unwrap();
        Request { line: line.trim_end().to_owned(), headers, body }
    });
    (url, server)
}

const OK: &str = "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";

fn notify(text: &str) -> Notify {
    config::parse_str("test", text).unwrap_or_else(|problems| panic!("{problems}")).config.notify
}

fn message(notices: Vec<Notice>) -> Message {
    let (id, host) = ("6ab-1-1".to_owned(), "web1".to_owned());
    Message { id, host, time: 1_790_000_000, notices, repeated: 3, over_rate: 0, left_out: 0 }
}

fn tell(text: &str, message: &Message) -> Result<(), String> {
    deliver(&notify(text).sinks[0], message, Duration::from_secs(3600))
}

fn limit(account: &str) -> Notice {
    Notice { limit: Some(100), ..Notice::new(Kind::HardLimit, account, 1_790_000_000) }
}

#[test]
fn a_webhook_is_given_json_that_its_signature_fits() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    let mut options = fs::OpenOptions::new();
    let mut secret = options.write(true).create_new(true).mode(0o600).open(&file).unwrap();
    secret.write_all(b"0123456789abcdef0123456789abcdef\n").unwrap();
    let (url, server) = serve(OK);
    let text = format!(
        "[[notify.webhook]]\nurl = '{url}/hook?a=b'\nsecret_file = '{}'\nsubject = 'S {{account}}'\nbody = 'B {{limit}}'\n",
        file.display()
    );
    tell(&text, &message(vec![limit("shop")])).unwrap();
    let request = server.join().unwrap();
    assert_eq!(request.line, "POST /hook?a=b HTTP/1.1");
    assert_eq!(request.header("content-type"), "application/json");
    assert_eq!(request.header("x-smtp-agent-delivery"), "6ab-1-1");
    assert!(request.header("user-agent").starts_with("smtp-agent/"));

    // As a receiver does it.
    let timestamp = request.header("x-smtp-agent-timestamp");
    assert!(now().abs_diff(timestamp.parse().unwrap()) < 30);
    let signed = [timestamp.as_bytes(), b".", &request.body].concat();
    let hex = request.header("x-smtp-agent-signature").strip_prefix("v1=").unwrap();
    let signature: Vec<_> = (0..32).map(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).unwrap()).collect();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"0123456789abcdef0123456789abcdef");
    ring::hmac::verify(&key, &signed, &signature).expect("the signature");
    assert!(ring::hmac::verify(&key, &request.body, &signature).is_err(), "the time is signed as well");

    let body: Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!((&body["version"], &body["id"], &body["host"]), (&1.into(), &"6ab-1-1".into(), &"web1".into()));
    assert_eq!((&body["subject"], &body["repeated"]), (&"S shop".into(), &3.into()));
    assert!(body["text"].as_str().unwrap().starts_with("B 100\n\n3 notices were withheld"), "{body}");
    assert_eq!((&body["notices"][0]["kind"], &body["notices"][0]["limit"]), (&"hard_limit".into(), &100.into()));
}

#[test]
fn an_answer_that_says_no_is_told_and_nobody_is_followed_elsewhere() {
    for (answer, said) in [
        (
            "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 14\r\n\r\n\nover\x1b[2J load",
            "answered 503 Service Unavailable: over\\u{1b}[2J loa",
        ),
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "answered 404 Not Found"),
        ("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", "answered 302 Found"),
        ("nonsense\r\n\r\n", "http://127.0.0.1"),
        ("", "http://127.0.0.1"),
    ] {
        let (url, server) = serve(answer);
        let fault = tell(&format!("[[notify.webhook]]\nurl = '{url}/secret-token'\n"), &message(vec![limit("shop")]));
        let request = server.join().unwrap();
        assert!(request.headers.iter().all(|(name, _)| !name.eq_ignore_ascii_case("x-smtp-agent-signature")));
        let fault = fault.unwrap_err();
        assert!(fault.contains(said) && !fault.contains("secret-token"), "{answer:?}: {fault}");
    }
}

#[test]
fn the_reason_of_a_long_answer_is_told() {
    let body = format!("no such hook\n{}", "<p>sorry</p>".repeat(10_000));
    let answer = format!("HTTP/1.1 404 Not Found\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let (url, server) = serve(answer.leak());
    let fault = tell(&format!("[[notify.webhook]]\nurl = '{url}/'\n"), &message(vec![limit("shop")])).unwrap_err();
    assert!(fault.ends_with("answered 404 Not Found: no such hook"), "{fault}");
    drop(server.join());
}

#[test]
fn a_program_that_another_can_change_is_warned_of_and_never_run() {
    let dir = tempfile::tempdir().unwrap();
    let [program, ran] = ["tell", "ran"].map(|name| dir.path().join(name));
    fs::write(&program, format!("#!/bin/sh\ntouch {}\n", ran.display())).unwrap();
    let mode = |mode| fs::set_permissions(&program, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o757);
    let shown = program.display();
    for sink in [
        format!("[[notify.command]]\nargv = ['{shown}']\n"),
        format!("[[notify.mail]]\nto = 'root'\nsendmail = '{shown}'\n"),
    ] {
        mode(0o757);
        let fault = tell(&sink, &message(vec![limit("shop")])).unwrap_err();
        let wanted = format!("the program {shown} can be changed by every user of this host: run chmod go-w {shown}");
        assert_eq!(fault, format!("it is not run: {wanted}"));
        assert!(!ran.exists());
        let found = problems(&notify(&sink));
        assert!(!found.has_errors() && found.to_string().contains(&wanted), "{found}");
        mode(0o755);
        tell(&sink, &message(vec![limit("shop")])).unwrap();
        assert!(ran.exists() && problems(&notify(&sink)).is_empty());
        fs::remove_file(&ran).unwrap();
    }
}

#[test]
fn alertmanager_is_given_an_alert_for_each_notice() {
    let (url, server) = serve("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let budget = Notice {
        unit: Some("message".into()),
        window: Some("day".into()),
        ..Notice::new(Kind::HostQuota80, HOST, 1_790_000_000)
    };
    let text = format!("[[notify.alertmanager]]\nurl = '{url}/'\nsubject = '{{kind}} of {{account}}'\n");
    tell(&text, &message(vec![limit("shop"), budget])).unwrap();
    let request = server.join().unwrap();
    assert_eq!(request.line, "POST /api/v2/alerts HTTP/1.1");
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    let labels = serde_json::json!({
        "alertname": "SmtpNoticeHardLimit", "instance": "web1", "kind": "hard_limit", "severity": "critical", "user": "shop",
    });
    assert_eq!((&body[0]["labels"], &body[0]["annotations"]["summary"]), (&labels, &"hard_limit of shop".into()));
    assert!(body[0]["annotations"]["description"].as_str().unwrap().contains("smtp-agent block shop --for 2h"));
    assert_eq!(body[0]["startsAt"], "2026-09-21T14:13:20Z");
    let ends = humantime::parse_rfc3339(body[0]["endsAt"].as_str().unwrap()).unwrap();
    let ends = ends.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!((now() + 3500..now() + 3700).contains(&ends), "an hour from now");
    assert_eq!((&body[1]["labels"]["unit"], &body[1]["labels"]["window"]), (&"message".into(), &"day".into()));
    assert_eq!(body.as_array().unwrap().len(), 2);
}

#[test]
fn what_the_host_lacks_is_named_with_the_place_it_is_wanted_at() {
    let text = "[[notify.mail]]\nto = 'root'\nsendmail = '/nonexistent/sendmail'\n\
                [[notify.command]]\nargv = ['/etc/passwd']\n[[notify.command]]\nargv = ['/bin/true']\n\
                [[notify.webhook]]\nurl = 'https://h.example'\nsecret_file = '/nonexistent/key'\n";
    let found = problems(&notify(text));
    let said: Vec<_> =
        found.iter().map(|problem| (problem.message.as_str(), problem.place.as_ref().unwrap().line())).collect();
    assert_eq!(
        said,
        [
            ("the sink `mail` cannot be told: /nonexistent/sendmail: No such file or directory (os error 2)", 1),
            (
                "the sink `webhook` cannot be told: secret_file /nonexistent/key: No such file or directory (os error 2)",
                8
            ),
            ("the sink `command` cannot be told: /etc/passwd is not executable: run chmod 755 /etc/passwd", 4),
        ]
    );
    assert!(!found.has_errors(), "limits are in force all the same");
}
