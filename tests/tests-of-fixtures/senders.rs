//! Does the sink count what real programs have sent?

use smtp_tests::{
    Cgroup, Netns, Sink, Veth, eventually,
    mta::{Exim, Letter, Msmtp, Postfix, Swaks},
    sink::{Builder, Outcomes, Tally},
};
use std::{fs, time::Duration};

const USER: u32 = 5001;

/// A sink behind a wire, told how to behave.
fn far(port: u16, behave: impl FnOnce(Builder) -> Builder) -> (Sink, Veth) {
    let ns = Netns::new();
    let veth = Veth::between_host_and(&ns);
    (behave(Sink::at((veth.far.v4, port)).netns(&ns)).start(), veth)
}

fn tally(sessions: u64, messages: Outcomes, recipients: Outcomes) -> Tally {
    Tally { sessions, messages, recipients, ..Tally::default() }
}

fn words(count: usize) -> String {
    "MAIL FROM:<x@y>\n250 ok\n.\n".repeat(count)
}

#[test]
fn what_exim_sends_is_tallied_with_and_without_chunking() {
    for chunking in [true, false] {
        let (sink, _veth) = far(25, |sink| if chunking { sink.obedient().chunking() } else { sink.obedient() });
        let exim = Exim::sending_to(sink.address()).start();
        for n in 0..4 {
            // Long enough for more than one chunk.
            let letter = Letter::to(&[format!("a{n}@far.test"), format!("b{n}@far.test")]).body(&words(2000));
            exim.queue_up(USER, None, &letter).expect_ok("exim");
        }
        exim.queue_up(USER, None, &Letter::to(&["a@far.test", "b+rcpt550@far.test"])).expect_ok("exim");
        exim.queue_up(USER, None, &Letter::to(&["c+rcpt550@far.test"])).expect_ok("exim");
        exim.run_queue_together(None).expect_ok("exim -qqff");
        let messages = sink.messages();
        assert!(messages.iter().all(|message| message.chunked == chunking), "{messages:?}");
        let came = sink.settled_tally();
        assert!(came.sessions < 6, "{came:?}: some sessions carry several messages\n{}", exim.mainlog());
        assert_eq!(came, tally(came.sessions, Outcomes::of(5, 0, 1), Outcomes::of(9, 0, 2)), "{}", exim.mainlog());
    }
}

#[test]
fn exim_speaks_prdr_and_starttls_where_they_are_offered() {
    let (sink, _veth) = far(25, |sink| sink.obedient().prdr());
    let exim = Exim::sending_to(sink.address()).start();
    let letter = Letter::to(&["a@far.test", "b+each550@far.test", "c+rcpt550@far.test"]);
    exim.send_letter(USER, None, &letter).expect_ok("exim");
    assert_eq!(sink.messages()[0].to, ["a@far.test"], "{}", exim.mainlog());
    assert_eq!(sink.settled_tally(), tally(1, Outcomes::of(1, 0, 0), Outcomes::of(2, 0, 1)));

    let (sink, _veth) = far(587, Builder::starttls);
    let exim = Exim::sending_to(sink.address()).tls().start();
    exim.send_letter(USER, None, &Letter::to(&["a@far.test"])).expect_ok("exim");
    assert_eq!(sink.messages().len(), 1, "{}", exim.mainlog());
    assert_eq!(sink.settled_tally(), Tally { sessions: 1, encrypted: 1, ..Tally::default() });
}

#[test]
fn what_postfix_sends_is_tallied_and_it_ends_whole() {
    let (sink, _veth) = far(25, |sink| sink.obedient().greylist());
    let cgroup = Cgroup::new("mta");
    let [postfix, other] = [sink.address(), ([127, 0, 0, 1], 9).into()].map(|relay| {
        Postfix::sending_to(relay)
            .user("shop", USER)
            .main_option("smtp_tls_security_level = none")
            .start_in(Some(&cgroup))
    });
    for n in 0..4 {
        let letter = Letter::to(&[format!("a{n}@far.test"), format!("b{n}@far.test")]).body(&words(2000));
        postfix.send(USER, None, &letter).expect_ok("sendmail");
    }
    postfix.send(USER, None, &Letter::to(&["a+rcpt550@far.test", "b@far.test"])).expect_ok("sendmail");
    postfix.wait_until_tried();
    assert_eq!((sink.messages().len(), postfix.deferred()), (0, 5), "{}", postfix.log());
    assert_eq!(sink.tally().recipients, Outcomes::of(0, 10, 0));
    postfix.run_queue();
    assert_eq!((sink.messages().len(), postfix.deferred(), other.deferred()), (5, 0, 0), "{}", postfix.log());
    let came = sink.tally();
    assert!(came.sessions < 10, "{came:?}: some sessions carry several messages\n{}", postfix.log());
    let expected = tally(came.sessions, Outcomes::of(5, 5, 0), Outcomes::of(9, 10, 1));
    assert_eq!(came, expected, "{}", postfix.log());
    assert!(postfix.log().contains("uid=5001") && postfix.uid() > 0);

    other.send(USER, None, &Letter::to(&["a@far.test"])).expect_ok("sendmail");
    other.wait_until_tried();
    assert_eq!((other.deferred(), sink.messages().len()), (1, 5), "{}", other.log());
    drop((postfix, other));
    let left = || fs::read_to_string(cgroup.path().join("cgroup.procs")).unwrap();
    eventually(Duration::from_secs(1), "no daemon is left behind", || left().is_empty());
    assert_eq!(sink.settled_tally(), expected);
}

