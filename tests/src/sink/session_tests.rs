use super::*;
use crate::tally::{Ledger, Outcomes, Tally};

fn plain() -> Behaviour {
    Behaviour::default()
}

fn chunking() -> Behaviour {
    Behaviour { chunking: true, ..plain() }
}

fn obedient() -> Behaviour {
    Behaviour { obedient: true, ..chunking() }
}

/// Feeds a conversation in pieces of `cut` bytes; the codes of the answers, the messages, and what it came to.
fn talk(text: &str, cut: usize, behaviour: Behaviour) -> (String, Vec<Message>, Tally) {
    let mut session = Session::new("192.0.2.1:9".parse().unwrap(), Arc::new(behaviour));
    text.as_bytes().chunks(cut).for_each(|piece| session.feed(piece));
    let (mut ledger, mut codes, mut messages) = (Ledger::default(), Vec::new(), Vec::new());
    for step in session.take_steps() {
        step.event.iter().for_each(|event| ledger.note(event));
        messages.extend(step.message);
        codes.extend(step.reply.map(|reply| reply.code().to_string()));
    }
    ledger.note(&Event::End);
    assert_eq!(codes.remove(0), "220");
    (codes.join(" "), messages, ledger.tally())
}

const HEAD: &str = "EHLO a\r\nMAIL FROM:<x@a> SIZE=9\r\nRCPT TO:<y@b>\r\nrcpt to:<z@b>\r\n";

#[test]
fn messages_arrive_whole_however_the_bytes_are_cut() {
    let data = format!("{HEAD}DATA\r\nSubject: s\r\n\r\n..dot\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<y@b>\r\nQUIT\r\n");
    let bdat = format!("{HEAD}BDAT 5\r\nab\r\n.BDAT 4 LAST\r\n\r\nczNOOP\r\n");
    for cut in [1, 2, 7, 1000] {
        let (codes, messages, tally) = talk(&data, cut, plain());
        assert_eq!(codes, "250 250 250 250 354 250 250 250 221");
        assert_eq!((messages[0].from.as_str(), messages[0].to.join(",").as_str()), ("x@a", "y@b,z@b"));
        assert_eq!((messages.len(), messages[0].text.as_str()), (1, "Subject: s\r\n\r\n.dot\r\n"));
        assert_eq!((tally.messages, tally.recipients), (Outcomes::of(1, 0, 0), Outcomes::of(3, 0, 0)));
        let (codes, messages, tally) = talk(&bdat, cut, chunking());
        assert_eq!(codes, "250 250 250 250 250 250 250");
        assert_eq!((messages.len(), messages[0].text.as_str()), (1, "ab\r\n.\r\ncz"));
        assert_eq!((tally.messages, tally.recipients), (Outcomes::of(1, 0, 0), Outcomes::of(2, 0, 0)));
    }
}

#[test]
fn a_message_answered_badly_is_not_one_received() {
    let text = format!("{HEAD}DATA\r\nhi\r\n.\r\n");
    let fixed = |stage, reply: &str| Behaviour { answers: [(stage, reply.into())].into(), ..plain() };
    let (codes, messages, tally) = talk(&text, 50, fixed(Stage::Message, "451 4.3.0 later"));
    assert_eq!((codes.as_str(), messages.len()), ("250 250 250 250 354 451", 0));
    assert_eq!(tally.messages, Outcomes::of(0, 1, 0));
    let (codes, messages, tally) = talk(&text, 50, fixed(Stage::Rcpt, "550 5.1.1 no"));
    assert_eq!((&codes[..19], messages.len()), ("250 250 550 550 503", 0));
    assert_eq!((tally.messages, tally.recipients), (Outcomes::of(0, 0, 1), Outcomes::of(0, 0, 2)));
}

#[test]
fn a_chunk_without_a_recipient_is_swallowed_and_refused() {
    let (codes, messages, tally) = talk("EHLO a\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n", 50, chunking());
    assert_eq!((codes.as_str(), messages.len(), tally.messages.total()), ("250 503 250", 0, 0));
    let (codes, ..) = talk("HELO a\r\nBDAT 6 LAST\r\nQUIT\r\n", 50, chunking());
    assert_eq!(codes, "250 502 221", "who has not heard of CHUNKING has not been offered it");
}

