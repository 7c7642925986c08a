//! Servers that hang up, stall, flood and lie: each visit ends in time, with what was found until then.

use super::{super::visit::Outcome, *};
use server::{Act, say, usual};

const LIMIT: Duration = Duration::from_secs(14);
const DENIED: &str = "554 5.7.1 Relay access denied";

#[test]
fn a_server_that_hangs_up_after_each_refusal_is_asked_to_the_end() {
    let server = Server::new(|asked| match asked {
        asked if asked.is("RCPT") => Act::SayAndClose(format!("{DENIED}\r\n")),
        asked => usual(asked),
    });
    let visit = visited(&server);
    assert_verdict(&visit, Verdict::Closed, &[]);
    assert_eq!(server.connections(), visit.probes.len(), "one for each probe");
}

#[test]
fn a_server_that_says_421_is_asked_again_on_a_new_connection() {
    // After three commands each time, so in the middle of a transaction.
    let server = Server::new(|asked| match asked {
        asked if asked.number == 7 => Act::SayAndClose("421 4.7.0 Too many errors\r\n".to_owned()),
        asked if asked.is("RCPT") => say(DENIED),
        asked => usual(asked),
    });
    let visit = visited(&server);
    assert_verdict(&visit, Verdict::Closed, &[]);
    let cut: Vec<_> = visit.probes.iter().filter(|one| one.dialogue.iter().any(|line| line.contains("421"))).collect();
    assert!(!cut.is_empty() && cut.iter().all(|one| one.outcome == Outcome::Refused), "{cut:#?}");
}

#[test]
fn a_server_that_takes_no_second_connection_leaves_the_verdict_unclear() {
    let server = Server::new(|asked| match asked {
        asked if asked.connection > 0 => Act::SayAndClose("421 4.7.0 Too many connections from you\r\n".to_owned()),
        asked if asked.is("RCPT") => say(DENIED),
        asked => usual(asked),
    });
    let visit = within(LIMIT, || visited(&server));
    assert_verdict(&visit, Verdict::Unclear, &["were not decided", "Too many connections from you"]);
    assert!(server.connections() < 10, "{} connections", server.connections());
}

#[test]
fn a_server_that_refuses_to_talk_is_unclear() {
    for greeting in ["554 5.7.1 go away", "421 4.3.2 busy"] {
        let server = Server::new(move |_| say(greeting));
        let visit = visited(&server);
        assert!(visit.verdict == Verdict::Unclear && visit.because.contains(greeting), "{}", visit.because);
        assert!(visit.probes.is_empty());
    }
}

#[test]
fn a_server_that_says_nothing_or_drips_is_given_up_in_time() {
    let silent = Server::new(|_| Act::Silence);
    let visit = within(LIMIT, || visited(&silent));
    assert!(visit.because.contains("no answer within 300ms"), "{}", visit.because);
    // Octets that keep coming do not buy time.
    let drip = Server::new(|_| Act::Drip("2", Duration::from_millis(20)));
    let visit = within(LIMIT, || visited(&drip));
    assert!(visit.because.contains("no answer within 300ms"), "{}", visit.because);
    assert!(visit.opening.iter().any(|line| line.starts_with("< 222")), "{:?}", visit.opening);
    // Nor do lines of a reply without an end.
    let lines = Server::new(|_| Act::Drip("220-wait\r\n", Duration::from_millis(20)));
    let visit = within(LIMIT, || visited(&lines));
    assert_eq!(visit.verdict, Verdict::Unclear);
}

#[test]
fn a_server_that_stalls_in_the_middle_costs_no_more_than_the_whole_time() {
    let server = Server::new(|asked| match asked {
        asked if asked.is("RCPT") => Act::Silence,
        asked => usual(asked),
    });
    let visit = within(LIMIT, || visited(&server));
    assert_verdict(&visit, Verdict::Unclear, &["were not decided"]);
    assert!(visit.probes.iter().all(|one| one.outcome == Outcome::Unanswered));
}

#[test]
fn a_server_that_takes_its_time_with_everything_is_left_when_the_visit_is_over() {
    let server = Server::new(|asked| {
        std::thread::sleep(SOON / 3);
        usual(asked)
    });
    let whole = Duration::from_secs(1);
    let visit = within(whole * 3, || visit(server.address, &[], &options(&server), whole));
    let last = visit.probes.last().expect("probes");
    assert_eq!((last.outcome, last.answer.as_str()), (Outcome::Unanswered, "the time for this server was over"));
    assert_eq!(visit.probes[0].outcome, Outcome::Accepted, "what was found until then is kept");
}

#[test]
fn a_flood_is_read_no_further_than_its_bound() {
    let endless_line = Server::new(|_| Act::Flood("2"));
    let visit = within(LIMIT, || visited(&endless_line));
    assert!(visit.because.contains("a line of more than"), "{}", visit.because);
    let endless_reply = Server::new(|_| Act::Flood("220-x\r\n"));
    let visit = within(LIMIT, || visited(&endless_reply));
    assert!(visit.because.contains("a reply of more than"), "{}", visit.because);
    let replies = Server::new(|_| Act::Flood("250 taken\r\n"));
    let visit = within(LIMIT, || visited(&replies));
    assert_eq!(visit.verdict, Verdict::Unclear);
    assert!(visit.probes.iter().all(|one| one.outcome != Outcome::Accepted), "what came unasked is no answer");
}

#[test]
fn another_protocol_is_told_as_such() {
    for noise in ["HTTP/1.1 400 Bad Request", "\x16\x03\x01\x02", "SSH-2.0-OpenSSH_9.2"] {
        let server = Server::new(move |_| say(noise));
        let visit = visited(&server);
        assert!(visit.because.contains("what came is not SMTP"), "{}", visit.because);
        assert!(!visit.because.chars().any(char::is_control), "{:?}", visit.because);
    }
}

#[test]
fn a_go_ahead_for_a_message_that_nobody_asked_for_gets_none() {
    let server = Server::new(|asked| match asked {
        asked if asked.is("RCPT") => say("354 send it"),
        asked => usual(asked),
    });
    let visit = within(LIMIT, || visited(&server));
    assert_verdict(&visit, Verdict::Unclear, &["not decided"]);
    assert!(server.heard().iter().all(|line| !line.starts_with("DATA") && line != "."), "{:?}", server.heard());
}

#[test]
fn the_server_s_words_cannot_get_into_a_command() {
    let server = Server::new(|asked| match asked {
        asked if asked.line.is_empty() => say("220 evil.example>\u{20}RCPT\u{9}TO:<x"),
        asked if asked.is("RCPT") => say("550 relaying denied\u{1b}[2J"),
        asked => usual(asked),
    });
    let visit = visited(&server);
    assert_verdict(&visit, Verdict::Closed, &[]);
    assert!(visit.probes.iter().all(|one| !one.answer.contains('\u{1b}') && !one.to.contains("evil")));
}
