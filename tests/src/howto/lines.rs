//! The output a page shows against the output there was.

/// What stands for anything.
const ANYTHING: &str = "...";

/// Whether the lines shown are those there were. The error names the last shown line that was come to.
pub(super) fn compare(shown: &[String], said: &[String]) -> Result<(), String> {
    match follow(shown, said) {
        Ok(()) => Ok(()),
        Err(0) => Err("the page ends before the output does".to_owned()),
        Err(left) => Err(format!("nothing fits {:?}", shown[shown.len() - left])),
    }
}

/// The error is how many of the lines shown are left, at the least.
fn follow(shown: &[String], said: &[String]) -> Result<(), usize> {
    let Some((first, rest)) = shown.split_first() else {
        return if said.is_empty() { Ok(()) } else { Err(0) };
    };
    if first.trim() == ANYTHING {
        let mut least = shown.len();
        for skipped in 0..=said.len() {
            match follow(rest, &said[skipped..]) {
                Ok(()) => return Ok(()),
                Err(left) => least = least.min(left),
            }
        }
        return Err(least);
    }
    match said.split_first() {
        Some((line, others)) if fits(first.trim_end(), line.trim_end()) => follow(rest, others),
        _ => Err(shown.len()),
    }
}

/// One line, in which `...` stands for any text.
fn fits(shown: &str, said: &str) -> bool {
    match shown.split_once(ANYTHING) {
        None => shown == said,
        Some((head, tail)) => said.strip_prefix(head).is_some_and(|rest| {
            let mut starts = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
            starts.any(|at| fits(tail, &rest[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(shown: &str, said: &str) -> bool {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        compare(&lines(shown), &lines(said)).is_ok()
    }

    #[test]
    fn lines_match_literally_and_dots_match_anything() {
        for (shown, said) in [
            ("", ""),
            ("a\nb", "a\nb"),
            ("a  ", "a"),
            ("...", ""),
            ("...", "a\nb"),
            ("a\n...\nd", "a\nb\nc\nd"),
            ("...\nb\n...", "a\nb\nc"),
            ("pid ... is", "pid 17 is"),
            ("...x...", "axbx"),
            ("a...", "a"),
        ] {
            assert!(same(shown, said), "{shown:?} and {said:?}");
        }
    }

    #[test]
    fn the_line_that_is_wrong_is_named() {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let error = |shown: &str, said: &str| compare(&lines(shown), &lines(said)).expect_err(shown);
        assert_eq!(error("a\n...\nc\nd\n...", "a\nb\nc\nx\ny"), "nothing fits \"d\"");
        assert_eq!(error("a\nb", "a"), "nothing fits \"b\"");
        assert_eq!(error("a", "a\nb"), "the page ends before the output does");
    }

    #[test]
    fn what_is_not_there_or_not_shown_is_noticed() {
        for (shown, said) in [
            ("a", ""),
            ("", "a"),
            ("a", "a\nb"),
            ("a\nb", "a"),
            ("a.c", "abc"),
            ("...\nb", "a\nb\nc"),
            ("pid ... is", "pid 17 was"),
            ("a\n...\nd", "a\nb"),
        ] {
            assert!(!same(shown, said), "{shown:?} and {said:?}");
        }
    }
}
