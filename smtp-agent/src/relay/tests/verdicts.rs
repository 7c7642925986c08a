//! Whole visits: what servers of each kind are found to be.

use super::{super::visit::Outcome, *};
use server::{Act, Asked, say, usual};

const DENIED: &str = "554 5.7.1 Relay access denied";
const UNKNOWN: &str = "550 5.1.1 User unknown";

/// Refuses what is elsewhere by its last domain, and strangers here.
fn proper(to: &str) -> &'static str {
    let domain = to.rsplit_once('@').map_or("", |(_, domain)| domain);
    if domain.ends_with("to.example") { DENIED } else { UNKNOWN }
}

#[test]
fn a_server_that_refuses_is_closed_and_never_gets_a_message() {
    let server = Server::obedient(proper);
    let visit = visited(&server);
    assert_verdict(&visit, Verdict::Closed, &["refused whatever was to be relayed"]);
    assert_eq!(visit.verdict, Verdict::Closed, "over loopback too");
    assert!(visit.worth.is_some_and(|worth| worth.contains("over loopback")));
    let shown = &visit.probes[visit.shown_by.expect("a probe")].dialogue;
    assert_eq!(
        shown,
        &[
            "> MAIL FROM:<tester@from.example>",
            "< 250 2.0.0 Ok",
            "> RCPT TO:<victim@to.example>",
            "< 554 5.7.1 Relay access denied",
            "> RSET",
            "< 250 2.0.0 Ok"
        ]
    );
    let heard = server.heard();
    let verbs = ["EHLO ", "MAIL FROM:<", "RCPT TO:<", "RSET", "QUIT"];
    assert!(heard.iter().all(|line| verbs.iter().any(|verb| line.starts_with(verb))), "{heard:?}");
    assert_eq!(heard.iter().filter(|line| *line == "RSET").count(), visit.probes.len(), "one after each probe");
    assert_eq!(heard.iter().filter(|line| *line == "QUIT").count(), server.connections(), "one for each connection");
}

#[test]
fn a_server_that_takes_everything_is_open_but_over_loopback_nothing_is_proven() {
    let server = Server::obedient(|_| "250 2.1.5 Ok");
    let visit = visited(&server);
    assert_verdict(&visit, Verdict::Open, &["mail from <tester@from.example> for <victim@to.example>", "more"]);
    assert_eq!(visit.verdict, Verdict::Unclear);
    assert!(visit.because.contains("because of where it was asked from"), "{}", visit.because);
}

#[test]
fn a_server_that_relays_for_one_kind_of_sender_is_open() {
    for (sender, name) in [
        ("", "null sender"),
        ("tester@mx.server.example", "sender in its own name"),
        ("postmaster@mx.server.example", "postmaster of its own name"),
        ("tester@[127.0.0.1]", "sender at its address"),
        ("tester", "sender without a domain"),
        ("victim@to.example", "sender and recipient the same"),
    ] {
        let last = std::sync::Mutex::new(String::new());
        let server = Server::new(move |asked| {
            let mut last = last.lock().expect("no panic in another thread");
            if asked.is("MAIL") {
                *last = asked.path().to_owned();
            }
            match asked {
                asked if asked.is("RCPT") && *last == sender && asked.path().ends_with("@to.example") => say("250 Ok"),
                asked if asked.is("RCPT") => say(proper(asked.path())),
                asked => usual(asked),
            }
        });
        assert_verdict(&visited(&server), Verdict::Open, &[name]);
    }
}

#[test]
fn a_server_that_falls_for_a_trick_and_knows_its_own_people_is_open() {
    for (trick, name) in [
        ("victim%to.example@mx.server.example", "percent hack"),
        ("to.example!victim@[127.0.0.1]", "bang path"),
        ("\"victim@to.example\"@mx.server.example", "quoted address"),
        ("\"victim%to.example\"", "quoted percent hack"),
        ("victim@to.example@[127.0.0.1]", "two at signs"),
        ("@mx.server.example:victim@to.example", "source route"),
    ] {
        let server = Server::obedient(move |to| if to == trick { "250 2.1.5 Ok" } else { proper(to) });
        assert_verdict(&visited(&server), Verdict::Open, &[name, trick]);
    }
}

