//! Keeps as much of the agent's contract as the fixture relies on, to test the fixture alone: it
//! listens, gets ready, reloads, ends, pins and detaches. It decides nothing.

use nix::sys::signal::{SigSet, Signal};
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    os::unix::net::UnixDatagram,
    process::ExitCode,
    sync::atomic::{AtomicU32, Ordering},
    thread,
};
use toml::Table;

static RELOADS: AtomicU32 = AtomicU32::new(0);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [option, path, command, ..] = arguments.as_slice() else { return ExitCode::from(2) };
    assert_eq!(option, "--config");
    let Ok(config) = fs::read_to_string(path).expect("a config").parse::<Table>() else {
        eprintln!("the configuration is not TOML");
        return ExitCode::from(2);
    };
    let pins = config["paths"]["pins"].as_str().expect("pins");
    match command.as_str() {
        "run" => run(&config, pins),
        "detach" => fs::remove_dir(pins).expect("cannot remove the pins"),
        // For the test to see how a command is run.
        "status" => print!("{}", fs::read_to_string("/etc/passwd").expect("passwd")),
        "whoami" => println!("{} {}", nix::unistd::getuid(), nix::unistd::getgid()),
        _ => return ExitCode::FAILURE,
    }
    ExitCode::SUCCESS
}

fn run(config: &Table, pins: &str) {
    let signals: SigSet = [Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
    signals.thread_block().expect("cannot block signals");
    fs::create_dir_all(pins).expect("cannot make the pins");
    let listener = TcpListener::bind(config["metrics"]["listen"].as_str().expect("listen")).expect("cannot listen");
    thread::spawn(move || listener.incoming().flatten().for_each(|stream| answer(stream).unwrap_or_default()));
    if let Some(path) = std::env::var_os("NOTIFY_SOCKET") {
        UnixDatagram::unbound().and_then(|socket| socket.send_to(b"READY=1", path)).expect("cannot notify");
    }
    eprintln!("stand-in is running in mode {}", config["mode"]);
    while signals.wait().expect("sigwait") == Signal::SIGHUP {
        RELOADS.fetch_add(1, Ordering::SeqCst);
    }
}

fn answer(mut stream: std::net::TcpStream) -> std::io::Result<()> {
    let mut request = String::new();
    let mut reader = BufReader::new(stream.try_clone()?);
    while reader.read_line(&mut request)? > 2 {}
    let body = match request.split(' ').nth(1) {
        Some("/-/ready") => "ready\n".to_string(),
        _ => format!(
            "# TYPE stand_in_reloads_total counter\nstand_in_reloads_total {}\n\
             # TYPE smtp_connections_total counter\n\
             smtp_connections_total{{user=\"shop\",port=\"25\",verdict=\"allowed\"}} 3\n\
             smtp_connections_total{{user=\"shop\",port=\"587\",verdict=\"allowed\"}} 4\n",
            RELOADS.load(Ordering::SeqCst)
        ),
    };
    let kind = "text/plain; version=0.0.4";
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n", body.len());
    write!(stream, "{head}Connection: close\r\n\r\n{body}")
}
