use super::*;
use prometheus::{Encoder, TextEncoder};
use smtp_common::connection::Account;

/// The series of a scrape whose line contains `part`, sorted.
fn series(tallies: &[(TallyKey, u64)], room: usize, part: &str) -> Vec<String> {
    let mut seen: Vec<_> = tallies.iter().map(|(key, _)| key.account).filter(|a| *a != Account::OTHER).collect();
    seen.dedup();
    // Users 8 and 9 are one container that was started anew.
    let names = Named::first(room, seen, |account| if account.id == 9 { "8".into() } else { account.id.to_string() });
    let registry = Registry::new();
    families(&registry, tallies, &names).unwrap();
    let mut text = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    let mut lines: Vec<_> =
        text.lines().filter(|line| !line.starts_with('#') && line.contains(part)).map(str::to_owned).collect();
    lines.sort();
    lines
}

fn tally(uid: u32, family: u8, which: u8, route: Route, n: u64) -> (TallyKey, u64) {
    (TallyKey::new(Account::user(uid), family, which, route), n)
}

#[test]
fn other_has_every_series_before_anything_is_counted_and_a_pipe_has_none() {
    let made = |route| (TallyKey::new(Account::OTHER, family::MESSAGES, 0, route), 0);
    let lines = series(&[made(Route::Local), made(Route::Pipe)], 10, "");
    let lists = SessionOutcome::ALL.len() + MessageOutcome::ALL.len() + RecipientOutcome::ALL.len() + Unseen::ALL.len();
    // Verdicts on two units, bytes in two directions, three further sums.
    assert_eq!(lines.len(), ROUTES.len() * (lists + VERDICTS.len() * 2 + 2 + 3));
    assert!(lines.iter().all(|line| line.contains("user=\"other\"") && line.ends_with(" 0")), "{lines:#?}");
    assert!(!lines.iter().any(|line| line.contains("pipe")));
}

#[test]
fn the_first_count_of_an_account_brings_the_whole_list_of_that_family_and_route_and_no_other() {
    let counted = [tally(7, family::MESSAGES, MessageOutcome::Deferred as u8, Route::Remote, 3)];
    assert_eq!(
        series(&counted, 10, "user=\"7\""),
        [("accepted", 0), ("deferred", 3), ("rejected", 0), ("unknown", 0)].map(|(outcome, n)| format!(
            "smtp_messages_total{{outcome=\"{outcome}\",route=\"remote\",user=\"7\"}} {n}"
        ))
    );
}

#[test]
fn accounts_of_one_label_and_those_beyond_the_cap_are_summed() {
    let sessions = |uid, n| tally(uid, family::SESSIONS, SessionOutcome::Closed as u8, Route::Local, n);
    let lost = (TallyKey::new(Account::OTHER, family::SESSIONS, SessionOutcome::Closed as u8, Route::Local), 1000);
    let all = [sessions(8, 1), sessions(9, 10), sessions(10, 100), lost];
    let closed = |room| series(&all, room, "outcome=\"closed\",route=\"local\"");
    let line = |user, n| format!("smtp_sessions_total{{outcome=\"closed\",route=\"local\",user=\"{user}\"}} {n}");
    assert_eq!(closed(1), [line("8", 11), line("other", 1100)]);
    assert_eq!(closed(2), [line("10", 100), line("8", 11), line("other", 1000)]);
}

#[test]
fn verdicts_are_told_apart_by_unit_and_sums_have_their_units() {
    let of = |family, which| tally(7, family, which, Route::Remote, 2_500_000);
    let verdicts = [
        of(family::MESSAGE_VERDICTS, Verdict::Refused as u8),
        of(family::RECIPIENT_VERDICTS, Verdict::WouldRefuse as u8),
    ];
    let counted: Vec<_> = series(&verdicts, 9, "user=\"7\"").into_iter().filter(|l| !l.ends_with(" 0")).collect();
    assert_eq!(
        counted,
        [("message", "refused"), ("recipient", "would_refuse")].map(|(unit, verdict)| format!(
            "smtp_message_verdicts_total{{route=\"remote\",unit=\"{unit}\",user=\"7\",verdict=\"{verdict}\"}} 2500000"
        ))
    );
    let sums: Vec<_> = Sum::ALL.map(|sum| of(family::SUMS, sum as u8)).into();
    assert_eq!(
        series(&sums, 9, "user=\"7\""),
        [
            "smtp_session_bytes_total{direction=\"received\",route=\"remote\",user=\"7\"} 2500000",
            "smtp_session_bytes_total{direction=\"sent\",route=\"remote\",user=\"7\"} 2500000",
            "smtp_session_duration_seconds_total{route=\"remote\",user=\"7\"} 2.5",
            "smtp_session_exchanges_total{route=\"remote\",user=\"7\"} 2500000",
            "smtp_session_retransmits_total{route=\"remote\",user=\"7\"} 2500000",
        ]
    );
}

#[test]
fn numbers_that_are_in_no_list_are_left_out() {
    let strange = [tally(7, family::MESSAGES, 200, Route::Remote, 1), tally(7, 99, 0, Route::Remote, 1)];
    let lines = series(&strange, 9, "user=\"7\"");
    assert_eq!(lines.len(), MessageOutcome::ALL.len());
    assert!(lines.iter().all(|line| line.ends_with(" 0")), "{lines:?}");
}
