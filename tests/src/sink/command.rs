//! Command lines, read as the agent's rules have it: the verb counts, and what follows is the server's affair.

/// A verb and what comes after it.
pub(super) fn parse(line: &[u8]) -> (String, String) {
    let start = line.iter().position(|byte| !b" \t".contains(byte)).unwrap_or(line.len());
    let line = &line[start..];
    let is_verb = |length: usize| {
        line.len() >= length && line[..length].is_ascii() && !line.get(length).is_some_and(u8::is_ascii_alphanumeric)
    };
    let upper = |bytes: &[u8]| String::from_utf8_lossy(bytes).to_ascii_uppercase();
    let length = if is_verb(8) && upper(&line[..8]) == "STARTTLS" { 8 } else { 4 };
    if !is_verb(length) {
        return (String::new(), String::new());
    }
    (upper(&line[..length]), String::from_utf8_lossy(&line[length..]).trim().to_string())
}

/// `FROM:<a@b> SIZE=3` or `TO:<a@b>`, without what surrounds the address.
pub(super) fn path(rest: &str) -> String {
    let after = rest.split_once(':').map_or(rest, |(_, address)| address).trim_start();
    match after.strip_prefix('<').and_then(|inner| inner.split_once('>')) {
        Some((address, _)) => address.to_string(),
        None => after.split(' ').next().unwrap_or_default().to_string(),
    }
}

/// Whether a parameter, such as PRDR, comes after the address.
pub(super) fn has_parameter(rest: &str, name: &str) -> bool {
    rest.split_ascii_whitespace().skip(1).any(|word| word.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verb_is_four_letters_and_no_more() {
        let verb = |line: &str| parse(line.as_bytes()).0;
        for (line, expected) in [
            ("mail FROM:<a@b>", "MAIL"),
            (" \tDaTa", "DATA"),
            ("RCPT\tTO:<a@b>", "RCPT"),
            ("NOOP\rMAIL FROM:<a@b>", "NOOP"),
            ("QUIT\0", "QUIT"),
            ("starttls", "STARTTLS"),
            ("STARTTLSX", ""),
            ("STAR TTLS", "STAR"),
            ("MAIL1", ""),
            ("RSE", ""),
            ("", ""),
            ("DAT\u{e9}", ""),
        ] {
            assert_eq!(verb(line), expected, "{line:?}");
        }
        assert_eq!(parse(b"MAIL  FROM:<a@b> PRDR").1, "FROM:<a@b> PRDR");
    }

    #[test]
    fn an_address_is_what_stands_between_the_angle_brackets() {
        assert_eq!(path("FROM:<a@b> SIZE=3"), "a@b");
        assert_eq!(path("TO: c@d x"), "c@d");
        assert_eq!(path("FROM:<>"), "");
        assert!(has_parameter("FROM:<a@b> SIZE=3 prdr", "PRDR") && !has_parameter("FROM:<a@b>", "PRDR"));
    }
}
