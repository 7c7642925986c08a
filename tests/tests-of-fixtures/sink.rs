//! The SMTP sink over real sockets.

use smtp_tests::{
    Dial, Netns, Sink, Veth, eventually, port,
    sink::{Outcomes, Reply, Stage},
};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    panic::catch_unwind,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

const SOON: Duration = Duration::from_secs(5);

/// Says each line and returns the last line of each answer; the greeting comes first.
fn talk(address: SocketAddr, lines: &[&str]) -> Vec<String> {
    let mut stream = TcpStream::connect(address).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut answer = || {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if line.as_bytes().get(3) != Some(&b'-') {
                return line.trim_end().to_string();
            }
        }
    };
    let mut answers = vec![answer()];
    for line in lines {
        stream.write_all(format!("{line}\r\n").as_bytes()).unwrap();
        answers.push(answer());
    }
    answers
}

#[test]
fn who_has_read_250_finds_the_message_in_the_log() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let sink = Sink::at(address.parse::<SocketAddr>().unwrap()).start();
        for n in 1..=50 {
            let words = ["EHLO a", "MAIL FROM:<x@a>", "RCPT TO:<y@b>", "DATA", "Subject: s\r\n\r\nhi\r\n."];
            let answers = talk(sink.address(), &words);
            assert!(answers[5].starts_with("250 "), "{answers:?}");
            assert_eq!((sink.messages().len(), sink.connections()), (n, n as u64));
        }
        assert_eq!(sink.messages()[49].text, "Subject: s\r\n\r\nhi\r\n");
    }
}

#[test]
fn a_sink_answers_as_it_is_told() {
    let sink = Sink::at(([127, 0, 0, 1], 0)).answer(Stage::Connect, "554 5.7.1 no").answer(Stage::Mail, "421 bye");
    let sink = sink.start();
    assert_eq!(talk(sink.address(), &["EHLO a", "MAIL FROM:<x@a>"]), ["554 5.7.1 no", "250 8BITMIME", "421 bye"]);
}

#[test]
fn answers_come_in_pieces_in_many_lines_late_or_with_the_end() {
    let late = Duration::from_millis(300);
    let sink = Sink::at(([127, 0, 0, 1], 0))
        .split(&[1, 2])
        .answer(Stage::Connect, Reply::lines(220, &["sink.test ESMTP", "no spam", "ready"]))
        .answer(Stage::Mail, Reply::from("250 at last").after(late))
        .answer_rcpt(|to| (to == "out@far.test").then(|| Reply::lines(421, &["out", "you go"])))
        .start();
    let mut stream = TcpStream::connect(sink.address()).unwrap();
    let (mut greeting, mut pieces) = (Vec::new(), 0);
    while !greeting.ends_with(b"220 ready\r\n") {
        let mut buffer = [0; 100];
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "{greeting:?}");
        greeting.extend_from_slice(&buffer[..count]);
        pieces += 1;
    }
    assert_eq!(greeting, b"220-sink.test ESMTP\r\n220-no spam\r\n220 ready\r\n");
    // Some may come together when this thread has to wait for a processor.
    assert!(pieces > 10, "{} bytes in {pieces} pieces", greeting.len());

    let begun = Instant::now();
    stream.write_all(b"HELO a\r\nMAIL FROM:<x@a>\r\nRCPT TO:<y@b>\r\nRCPT TO:<out@far.test>\r\nNOOP\r\n").unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "250 sink.test\r\n250 at last\r\n250 2.1.5 recipient ok\r\n421-out\r\n421 you go\r\n");
    assert!(begun.elapsed() >= late, "{:?}", begun.elapsed());
    let tally = sink.settled_tally();
    assert_eq!((tally.messages.total(), tally.recipients), (0, Outcomes::of(1, 1, 0)));
    assert_eq!(sink.connection_log()[0].tally, tally);
}

