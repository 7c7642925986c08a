//! Conversations at random, and what the parser must make of them.

use super::*;
use proptest::{collection::vec as vec_of, prelude::*, sample::select};
use std::vec;

const ARGUMENTS: &str = "| |:| FROM:<a@b.example>|:<a@b>| TO:<\0>|\0\0| \r x|\t|=x| \r|\u{e9}|-- DATA| PLAIN AGEAYg==| x\rDATA\r\
    | SIZE=5 BODY=8BITMIME PRDR|\x7f";

/// Lines that are no command of the count, however much they look like one.
const ASIDES: &str = "| |NOOP|noop \0DATA|VRFY a|HELP|MAILX FROM:<a>|RCPT1|DATA2|xDATA|\0DATA|\rDATA|DAT|STARTTL|STARTTLSX\
    |START TLS|STAR|AUTHOR|QUITE|RSETS|LHLOx|M|.|250 OK|354 go|GET / HTTP/1.1|EXPN DATA|XCLIENT ADDR=1\
    |\u{e9}HLO|BDATX 5 LAST|EHLO5|--|MAI L|NOOP BDAT 5 LAST";

const PIECES: &str = "MAIL FROM:<a>\r\n|RCPT TO:<a>\r\n|DATA\r\n|QUIT\r\n|RSET\r\n|STARTTLS\r\n|BDAT 500 LAST\r\n|\n.\n\
    |\n.\r\n|\r\n.\n|\r\n.\r|\r.\r|.\r\n|..\r\n|.|\r|\n|\0|x|\r\n|\r\n|\r\n.x\r\n|\r\r\n|250 ok\r\n\
    |354 go\r\n|220 \n|334-x\r\n|250-CHUNKING\r\n|Subject: x\r\n|EHLO x\n|AUTH\n";

/// Lines before the last of a reply.
const BEFORE: &str = "%-354 x|%-CHUNKING|%-|354-go|250-ok|%-5.1.1 no|220-TLS|334-|%- 250 x|%-\r|421-\0";

const KEYWORDS: &str = "%-XCHUNKING|%-CHUNKINGS|%-SIZE CHUNKING|%-PIPELINING|%-PRDR|%-STARTTLS|%-AUTH PLAIN LOGIN|%-|%-CHUNK\
    |%-354";

const NOISY_COMMANDS: &str = "EHLO x\r\n|LHLO x\r\n|HELO x\n|MAIL\r\n|RCPT\r\n|RCPT\r\n|DATA\r\n|BDAT 3 LAST\r\nabc|BDAT 0\r\n\
    |BDAT 18446744073709551615\n|BDAT 18446744073709551616 LAST\n|BDAT -1\n|BDAT +1\n|BDAT\n|BDAT 4x\n\
    |BDAT 4 LASTLY\n|AUTH\r\n|STARTTLS\n|QUIT\n|RSET\n|\r\n.\r\n|.\r\n";

const NOISY_REPLIES: &str = "250 ok\r\n|250|354 go\r\n|353\r\n|334 \n|220 x\n|421-\r\n|550 no\r\n|451\n|2500\r\n|25|250\tx\n|-\
    |999 x\n|000\n|150 \r\n|\n|250-CHUNKING\r\n250 x\r\n";

