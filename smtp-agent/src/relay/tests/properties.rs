//! What holds of the conclusion, whatever the answers are.

use proptest::prelude::*;

use super::{
    super::{
        probe::Kind,
        verdict::Reason,
        visit::{Outcome, Tried},
    },
    *,
};

fn kind() -> impl Strategy<Value = Kind> {
    let domain = || prop::sample::select(vec!["", "mx.example", "[192.0.2.1]"]).prop_map(str::to_owned);
    prop_oneof![
        Just(Kind::Relay),
        domain().prop_map(|domain| Kind::Trick { domain }),
        domain().prop_map(|domain| Kind::Control { domain }),
    ]
}

fn tried() -> impl Strategy<Value = Tried> {
    let outcomes = vec![Outcome::Accepted, Outcome::Refused, Outcome::Deferred, Outcome::Unanswered];
    use Reason::{Addresses, Authentication, Client, Encryption, Later, Relaying, Unnamed};
    let reasons = vec![Relaying, Unnamed, Authentication, Encryption, Addresses, Client, Later];
    let answers = prop::sample::select(vec!["550 no", "550 never"]);
    let parts = (kind(), prop::sample::select(outcomes), prop::sample::select(reasons), answers);
    parts.prop_map(|(kind, outcome, reason, answer)| {
        let reason = matches!(outcome, Outcome::Refused | Outcome::Deferred).then_some(reason);
        let (from, to, answer) = ("a@from.example".into(), "b@to.example".into(), answer.into());
        Tried { name: "probe", from, to, kind, outcome, reason, answer, dialogue: Vec::new() }
    })
}

fn vantage() -> impl Strategy<Value = Vantage> {
    use Vantage::{Itself, Loopback, Outside, Private, SameNetwork, Translated};
    prop::sample::select(vec![Loopback, Itself, Private, SameNetwork, Translated, Outside])
}

/// A recipient that was taken and is not there for comparison.
fn is_taken(one: &Tried) -> bool {
    one.outcome == Outcome::Accepted && !one.is_control()
}

proptest! {
    #[test]
    fn open_is_said_only_of_what_was_taken_and_never_from_a_place_that_is_trusted(
        tried in prop::collection::vec(tried(), 0..12), vantage in vantage(),
    ) {
        let conclusion = conclude(&tried, vantage);
        if conclusion.verdict == Verdict::Open {
            prop_assert!(!vantage.is_trusted());
            prop_assert!(is_taken(&tried[conclusion.by.unwrap()]));
        }
    }

    #[test]
    fn closed_is_said_only_where_nothing_was_taken_or_left_open(
        tried in prop::collection::vec(tried(), 0..12), vantage in vantage(),
    ) {
        if conclude(&tried, vantage).verdict == Verdict::Closed {
            prop_assert!(!tried.iter().any(is_taken));
            prop_assert!(!tried.iter().any(|one| one.outcome == Outcome::Unanswered && !one.is_control()));
            let decisive = |one: &Tried| one.kind == Kind::Relay && one.reason.is_some_and(Reason::is_decisive);
            prop_assert!(tried.iter().any(decisive));
        }
    }

    #[test]
    fn closed_is_never_said_by_one_answer_to_all_or_where_most_were_refused_as_a_client(
        tried in prop::collection::vec(tried(), 1..12), vantage in vantage(),
    ) {
        if conclude(&tried, vantage).verdict == Verdict::Closed {
            let said: Vec<_> = tried.iter().filter_map(|one| Some((one.reason?, one.answer.as_str()))).collect();
            let named = said.iter().any(|(reason, _)| matches!(reason, Reason::Relaying | Reason::Authentication));
            let is_taken = tried.iter().any(|one| one.outcome == Outcome::Accepted);
            prop_assert!(named || is_taken || said.iter().any(|(_, answer)| *answer != said[0].1));
            let count = |is: fn(Reason) -> bool| {
                tried.iter().filter(|one| !one.is_control() && one.reason.is_some_and(is)).count()
            };
            prop_assert!(count(Reason::is_decisive) > count(Reason::is_about_client));
        }
    }

    #[test]
    fn a_recipient_elsewhere_that_was_taken_is_open_from_outside(
        mut tried in prop::collection::vec(tried(), 1..12), at: prop::sample::Index,
    ) {
        let at = at.index(tried.len());
        tried[at].kind = Kind::Relay;
        tried[at].outcome = Outcome::Accepted;
        for vantage in [Vantage::Outside, Vantage::Translated, Vantage::SameNetwork] {
            prop_assert_eq!(conclude(&tried, vantage).verdict, Verdict::Open);
        }
    }

    #[test]
    fn a_server_that_takes_everybody_at_home_is_not_open_for_any_trick(
        tried in prop::collection::vec(tried(), 0..12), vantage in vantage(),
    ) {
        // Every control was taken, and nothing elsewhere.
        let mut tried = tried;
        for one in &mut tried {
            match one.kind {
                Kind::Control { .. } => one.outcome = Outcome::Accepted,
                Kind::Relay => one.outcome = Outcome::Refused,
                Kind::Trick { .. } => {}
            }
        }
        prop_assert_ne!(conclude(&tried, vantage).verdict, Verdict::Open);
    }
}

#[test]
fn the_gravest_of_several_addresses_holds_but_not_one_without_a_way_there() {
    let server = Server::obedient(|_| "554 5.7.1 Relay access denied");
    let closed = || visited(&server);
    let of = |visits: &[Visit]| Verdict::of_all(visits, &[]);
    let with = |verdict, no_route| Visit { verdict, no_route, ..closed() };
    assert_eq!(of(&[]), Verdict::Unclear);
    assert_eq!(of(&[closed(), with(Verdict::Open, false), with(Verdict::Unclear, false)]), Verdict::Open);
    assert_eq!(of(&[closed(), with(Verdict::Unclear, false)]), Verdict::Unclear);
    assert_eq!(of(&[closed(), with(Verdict::Unclear, true)]), Verdict::Closed);
    assert_eq!(of(&[with(Verdict::Unclear, true)]), Verdict::Unclear);
    let more = ["192.0.2.9:25".parse().expect("an address")];
    assert_eq!(Verdict::of_all(&[closed()], &more), Verdict::Unclear, "nobody has looked at that one");
    assert_eq!(Verdict::of_all(&[with(Verdict::Open, false)], &more), Verdict::Open);
}
