//! The real exim, and postfix's load generator.

use smtp_tests::{Cgroup, Netns, Sink, Veth, eventually, mta::Exim, netstat, sink::Stage};
use std::time::Duration;

const USER: u32 = 5001;

#[test]
fn exim_delivers_what_an_ordinary_user_hands_in_and_opens_fast() {
    for (family, chunking) in [(0, true), (1, false)] {
        let (ns, cgroup) = (Netns::new(), Cgroup::new("mta"));
        let veth = Veth::between_host_and(&ns);
        let sink = Sink::at((veth.far.both()[family], 587)).netns(&ns);
        let sink = if chunking { sink.chunking() } else { sink }.start();
        let exim = Exim::sending_to(sink.address()).user("shop", USER).start();
        let sent = exim.send(USER, Some(&cgroup), "shop@client.test", "you@far.test", "hello\n.dot").expect_ok("exim");
        assert_eq!((sent.stdout.as_str(), sent.stderr.as_str()), ("", ""));
        let [message] = &sink.messages()[..] else { panic!("{:?}\n{}", sink.messages(), exim.mainlog()) };
        assert_eq!((message.from.as_str(), message.chunked), ("shop@client.test", chunking));
        assert_eq!(message.to, ["you@far.test"]);
        assert!(message.text.contains("Subject: a test\r\n"), "{}", message.text);
        assert!(message.text.ends_with("\r\n\r\nhello\r\n.dot\r\n"), "{:?}", message.text);
        assert_eq!((sink.connections(), exim.queue()), (1, 0));
        let log = exim.mainlog();
        assert!(log.contains("U=shop") && log.contains("=> you@far.test"), "{log}");
        // The first connection asks for a cookie in its SYN, which connect(2) alone never does, and the
        // second one uses it.
        let counter = |name| netstat::counter(Some(&ns), "TcpExt", name);
        assert_eq!((counter("TCPFastOpenCookieReqd"), counter("TCPFastOpenPassive")), (1, 0));
        exim.send(USER, None, "shop@client.test", "you@far.test", "again").expect_ok("exim");
        assert_eq!((counter("TCPFastOpenCookieReqd"), counter("TCPFastOpenPassive")), (1, 1));
        assert_eq!((sink.connections(), sink.messages().len()), (2, 2));
    }
}

#[test]
fn mail_put_off_stays_queued_until_a_queue_run() {
    let (ns, host) = (Netns::new(), Netns::new());
    let veth = Veth::between(&host, &ns);
    let exim = Exim::sending_to((veth.far.v4, 25).into()).netns(&host).start();
    // A user without a name.
    exim.send(USER, None, "a@client.test", "b@far.test", "one").expect_ok("exim");
    assert_eq!(exim.queue(), 1);
    assert!(exim.mainlog().contains("Connection refused"), "{}", exim.mainlog());
    let busy = Sink::at((veth.far.v4, 25)).netns(&ns).answer(Stage::Rcpt, "451 4.3.0 later").start();
    exim.run_queue(None).expect_ok("exim -qff");
    assert_eq!((exim.queue(), busy.messages().len()), (1, 0));
    drop(busy);
    let sink = Sink::at((veth.far.v4, 25)).netns(&ns).start();
    exim.run_queue(None).expect_ok("exim -qff");
    eventually(Duration::from_secs(5), "the queue is empty", || exim.queue() == 0);
    assert_eq!(sink.messages().len(), 1);
}

#[test]
fn exim_runs_in_the_callers_cgroup_and_two_do_not_share_a_spool() {
    let cgroup = Cgroup::new("mta");
    let [a, b] = [0, 1].map(|_| Exim::sending_to(([127, 0, 0, 1], 9).into()).start());
    let seen = a.exim(&["-be", "${readfile{/proc/self/cgroup}}"], None, Some(&cgroup)).expect_ok("exim -be").stdout;
    assert!(seen.contains(&format!("0::{}\n", cgroup.name())), "{seen}");
    a.send(USER, None, "a@client.test", "b@far.test", "one").expect_ok("exim");
    assert_eq!((a.queue(), b.queue()), (1, 0));
    assert!(a.uid() > 0);
}

#[test]
fn smtp_source_sends_as_the_user_who_runs_it() {
    let (ns, cgroup) = (Netns::new(), Cgroup::new("mta"));
    let veth = Veth::between_host_and(&ns);
    let sink = Sink::at((veth.far.v4, 25)).netns(&ns).start();
    let root = Exim::sending_to(sink.address()).start();
    let to = format!("{}:25", veth.far.v4);
    let arguments = ["-m", "300", "-s", "10", "-d", "-f", "a@client.test", "-t", "b@far.test", &to];
    root.smtp_source(Some(USER), Some(&cgroup), &arguments).expect_ok("smtp-source");
    assert_eq!(sink.messages().len(), 300);
    // -d: sessions are kept and carry more than one message.
    assert_eq!(sink.connections(), 10);
}
