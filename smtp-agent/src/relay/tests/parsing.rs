//! Replies, addresses and targets: what is read, and what is never let through.

use std::net::IpAddr;

use proptest::prelude::*;

use super::super::{
    command::{Command, HelloName, Mailbox, is_domain},
    probe::{Kind, Names, probes},
    reply::{Fault, LONGEST_LINE, MOST_LINES, Reader, Reply},
    target::{Target, Vantage, is_own},
    verdict::Reason,
};

fn read(bytes: &[u8]) -> Result<Vec<Reply>, Fault> {
    let mut reader = Reader::default();
    bytes.iter().filter_map(|octet| reader.push(*octet).transpose()).collect()
}

fn one(text: &str) -> Reply {
    read(text.as_bytes()).expect("a reply").remove(0)
}

#[test]
fn replies_of_one_line_and_of_several_are_read() {
    let replies =
        read(b"220 mx.example ESMTP\r\n250-mx\r\n250-SIZE\r\n250 HELP\r\n550\r\n451 later\n").expect("replies");
    let codes: Vec<_> = replies.iter().map(|reply| (reply.code, reply.lines.len())).collect();
    assert_eq!(codes, [(220, 1), (250, 3), (550, 1), (451, 1)]);
    assert_eq!(replies[0].first_word(), Some("mx.example"));
    assert_eq!(replies[1].lines, ["250-mx", "250-SIZE", "250 HELP"]);
    assert_eq!(replies[2].first_word(), None);
}

#[test]
fn what_is_no_reply_is_told_and_nothing_moves_the_cursor() {
    for bad in ["", "ok", "25", "2500 x", "250x", "950 x", "150 x", "354 go on", "HTTP/1.1 400 Bad Request", " 250 ok"]
    {
        assert!(matches!(read(format!("{bad}\r\n").as_bytes()), Err(Fault::NotSmtp(_))), "{bad:?}");
    }
    assert_eq!(read(b"250-a\r\n550 b\r\n"), Err(Fault::CodesDiffer));
    assert_eq!(read(&vec![b'2'; LONGEST_LINE + 1]), Err(Fault::LineTooLong));
    assert_eq!(read("250-x\r\n".repeat(MOST_LINES + 1).as_bytes()), Err(Fault::TooManyLines));
    let reply = one("250 \x1b[31m\u{202e}red\r\n");
    assert_eq!(reply.lines, ["250 \\u{1b}[31m\\u{202e}red"]);
}

#[test]
fn a_refusal_tells_what_it_is_about() {
    for (line, reason) in [
        ("554 5.7.1 <victim@to.example>: Relay access denied", Reason::Relaying),
        ("550 relay not permitted", Reason::Relaying),
        ("550 5.7.1 Relaying denied. Proper authentication required.", Reason::Authentication),
        ("553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)", Reason::Relaying),
        ("530 5.7.0 Authentication Required", Reason::Authentication),
        ("530 5.7.0 Must issue a STARTTLS command first", Reason::Encryption),
        ("550 5.1.8 <a@from.example>: Sender address rejected: Domain not found", Reason::Addresses),
        ("450 4.1.2 <v@to.example>: Recipient address rejected: Domain not found", Reason::Addresses),
        (
            "556 5.1.10 <v@to.example>: Recipient address rejected: Domain does not accept mail (nullMX)",
            Reason::Addresses,
        ),
        ("550 Sender verify failed", Reason::Addresses),
        ("554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.example", Reason::Client),
        ("450 4.7.25 Client host rejected: cannot find your hostname, [192.0.2.1]", Reason::Client),
        ("451 4.7.1 Greylisted, please try again", Reason::Later),
        ("454 4.7.1 <v@to.example>: Relay access denied", Reason::Relaying),
        ("501 <v%to.example>: recipient address must contain a domain", Reason::Addresses),
        ("550 5.7.54 SMTP; Unable to relay recipient in non-accepted domain", Reason::Relaying),
        ("513 Relaying denied.", Reason::Relaying),
        ("550 Invalid recipient: <victim@to.example>", Reason::Relaying),
        ("550 Administrative prohibition", Reason::Unnamed),
        ("550 5.1.1 User unknown", Reason::Unnamed),
        ("550 rejected because 192.0.2.9 is in a black list at zen.spamhaus.org", Reason::Client),
        ("550 JunkMail rejected - client.example [192.0.2.9] is in an RBL: https://example.org/", Reason::Client),
        ("550 5.7.1 IP listed at Spamhaus, see https://example.org/", Reason::Client),
        ("554 5.7.1 Too many connections from your IP", Reason::Client),
        ("451 4.7.1 Greylisted, for your mail relay is new here", Reason::Later),
        ("550", Reason::Unnamed),
        ("450", Reason::Later),
    ] {
        assert_eq!(Reason::of(&one(&format!("{line}\r\n"))), reason, "{line}");
    }
}