#[test]
fn each_recipient_is_answered_as_its_address_says() {
    let text = "EHLO a\r\nMAIL FROM:<x+body452@a>\r\nRCPT TO:<y@b>\r\nRCPT TO:<y+rcpt450@b>\r\nRCPT TO:<y+rcpt550@b>\r\n\
                DATA\r\n.\r\nMAIL FROM:<x+mail550@a>\r\nMAIL FROM:<x+chunk451@a>\r\nRCPT TO:<y@b>\r\n\
                BDAT 0\r\nBDAT 0 LAST\r\n";
    let (codes, messages, tally) = talk(text, 3, obedient());
    assert_eq!(codes, "250 250 250 450 550 354 452 550 250 250 451 503");
    assert_eq!((messages.len(), tally.messages, tally.recipients), (0, Outcomes::of(0, 2, 1), Outcomes::of(2, 1, 1)));
}

#[test]
fn lmtp_and_prdr_answer_for_each_accepted_recipient() {
    let body = "MAIL FROM:<x+body550@a> PRDR\r\nRCPT TO:<y@b>\r\nRCPT TO:<z+rcpt550@b>\r\nRCPT TO:<z+each452@b>\r\n\
                DATA\r\n.\r\nNOOP\r\n";
    let lmtp = || Behaviour { lmtp: true, ..obedient() };
    let (codes, messages, tally) = talk(&format!("LHLO a\r\n{body}"), 7, lmtp());
    assert_eq!(codes, "250 250 250 550 250 354 250 452 250");
    assert_eq!((messages[0].to.join(","), tally.messages), ("y@b".into(), Outcomes::of(1, 0, 0)));
    let (codes, messages, tally) = talk(&format!("EHLO a\r\n{body}"), 7, Behaviour { prdr: true, ..obedient() });
    assert_eq!(codes, "250 250 250 550 250 354 353 250 452 550 250");
    assert_eq!((messages.len(), tally.messages), (0, Outcomes::of(0, 0, 1)));
    let (codes, _, tally) = talk(&format!("EHLO a\r\n{body}"), 7, obedient());
    assert_eq!((codes.as_str(), tally.messages), ("250 250 250 550 250 354 550 250", Outcomes::of(0, 0, 1)));
    assert!(talk("EHLO a\r\nLHLO a\r\n", 7, lmtp()).0 == "500 250" && talk("LHLO a\r\n", 7, plain()).0 == "500");
}

#[test]
fn an_answer_to_auth_is_no_command() {
    let auth = || Behaviour { auth: true, ..plain() };
    let text = "EHLO a\r\nAUTH PLAIN\r\nQUIT\r\nAUTH LOGIN\r\nMAIL FROM:<x@a>\r\nDATA\r\nAUTH LOGIN eA==\r\n*\r\n\
                AUTH PLAIN eA==\r\nAUTH X\r\nNOOP\r\n";
    let (codes, _, tally) = talk(text, 5, auth());
    assert_eq!(codes, "250 334 235 334 334 235 334 501 235 504 250");
    assert_eq!(tally, Tally { sessions: 1, ..Tally::default() });
}

#[test]
fn a_second_sender_changes_nothing_and_421_ends_it_all() {
    let text = "EHLO a\r\nMAIL FROM:<x@a>\r\nMAIL FROM:<y@a>\r\nRCPT TO:<y@b>\r\nRSET\r\n\
                MAIL FROM:<x@a>\r\nRCPT TO:<y+rcpt421@b>\r\nRCPT TO:<y@b>\r\n";
    let (codes, _, tally) = talk(text, 9, obedient());
    assert_eq!(codes, "250 250 503 250 250 250 421");
    assert_eq!((tally.messages, tally.recipients), (Outcomes::of(0, 1, 0), Outcomes::of(1, 1, 0)));
}

#[test]
fn an_answer_that_never_comes_leaves_the_message_unknown() {
    for (text, unknown) in
        [("DATA\r\n.\r\nQUIT\r\n", 1), ("DATA\r\nhalf", 1), ("BDAT 4 LAST\r\nab", 1), ("BDAT 1\r\nx", 0)]
    {
        let head = "EHLO a\r\nMAIL FROM:<x+body000@a>\r\nRCPT TO:<y@b>\r\n";
        let (_, messages, tally) = talk(&format!("{head}{text}"), 4, obedient());
        assert_eq!((messages.len(), tally.unknown, tally.messages.total()), (0, unknown, 0), "{text:?}");
    }
}

#[test]
fn the_first_attempt_of_a_triple_is_put_off_by_a_greylist() {
    let greylist = Some(Default::default());
    let text = "EHLO a\r\nMAIL FROM:<x@a>\r\nRCPT TO:<y@b>\r\nRCPT TO:<y@b>\r\nRCPT TO:<z@b>\r\n";
    assert_eq!(talk(text, 9, Behaviour { greylist, ..plain() }).0, "250 250 451 250 451");
}