#[test]
fn a_server_that_takes_everybody_at_home_is_not_called_open() {
    let server = Server::obedient(|to| if to.ends_with("@mx.server.example") { "250 Ok" } else { proper(to) });
    let visit = visited(&server);
    assert_verdict(&visit, Verdict::Unclear, &["percent hack", "may be local names"]);
    // Nor one whose answer to the control is not known.
    let server = Server::obedient(|to| match to {
        to if to.starts_with("nobody-") => "451 4.3.0 Try later",
        to if to.contains('%') => "250 Ok",
        to => proper(to),
    });
    assert_verdict(&visited(&server), Verdict::Unclear, &["may be local names"]);
}

#[test]
fn a_server_that_puts_off_is_unclear() {
    let server = Server::obedient(|_| "451 4.7.1 Greylisted, come back later");
    assert_verdict(&visited(&server), Verdict::Unclear, &["greylisting, perhaps", "Greylisted, come back"]);
    // One sender only, but that may be the hole.
    let server = Server::obedient(|to| if to == "to.example!victim" { "450 4.2.0 Later" } else { proper(to) });
    assert_verdict(&visited(&server), Verdict::Unclear, &["1 of", "bang path"]);
}

#[test]
fn postfix_s_temporary_refusal_to_relay_is_a_refusal() {
    let server = Server::obedient(|to| match proper(to) {
        DENIED => "454 4.7.1 Relay access denied",
        other => other,
    });
    assert_verdict(&visited(&server), Verdict::Closed, &[]);
}

#[test]
fn a_server_that_minds_the_addresses_has_not_said_whether_it_relays() {
    let server = Server::obedient(|_| "550 5.1.2 Recipient address rejected: Domain not found");
    assert_verdict(&visited(&server), Verdict::Unclear, &["no probe got as far as relaying", "--from and --to"]);
    let server =
        Server::obedient(|_| "554 5.7.1 Service unavailable; Client host [127.0.0.1] blocked using bl.example");
    assert_verdict(&visited(&server), Verdict::Unclear, &["refuses this client", "from another host"]);
    let server = Server::new(|asked| match asked {
        asked if asked.is("MAIL") => say("530 5.7.0 Must issue a STARTTLS command first"),
        asked => usual(asked),
    });
    assert_verdict(&visited(&server), Verdict::Unclear, &["wants TLS first"]);
    let server = Server::new(|asked| match asked {
        asked if asked.is("MAIL") => say("530 5.7.0 Authentication required"),
        asked => usual(asked),
    });
    assert_verdict(&visited(&server), Verdict::Closed, &["refused"]);
}

#[test]
fn a_server_that_refuses_this_client_alone_is_not_called_closed() {
    for refusal in [
        "550 rejected because 192.0.2.9 is in a black list at zen.spamhaus.org",
        "550 JunkMail rejected - client.example [192.0.2.9] is in an RBL: https://example.org/lookup",
        "550 5.7.1 IP listed at Spamhaus, see https://example.org/",
        "554 5.7.1 Too many connections from your IP",
        "550 Administrative prohibition",
        "550 5.7.1 go away",
        "550",
    ] {
        let server = Server::obedient(move |_| refusal);
        assert_verdict(&visited(&server), Verdict::Unclear, &[refusal, "this client", "ask from another host"]);
    }
    // Addresses in the words, and those that are minded before, do not make a difference.
    let server = Server::new(|asked| match asked {
        asked if asked.is("RCPT") && !asked.path().contains('@') => say("501 5.5.2 an address has a domain"),
        asked if asked.is("RCPT") && asked.path().contains("@[") => say("501 domain literals are not allowed"),
        asked if asked.is("RCPT") => say(&format!("550 5.7.1 <{}>: not wanted (id 4f{})", asked.path(), asked.number)),
        asked => usual(asked),
    });
    assert_verdict(&visited(&server), Verdict::Unclear, &["said nothing of relaying"]);
}

