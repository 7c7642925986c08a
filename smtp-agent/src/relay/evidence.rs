//! Whether refusals are about relaying at all. A server that refuses this client, whatever it wants, may be wide open
//! to others.

use std::collections::HashSet;

use super::{
    probe::Kind,
    verdict::Reason,
    visit::{Outcome, Tried},
};

/// Whether a server speaks of relaying (or of a password), or at least answers otherwise where a recipient is at home.
pub(super) fn is_about_relaying(tried: &[Tried]) -> bool {
    let named = |one: &Tried| matches!(one.reason, Some(Reason::Relaying | Reason::Authentication));
    if tried.iter().any(|one| !one.is_control() && named(one)) {
        return true;
    }
    let elsewhere: HashSet<String> = tried.iter().filter(|one| one.kind == Kind::Relay).map(gist).collect();
    tried.iter().filter(|one| one.kind != Kind::Relay).any(|one| match one.outcome {
        Outcome::Accepted => one.is_control(),
        Outcome::Refused | Outcome::Deferred => {
            let is_judged = !one.reason.is_some_and(Reason::is_about_client) && !is_syntax(one);
            is_judged && !elsewhere.contains(&gist(one))
        }
        Outcome::Unanswered => false,
    })
}

/// Whether more probes were refused for relaying than for the sake of the client, else one of the latter.
pub(super) fn is_judged(tried: &[Tried]) -> Result<(), &Tried> {
    let probes = || tried.iter().filter(|one| !one.is_control());
    let decided = probes().filter(|one| one.reason.is_some_and(Reason::is_decisive)).count();
    let mut refused = probes().filter(|one| one.reason.is_some_and(Reason::is_about_client));
    match refused.next() {
        Some(first) if 1 + refused.count() >= decided => Err(first),
        _ => Ok(()),
    }
}

/// Said before anybody thinks about who may send: of what is not written well.
fn is_syntax(one: &Tried) -> bool {
    one.answer.starts_with("50")
}

/// What is left of an answer without addresses, names and numbers, which differ from probe to probe.
fn gist(one: &Tried) -> String {
    let mut answer = one.answer.to_ascii_lowercase();
    for path in [&one.to, &one.from] {
        if !path.is_empty() {
            answer = answer.replace(&path.to_ascii_lowercase(), " ");
        }
    }
    // The code and that of RFC 3463 tell refusals apart.
    let codes = answer.split_whitespace().enumerate().filter(|(at, word)| *at < 2 && is_code(word));
    let plain = |word: &&str| !word.contains(['@', '%', '!', '<', '>', '[', ']', '"']) && !word.contains(is_digit);
    let words =
        answer.split_whitespace().filter(plain).map(|word| word.trim_matches(|c: char| c.is_ascii_punctuation()));
    let words = words.filter(|word| !word.is_empty() && !word.contains('.'));
    codes.map(|(_, code)| code).chain(words).collect::<Vec<_>>().join(" ")
}

fn is_code(word: &str) -> bool {
    word.chars().all(|c| is_digit(c) || c == '.')
}

fn is_digit(c: char) -> bool {
    c.is_ascii_digit()
}
