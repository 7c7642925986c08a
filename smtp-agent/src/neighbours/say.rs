//! Neighbours as text for people.

use super::{Neighbour, Severity};

/// One paragraph each, the evidence below it, in the shape of the configuration's problems; without a line break at the
/// end.
pub fn render(found: &[Neighbour], colour: bool) -> String {
    let (warning, note, gutter, reset) =
        if colour { ("\x1b[1;33m", "\x1b[1;36m", "\x1b[34m", "\x1b[0m") } else { ("", "", "", "") };
    let block = |n: &Neighbour| {
        let (tint, word) = match n.severity {
            Severity::Warning => (warning, "warning"),
            Severity::Information | Severity::Unseen => (note, "note"),
        };
        let evidence = n.evidence.iter().map(|line| format!("\n      {gutter}={reset} {line}"));
        format!("{tint}{word}{reset}: {} {}{}", n.who, n.together, evidence.collect::<String>())
    };
    found.iter().map(block).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_neighbour_is_a_sentence_with_its_evidence_below() {
        let one = Neighbour::new(Severity::Warning, "CSF", vec!["a:1: b".into(), "c".into()], "rejects all.".into());
        let two = Neighbour::new(Severity::Information, "nftables", Vec::new(), "limits.".into());
        let text = "warning: CSF rejects all.\n      = a:1: b\n      = c\nnote: nftables limits.";
        assert_eq!(render(&[one.clone(), two], false), text);
        assert!(render(&[one], true).starts_with("\x1b[1;33mwarning\x1b[0m: CSF"));
    }
}