#[test]
fn a_target_is_a_host_an_address_or_either_with_a_port() {
    for (text, shown) in [
        ("mail.example.org", "mail.example.org:25"),
        ("mail.example.org.:587", "mail.example.org:587"),
        ("localhost", "localhost:25"),
        ("192.0.2.1:2525", "192.0.2.1:2525"),
        ("2001:db8::1", "[2001:db8::1]:25"),
        ("[2001:db8::1]", "[2001:db8::1]:25"),
        ("[2001:db8::1]:26", "[2001:db8::1]:26"),
    ] {
        assert_eq!(text.parse::<Target>().map(|target| target.to_string()), Ok(shown.to_owned()), "{text}");
    }
    for (text, said) in [
        ("", "neither a host name nor an address"),
        ("mail.example.org:", "is no port"),
        ("mail.example.org:0", "is no port"),
        ("mail.example.org:+25", "is no port"),
        ("mail.example.org:70000", "from 1 to 65535"),
        ("[192.0.2.1]:25", "no IPv6 address"),
        ("[2001:db8::1", "the ] is missing"),
        ("[2001:db8::1]25", "after the ] comes"),
        ("127.1", "neither a host name nor an address"),
        ("-oProxy.example", "neither a host name nor an address"),
        ("a b", "neither a host name nor an address"),
        ("1:2:3", "neither a host name nor an address"),
    ] {
        let error = text.parse::<Target>().expect_err(text);
        assert!(error.contains(said), "{text}: {error}");
    }
}

#[test]
fn an_address_of_this_host_is_known_in_every_shape() {
    let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
    let own = ["203.0.113.7/24", "2001:db8:1::7/64"].map(|net| net.parse().expect("a network"));
    for yes in ["203.0.113.7", "::ffff:203.0.113.7", "2001:db8:1::7", "127.9.9.9", "::1", "0.0.0.0", "::"] {
        assert!(is_own(ip(yes), &own), "{yes}");
    }
    for no in ["203.0.113.8", "192.0.2.1", "2001:db8:1::8"] {
        assert!(!is_own(ip(no), &own), "{no}");
    }
    for (server, client, vantage) in [
        ("127.0.0.1", "127.0.0.1", Vantage::Loopback),
        ("203.0.113.7", "203.0.113.7", Vantage::Itself),
        ("203.0.113.8", "203.0.113.7", Vantage::SameNetwork),
        ("2001:db8:1::8", "2001:db8:1::7", Vantage::SameNetwork),
        ("10.1.2.3", "203.0.113.7", Vantage::Private),
        ("10.1.2.3", "10.1.2.4", Vantage::Private),
        ("192.0.2.1", "192.168.1.5", Vantage::Translated),
        ("45.33.32.156", "172.31.5.7", Vantage::Translated),
        ("192.0.2.1", "100.64.3.4", Vantage::Translated),
        ("203.0.113.8", "10.1.2.3", Vantage::SameNetwork),
        ("fd00::1", "fd00::2", Vantage::Private),
        ("192.0.2.1", "203.0.113.7", Vantage::Outside),
        ("2001:db8:2::1", "2001:db8:1::7", Vantage::Outside),
    ] {
        assert_eq!(Vantage::of(ip(server), ip(client), &own), vantage, "{server} from {client}");
    }
}

#[test]
fn the_classic_tricks_are_among_the_probes_for_every_name_of_the_server() {
    let names =
        Names::of(Some("Mail.server.example"), &one("220 mx.server.example hi\r\n"), "192.0.2.1".parse().unwrap());
    let all = probes(&names, &"t@from.example".parse().unwrap(), &"v@to.example".parse().unwrap(), "absent");
    let to: Vec<_> = all.iter().map(|probe| probe.to.as_str()).collect();
    for own in ["mail.server.example", "mx.server.example", "[192.0.2.1]"] {
        for trick in [
            format!("v%to.example@{own}"),
            format!("to.example!v@{own}"),
            format!("\"v@to.example\"@{own}"),
            format!("v@to.example@{own}"),
            format!("@{own}:v@to.example"),
            format!("absent@{own}"),
        ] {
            assert!(to.contains(&trick.as_str()), "{trick} is missing in {to:?}");
        }
    }
    for trick in ["v%to.example", "to.example!v", "\"v@to.example\"", "absent"] {
        assert!(to.contains(&trick), "{trick} is missing in {to:?}");
    }
    let from: Vec<_> = all.iter().filter_map(|probe| probe.from.as_deref()).collect();
    for sender in ["t@from.example", "", "t@mx.server.example", "postmaster@mx.server.example", "t@[192.0.2.1]", "t"] {
        assert!(from.contains(&sender), "{sender} is missing in {from:?}");
    }
    // Each trick has a control of its own domain.
    for probe in &all {
        let Kind::Trick { domain } = &probe.kind else { continue };
        assert!(all.iter().any(|one| one.kind == Kind::Control { domain: domain.clone() }), "{probe:?}");
    }
}