#[test]
fn a_server_that_says_little_is_closed_where_it_answers_otherwise_at_home() {
    for at_home in ["550 Unrouteable address", "550 5.1.1 User unknown", "451 4.7.1 Greylisted"] {
        let server = Server::obedient(move |to| match to {
            to if to.starts_with("nobody-") && to.ends_with("@mx.server.example") => at_home,
            _ => "550 Administrative prohibition",
        });
        assert_verdict(&visited(&server), Verdict::Closed, &["refused whatever was to be relayed"]);
    }
}

#[test]
fn a_server_that_turns_against_the_client_after_a_refusal_is_not_called_closed() {
    let server = Server::new(|asked| match asked {
        asked if asked.is("RCPT") && asked.connection == 0 && asked.number < 5 => say(DENIED),
        asked if asked.is("RCPT") => say("554 5.7.1 Client host rejected: too many errors"),
        asked => usual(asked),
    });
    let visit = visited(&server);
    assert_eq!(visit.probes[0].answer, DENIED);
    assert_verdict(&visit, Verdict::Unclear, &["for the sake of this client", "too many errors"]);
    // A sender or two that it minds does not make the rest untold.
    let server = Server::new(|asked| match asked {
        asked if asked.is("RCPT") && asked.number < 4 => say("554 5.7.1 Client host rejected: too many errors"),
        asked if asked.is("RCPT") => say(proper(asked.path())),
        asked => usual(asked),
    });
    assert_verdict(&visited(&server), Verdict::Closed, &[]);
}

#[test]
fn tricks_are_tried_under_a_sender_that_the_server_does_not_mind() {
    // The sender outside is refused as such: what relays shows only under another.
    let server = Server::new(|asked| match asked {
        asked if asked.is("MAIL") && asked.path().contains("from.example") => {
            say("550 5.1.8 Sender address rejected: Domain not found")
        }
        asked if asked.is("RCPT") && asked.path() == "victim%to.example@mx.server.example" => say("250 Ok"),
        asked if asked.is("RCPT") => say(proper(asked.path())),
        asked => usual(asked),
    });
    let visit = visited(&server);
    assert_verdict(&visit, Verdict::Open, &["mail from <> for <victim%to.example@mx.server.example>"]);
    assert_eq!(visit.probes[0].outcome, Outcome::Refused);
}

#[test]
fn a_server_that_knows_no_ehlo_is_asked_with_helo() {
    let server = Server::new(|asked| match asked {
        asked if asked.is("EHLO") => say("502 5.5.1 what?"),
        asked if asked.is("RCPT") => say(proper(asked.path())),
        asked => usual(asked),
    });
    let visit = visited(&server);
    assert_verdict(&visit, Verdict::Closed, &[]);
    assert!(visit.opening.contains(&"> HELO client.example".to_owned()), "{:?}", visit.opening);
}

#[test]
fn ipv6_is_spoken_to_with_its_own_literal() {
    let answer = |asked: &Asked| if asked.is("RCPT") { say(proper(asked.path())) } else { usual(asked) };
    let server = Server::at("[::1]:0", answer);
    let mut options = options(&server);
    options.hello = None;
    let visit = visit(server.address, &[], &options, SOON * 40);
    assert_verdict(&visit, Verdict::Closed, &[]);
    assert!(visit.probes.iter().any(|one| one.to == "victim%to.example@[IPv6:::1]"));
}

#[test]
fn nothing_is_sent_to_a_server_that_nobody_answers_for() {
    let mut options = options(&Server::obedient(proper));
    options.target = "192.0.2.77:25".parse().expect("a target");
    let failure = super::super::check(&options).expect_err("it is no address of this host");
    assert_eq!(failure.code, crate::exit::Code::Usage);
    assert!(failure.message.contains("192.0.2.77 is no address of this host"), "{failure}");
    assert!(failure.message.contains("--i-operate-this-host"), "{failure}");
}

#[test]
fn where_nobody_listens_the_verdict_says_so() {
    let server = Server::new(|_| Act::Close);
    let mut options = options(&server);
    options.target = "127.0.0.1:1".parse().expect("a target");
    let report = super::super::check(&options).expect("a report");
    assert_eq!(report.verdict, Verdict::Unclear);
    assert!(report.visits[0].because.contains("no connection: Connection refused"), "{}", report.visits[0].because);
}