/// One of the strings in a list, which has `|` between them.
fn one_of(list: &'static str) -> impl Strategy<Value = &'static str> {
    select(list.split('|').collect::<Vec<_>>())
}

// Boxed, or a tree of strategies grows too large for the stack of a test thread.
fn words() -> BoxedStrategy<Words> {
    let blanks = prop_oneof![4 => Just(""), 1 => one_of(" |\t| \t  ")];
    let upper = prop_oneof![Just(0xff), any::<u8>()];
    (blanks, upper, one_of(ARGUMENTS), prop_oneof![3 => Just("\r\n"), 1 => Just("\n")])
        .prop_map(|(blanks, upper, argument, end)| Words { blanks, upper, argument, end })
        .boxed()
}

fn reply(codes: &'static [u16]) -> BoxedStrategy<Reply> {
    let before = prop_oneof![2 => Just(vec![]), 1 => vec_of(one_of(BEFORE), 1..4)];
    let text = one_of(" ok|| | 354 x| -| CHUNKING| 2.1.5\tok\r");
    (select(codes), before, text, prop_oneof![4 => Just("\r\n"), 1 => Just("\n")])
        .prop_map(|(code, before, text, end)| Reply { code, before, text, end })
        .boxed()
}

fn step(act: impl Strategy<Value = Act> + 'static, codes: &'static [u16]) -> BoxedStrategy<Step> {
    (act, words(), reply(codes)).prop_map(|(act, words, reply)| Step(act, words, reply)).boxed()
}

fn bytes() -> BoxedStrategy<Vec<u8>> {
    let piece = prop_oneof![
        12 => one_of(PIECES).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => vec_of(any::<u8>(), 0..30),
        1 => (60usize..300).prop_map(|n| vec![b'y'; n]),
    ];
    vec_of(piece, 0..10).prop_map(|pieces| pieces.concat()).boxed()
}

fn mail() -> BoxedStrategy<Step> {
    prop_oneof![4 => step(Just(Act::Mail), &[250]), 1 => step(Just(Act::Mail), &[250, 451, 421, 550, 530, 503])].boxed()
}

fn rcpt() -> BoxedStrategy<Step> {
    prop_oneof![
        3 => step(Just(Act::Rcpt), &[250, 251]),
        2 => step(Just(Act::Rcpt), &[450, 452, 421]),
        2 => step(Just(Act::Rcpt), &[550, 553, 503]),
        1 => step(Just(Act::Rcpt), &[250, 450, 550, 334, 353, 220]),
    ]
    .boxed()
}

/// Anything that leaves an open transaction as it is.
fn beside() -> BoxedStrategy<Step> {
    let line = prop_oneof![8 => one_of(ASIDES), 1 => Just("BDAT")].prop_map(Act::Aside);
    let answer = one_of("|AGEAYg==|DATA|MAIL FROM:<x>|*|QUIT|BDAT 99 LAST|.| STARTTLS|\0");
    let auth = vec_of((answer, reply(&[334])), 0..4).prop_map(Act::Auth);
    prop_oneof![
        4 => step(line, &[250, 214, 252, 500, 502, 421, 334, 353, 220]),
        1 => step(auth, &[235, 535, 454, 503, 250]),
        1 => step(Just(Act::StartTls(vec![])), &[454, 501, 503, 250, 221]),
    ]
    .boxed()
}

fn content() -> BoxedStrategy<Step> {
    let one = prop_oneof![reply(&[250, 251]), reply(&[250, 451, 421, 452, 550, 554, 552]), reply(&[451, 550])];
    let ending = (any::<bool>(), vec_of(one, 1..4)).prop_map(|(prdr, outcomes)| Ending { prdr, outcomes }).boxed();
    let data = (bytes(), ending.clone()).prop_map(|(body, ending)| Act::Data(body, ending)).boxed();
    let chunk_reply = prop_oneof![5 => reply(&[250]), 1 => reply(&[451, 552, 503])];
    let chunks = vec_of((bytes(), chunk_reply), 1..4);
    let bdat = (chunks, prop::bool::weighted(0.8), ending).prop_map(|(chunks, last, e)| Act::Bdat(chunks, last, e));
    prop_oneof![
        4 => step(data.clone(), &[354]),
        1 => step(data, &[451, 421, 503, 554]),
        3 => step(bdat, &[250]),
    ]
    .boxed()
}

fn hello() -> BoxedStrategy<Step> {
    let act = (prop::bool::weighted(0.8), prop::bool::weighted(0.7), vec_of(one_of(KEYWORDS), 0..4))
        .prop_map(|(extended, chunking, keywords)| Act::Hello(extended, chunking, keywords))
        .boxed();
    prop_oneof![6 => step(act.clone(), &[250]), 1 => step(act, &[501, 421, 550])].boxed()
}

/// A few steps that belong together, most often a whole transaction.
fn scene() -> BoxedStrategy<Vec<Step>> {
    let rcpts = vec_of(prop_oneof![6 => rcpt(), 1 => beside(), 1 => mail()], 0..5);
    let reset = step(Just(Act::Reset), &[250, 503]);
    prop_oneof![
        6 => (mail(), rcpts, prop::option::weighted(0.85, content()))
            .prop_map(|(mail, rcpts, content)| [vec![mail], rcpts, content.into_iter().collect()].concat()),
        1 => prop_oneof![beside(), reset, hello(), content(), rcpt()].prop_map(|step| vec![step]),
    ]
    .boxed()
}

/// Most often after a transaction that is still open.
fn farewell() -> BoxedStrategy<Vec<Step>> {
    let hang = (bytes(), any::<bool>()).prop_map(|(body, bdat)| Act::Hang(body, bdat));
    prop_oneof![
        2 => Just(vec![]),
        3 => step(Just(Act::Quit), &[221, 421, 500]).prop_map(|step| vec![step]),
        3 => (mail(), vec_of(rcpt(), 1..4), step(hang, &[354]))
            .prop_map(|(mail, rcpts, hang)| [vec![mail], rcpts, vec![hang]].concat()),
        1 => step(bytes().prop_map(Act::StartTls), &[220]).prop_map(|step| vec![step]),
    ]
    .boxed()
}

/// Conversations in which both sides wait where they must, with what they amount to.
pub(crate) fn conversation() -> impl Strategy<Value = (Transcript, Tally)> {
    let steps = (prop::option::weighted(0.9, hello()), vec_of(scene(), 0..5), farewell())
        .prop_map(|(hello, scenes, farewell)| [hello.into_iter().collect(), scenes.concat(), farewell].concat());
    let length = prop_oneof![4 => Just(1), 2 => 2usize..6, 2 => 6usize..60, 2 => Just(usize::MAX)];
    let cuts = vec_of((any::<bool>(), length), 1..40);
    let greeting = (reply(&[220, 220, 554, 354]), prop::bool::weighted(0.8));
    let parts = (prop::bool::weighted(0.2), greeting, steps, cuts).boxed();
    parts.prop_map(|(lmtp, (greeting, patient), steps, cuts)| {
        let mut script = Script { chunking: Some(false), ..Script::default() };
        // Where the first command is not an LHLO that finds favour, the conversation is not LMTP.
        script.lmtp = lmtp && matches!(steps.first(), Some(Step(Act::Hello(..), _, reply)) if reply.class() == 2);
        script.exchange(vec![], &[&greeting], patient);
        steps.into_iter().for_each(|step| script.play(step));
        script.give_up();
        (script.segments(&cuts), script.tally)
    })
}

/// Conversations that end at any segment: only [`parse`] knows what they amount to.
pub(crate) fn cut_off() -> impl Strategy<Value = Transcript> {
    (conversation(), any::<prop::sample::Index>()).prop_map(|((mut transcript, _), at)| {
        transcript.truncate(at.index(transcript.len()) + 1);
        transcript
    })
}

/// Anything at all, from either side, with a taste for SMTP.
pub(crate) fn noise() -> impl Strategy<Value = Transcript> {
    let word = |words| one_of(words).prop_map(|word| word.as_bytes().to_vec());
    let piece = prop_oneof![
        3 => word(NOISY_COMMANDS),
        3 => word(NOISY_REPLIES),
        1 => word(ASIDES),
        1 => word(PIECES),
        1 => vec_of(any::<u8>(), 0..8),
    ];
    let side = prop_oneof![Just(Side::Client), Just(Side::Server)];
    vec_of((side, vec_of(piece, 0..4).prop_map(|pieces| pieces.concat())), 0..60)
}

/// A generator that never gets somewhere would make every property hold there.
#[test]
fn conversations_reach_everything_that_is_counted() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let mut reached = [0u64; 11];
    let mut single_bytes = 0;
    for _ in 0..1_000 {
        let (transcript, t) = conversation().new_tree(&mut runner).unwrap().current();
        let [accepted, deferred, rejected, unknown] = t.messages;
        let [to, later, never] = t.recipients;
        let rest = [t.go_aheads, t.bdat_starts, t.rcpt_commands, u64::from(t.encrypted)];
        let all = [&[accepted, deferred, rejected, unknown, to, later, never][..], &rest].concat();
        reached.iter_mut().zip(all).for_each(|(sum, n)| *sum += n);
        single_bytes += transcript.iter().filter(|(_, bytes)| bytes.len() == 1).count();
    }
    assert!(reached.iter().all(|&n| n >= 30), "{reached:?}");
    assert!(single_bytes > 10_000, "{single_bytes}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_parser_counts_what_the_script_meant((transcript, tally) in conversation()) {
        prop_assert_eq!(parse(&transcript), tally);
    }

    #[test]
    fn no_transcript_yields_more_outcomes_than_replies(transcript in prop_oneof![noise(), cut_off()]) {
        let tally = parse(&transcript);
        // One more: what the end of the connection settles.
        prop_assert!(tally.messages.iter().sum::<u64>() <= tally.replies + 1, "{tally:?}");
        prop_assert!(tally.recipients.iter().sum::<u64>() <= tally.rcpt_commands.min(tally.replies), "{tally:?}");
    }
}
