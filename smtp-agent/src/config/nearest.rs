//! "Did you mean": the valid word closest to one that is not.

/// Longer words are no typing errors, and comparing takes the product of the lengths.
const LONGEST: usize = 64;
/// A hostile file can define a plan per line.
const CANDIDATES: usize = 1000;

/// The candidate at the smallest edit distance, if it is close enough to be what was meant. A longer or
/// shorter form ("warning" for "warn") is close too, if nothing is closer.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.is_empty() || word.len() > LONGEST {
        return None;
    }
    let word = fold(word);
    let rank = |candidate: &str| {
        let folded = fold(candidate);
        let distance = strsim::damerau_levenshtein(&word, &folded);
        let is_form = word.len().min(folded.len()) >= 3 && (word.starts_with(&folded) || folded.starts_with(&word));
        (is_form || distance <= (folded.chars().count() / 3).max(1)).then_some(distance)
    };
    candidates
        .into_iter()
        .take(CANDIDATES)
        .filter(|candidate| candidate.len() <= LONGEST)
        .filter_map(|candidate| Some((rank(candidate)?, candidate)))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Capitals and dashes are the commonest slips, so they cost nothing.
fn fold(word: &str) -> String {
    word.to_lowercase().replace('-', "_")
}

/// `"a"`, `"a or b"`, `"a, b or c"`
pub(super) fn either<S: AsRef<str>>(words: &[S]) -> String {
    match words {
        [] => String::new(),
        [one] => one.as_ref().to_owned(),
        [rest @ .., last] => {
            let rest: Vec<&str> = rest.iter().map(AsRef::as_ref).collect();
            format!("{} or {}", rest.join(", "), last.as_ref())
        }
    }
}