#[test]
fn a_greeting_that_is_no_name_is_not_put_into_addresses() {
    for greeting in
        ["220 ESMTP", "220", "220 a@b.example> x", "220 192.0.2.9 hi", "220 \u{1b}[1m.example", "220 -x.example"]
    {
        let names = Names::of(None, &one(&format!("{greeting}\r\n")), "2001:db8::1".parse().unwrap());
        let all = probes(&names, &"t@from.example".parse().unwrap(), &"v@to.example".parse().unwrap(), "absent");
        let own: Vec<_> = all.iter().filter_map(|p| p.to.strip_prefix("absent")).collect();
        assert_eq!(own, ["@[IPv6:2001:db8::1]", ""], "{greeting:?}");
    }
}

#[test]
fn no_address_or_name_from_the_command_line_can_end_a_line_or_an_address() {
    for bad in [
        "",
        "a",
        "@b",
        "a@",
        "a b@c",
        "a@b c",
        "a@b\r\nDATA",
        "a>@b",
        "a@b>",
        "<a@b>",
        "a@[1.2.3.4]",
        "ü@b",
        "a%b@c",
        "a!b@c",
        ".a@b",
        "\"a\"@b",
    ] {
        assert!(bad.parse::<Mailbox>().is_err(), "{bad:?}");
    }
    for bad in ["", "a b", "a\r\nQUIT", "[1.2.3.4", "[x]", "a>", "ü"] {
        assert!(bad.parse::<HelloName>().is_err(), "{bad:?}");
    }
    assert_eq!("[::1]".parse::<HelloName>().map(|name| name.to_string()), Ok("[IPv6:::1]".to_owned()));
    assert_eq!("[192.0.2.1]".parse::<HelloName>().map(|name| name.to_string()), Ok("[192.0.2.1]".to_owned()));
}

proptest! {
    #[test]
    fn any_octets_are_read_within_bounds(bytes: Vec<u8>) {
        let mut reader = Reader::default();
        for octet in bytes {
            match reader.push(octet) {
                Ok(Some(reply)) => {
                    prop_assert!((200..600).contains(&reply.code));
                    prop_assert!(!reply.lines.is_empty() && reply.lines.len() <= MOST_LINES);
                    prop_assert!(!reply.lines.iter().any(|line| line.chars().any(char::is_control)));
                    let _ = Reason::of(&reply);
                }
                Ok(None) => {}
                Err(_) => break,
            }
        }
    }

    #[test]
    fn replies_of_any_number_of_lines_are_read_as_one(
        code in prop::sample::select(vec![220u16, 250, 450, 554]),
        texts in prop::collection::vec("[ -~]{0,60}", 1..6),
    ) {
        let last = texts.len() - 1;
        let line = |(n, text)| format!("{code}{}{text}\r\n", if n == last { ' ' } else { '-' });
        let text: String = texts.iter().enumerate().map(line).collect();
        let replies = read(text.as_bytes()).unwrap();
        prop_assert_eq!(replies.len(), 1);
        prop_assert_eq!(replies[0].code, code);
        prop_assert_eq!(replies[0].lines.len(), texts.len());
    }

    #[test]
    fn whatever_is_taken_for_an_address_makes_one_line(
        text in "\\PC{0,40}",
        from in "\\PC{0,20}@\\PC{0,20}",
        plain in "[a-z0-9+_.-]{1,10}@[a-z0-9-]{1,10}\\.[a-z]{2,5}",
    ) {
        let _ = text.parse::<Target>();
        let _ = text.parse::<HelloName>();
        for address in [&from, &text, &plain] {
            let Ok(mailbox) = address.parse::<Mailbox>() else { continue };
            let greeting = Reply { code: 220, lines: vec![format!("220 {text}")] };
            let names = Names::of(None, &greeting, "192.0.2.1".parse().unwrap());
            for probe in probes(&names, &mailbox, &mailbox, "absent") {
                let sender = probe.from.unwrap_or_default();
                for line in [Command::Mail(&sender).to_string(), Command::Rcpt(&probe.to).to_string()] {
                    prop_assert!(line.bytes().all(|b| b.is_ascii_graphic() || b == b' '), "{:?}", line);
                    // The one between the two words of the command.
                    prop_assert_eq!(line.matches(' ').count(), 1);
                    prop_assert_eq!(line.matches('>').count(), 1);
                    prop_assert!(line.starts_with("MAIL FROM:<") || line.starts_with("RCPT TO:<"));
                }
            }
        }
    }

    #[test]
    fn a_target_is_read_back_as_it_is_shown(text in "[a-z0-9.:\\[\\]-]{1,30}") {
        if let Ok(target) = text.parse::<Target>() {
            prop_assert_eq!(target.to_string().parse::<Target>(), Ok(target));
        }
    }

    #[test]
    fn a_domain_has_nothing_but_letters_digits_and_three_signs(text in "\\PC{0,70}") {
        if is_domain(&text) {
            prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)));
        }
    }
}