#[test]
fn who_leaves_before_a_late_answer_has_not_had_it() {
    let late = Reply::from("250 too late").after(Duration::from_secs(5));
    let sink = Sink::at(([127, 0, 0, 1], 0)).answer(Stage::Message, late).start();
    let begun = Instant::now();
    for body in ["", "half of it"] {
        let mut stream = TcpStream::connect(sink.address()).unwrap();
        let mut greeting = [0; 100];
        assert!(stream.read(&mut greeting).unwrap() > 0);
        stream.write_all(b"HELO a\r\nMAIL FROM:<x@a>\r\nRCPT TO:<y@b>\r\nDATA\r\n").unwrap();
        BufReader::new(stream.try_clone().unwrap()).lines().find(|line| line.as_ref().unwrap().starts_with("354"));
        stream.write_all(if body.is_empty() { b".\r\n" } else { body.as_bytes() }).unwrap();
    }
    let tally = sink.settled_tally();
    assert_eq!((tally.unknown, tally.messages.total(), sink.messages().len()), (2, 0, 0));
    assert!(begun.elapsed() < Duration::from_secs(4), "nobody has waited");
}

#[test]
fn a_long_message_and_many_held_connections_fit() {
    let sink = Sink::at(([127, 0, 0, 1], 0)).start();
    let text = "x".repeat(70).repeat(20_000) + "\r\n.";
    let held: Vec<_> = (0..1000).map(|_| TcpStream::connect(sink.address()).unwrap()).collect();
    let answers = talk(sink.address(), &["HELO a", "MAIL FROM:<>", "RCPT TO:<y@b>", "DATA", &text, "QUIT"]);
    assert_eq!(answers[6], "221 2.0.0 bye");
    assert_eq!(sink.messages()[0].text.len(), text.len() - 1);
    assert_eq!((sink.messages()[0].from.as_str(), sink.connections()), ("", 1001));
    drop(held);
}

#[test]
fn five_thousand_connections_a_second_are_counted_exactly() {
    const COUNT: u64 = 20_000;
    let ns = Netns::new();
    let veth = Veth::between_host_and(&ns);
    let sink = Sink::at((veth.far.v4, 25)).netns(&ns).start();
    let begun = Instant::now();
    let tally = Dial::to(sink.address()).count(COUNT).threads(2).run();
    let rate = COUNT as f64 / begun.elapsed().as_secs_f64();
    assert_eq!(tally.ok(), COUNT, "{tally:?}");
    eventually(SOON, "every connection is counted", || sink.connections() >= COUNT);
    assert_eq!(sink.connections_when_quiet(Duration::from_millis(100)), COUNT);
    println!("{rate:.0} connections a second");
    assert!(rate >= 5_000.0, "only {rate:.0} connections a second");
    // Not more than there are ports, either: RST leaves no TIME_WAIT.
    let more = Dial::to(sink.address()).count(3 * COUNT).threads(2).reset().run();
    assert_eq!(more.ok(), 3 * COUNT, "{more:?}");
    eventually(SOON, "every connection is counted", || sink.connections() >= 4 * COUNT);
    assert_eq!(sink.connections_when_quiet(Duration::from_millis(100)), 4 * COUNT);
}

#[test]
fn a_dropped_sink_is_gone_at_once_even_while_others_fork() {
    let address = SocketAddr::from(([127, 0, 0, 1], port::free()));
    let done = AtomicBool::new(false);
    let answered = thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                Command::new("true").status().expect("cannot run true");
            }
        });
        // Nothing here panics: the other thread must be told to end.
        let answered = (0..300).filter(|_| {
            let sink = catch_unwind(|| Sink::at(address).start());
            sink.map(drop).is_err() || TcpStream::connect(address).is_ok()
        });
        let answered = answered.count();
        done.store(true, Ordering::Relaxed);
        answered
    });
    assert_eq!(answered, 0, "so many dropped sinks were still there");
}