#[test]
fn postfix_speaks_lmtp_and_tls() {
    let (sink, _veth) = far(24, |sink| sink.obedient().lmtp());
    let postfix = Postfix::sending_to(sink.address()).lmtp().start();
    let letter = Letter::to(&["a@far.test", "b+each452@far.test", "c+rcpt550@far.test"]);
    postfix.send(USER, None, &letter).expect_ok("sendmail");
    postfix.wait_until_tried();
    assert_eq!((sink.messages()[0].to.join(","), postfix.deferred()), ("a@far.test".into(), 1), "{}", postfix.log());
    drop(postfix);
    assert_eq!(sink.settled_tally(), tally(1, Outcomes::of(1, 0, 0), Outcomes::of(2, 0, 1)));

    let (sink, _veth) = far(25, |sink| sink.starttls());
    let postfix = Postfix::sending_to(sink.address()).main_option("smtp_tls_security_level = encrypt").start();
    postfix.send(USER, None, &Letter::to(&["a@far.test"])).expect_ok("sendmail");
    postfix.wait_until_tried();
    assert_eq!(sink.messages().len(), 1, "{}", postfix.log());
    drop(postfix);
    assert_eq!(sink.settled_tally(), Tally { sessions: 1, encrypted: 1, ..Tally::default() });
}

#[test]
fn swaks_speaks_every_dialect_as_the_user_who_runs_it() {
    let letter = || Letter::to(&["a@far.test", "b+rcpt450@far.test", "c@far.test"]).body("one\n.two\n");
    let one_message = tally(1, Outcomes::of(1, 0, 0), Outcomes::of(2, 1, 0));
    let hidden = Tally { sessions: 1, encrypted: 1, ..Tally::default() };
    let send = |behave: fn(Builder) -> Builder, options: &[&str], expected: Tally| {
        let (sink, _veth) = far(25, |sink| behave(sink.obedient()));
        let sent = Swaks::sending_to(sink.address()).send(USER, None, &letter(), options);
        assert_eq!(sent.code, 0, "{options:?}: {}\n{}", sent.stdout, sent.stderr);
        let [message] = &sink.messages()[..] else { panic!("{options:?}: {}", sent.stdout) };
        assert_eq!(message.to, ["a@far.test", "c@far.test"]);
        assert!(message.text.contains("\r\none\r\n.two\r\n"), "{:?}", message.text);
        assert_eq!(sink.settled_tally(), expected, "{options:?}");
    };
    send(|sink| sink.chunking(), &[], one_message);
    send(|sink| sink, &["--pipeline"], one_message);
    send(|sink| sink.lmtp(), &["--protocol", "LMTP"], one_message);
    send(|sink| sink.prdr(), &["--prdr"], one_message);
    let login = ["--auth", "LOGIN", "--auth-user", "jo", "--auth-password", "secret"];
    send(|sink| sink.auth(), &login, one_message);
    send(|sink| sink.starttls(), &["--tls"], hidden);
    send(|sink| sink.implicit_tls(), &["--tlsc"], hidden);
    let sink = Sink::at("[::1]:0".parse::<std::net::SocketAddr>().unwrap()).start();
    Swaks::sending_to(sink.address()).send(USER, None, &letter(), &[]).expect_ok("swaks over IPv6");
    assert_eq!(sink.settled_tally().messages, Outcomes::of(1, 0, 0));
}

#[test]
fn msmtp_gives_up_a_message_when_one_recipient_is_refused() {
    let (sink, _veth) = far(25, |sink| sink.obedient());
    let msmtp = Msmtp::sending_to(sink.address());
    let good = Letter::to(&["a@far.test", "b@far.test"]).body(&words(1000));
    msmtp.send(USER, None, &good, &[]).expect_ok("msmtp");
    assert_eq!(sink.settled_tally(), tally(1, Outcomes::of(1, 0, 0), Outcomes::of(2, 0, 0)));
    let refused = msmtp.send(USER, None, &Letter::to(&["a@far.test", "b+rcpt550@far.test"]), &[]);
    assert!(refused.code != 0 && refused.stderr.contains("b+rcpt550@far.test"), "{}", refused.stderr);
    // It had sent DATA with its recipients (PIPELINING), hears 354, and hangs up.
    let given_up = tally(2, Outcomes::of(1, 0, 0), Outcomes::of(3, 0, 1));
    assert_eq!(sink.settled_tally(), Tally { unknown: 1, ..given_up });

    let (sink, _veth) = far(587, |sink| sink.starttls());
    let options = ["--tls=on", "--tls-certcheck=off"];
    Msmtp::sending_to(sink.address()).send(USER, None, &good, &options).expect_ok("msmtp with TLS");
    assert_eq!(sink.messages().len(), 1);
    assert_eq!(sink.settled_tally(), Tally { sessions: 1, encrypted: 1, ..Tally::default() });
}
