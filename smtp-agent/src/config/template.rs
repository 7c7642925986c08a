//! Texts with `{placeholders}`, as subjects and bodies of notices are written.

use super::{
    nearest::{either, nearest},
    render::quoted,
    values::Advice,
};

/// Bytes of a template: longer than any text that people read, and short enough to be kept for every sink.
const LONGEST: usize = 16 << 10;

/// What a placeholder stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    Host,
    Kind,
    What,
    Account,
    Time,
    Reason,
    Unit,
    Window,
    Limit,
    Used,
    Usual,
    Again,
    Destination,
    Process,
    Script,
    Service,
    Command,
    Domains,
    Advice,
    Count,
    Withheld,
}

impl Field {
    pub const ALL: [(&'static str, Self); 21] = [
        ("host", Self::Host),
        ("kind", Self::Kind),
        ("what", Self::What),
        ("account", Self::Account),
        ("time", Self::Time),
        ("reason", Self::Reason),
        ("unit", Self::Unit),
        ("window", Self::Window),
        ("limit", Self::Limit),
        ("used", Self::Used),
        ("usual", Self::Usual),
        ("again", Self::Again),
        ("destination", Self::Destination),
        ("process", Self::Process),
        ("script", Self::Script),
        ("service", Self::Service),
        ("command", Self::Command),
        ("domains", Self::Domains),
        ("advice", Self::Advice),
        ("count", Self::Count),
        ("withheld", Self::Withheld),
    ];
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(Field),
}

/// A text that was read once and can always be filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

impl Template {
    /// `{name}` is a placeholder, `{{` and `}}` are braces.
    pub(crate) fn parse(text: &str) -> Result<Self, Advice> {
        if text.len() > LONGEST {
            return Err((format!("a template takes up to {} KiB", LONGEST >> 10), None));
        }
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                plain.push_str(brace);
                rest = after;
                continue;
            }
            if brace == "}" {
                let hint = "write }} for a brace, or {name} for a placeholder".to_owned();
                return Err(("`}` closes no placeholder".to_owned(), Some(hint)));
            }
            let Some(end) = rest.find('}') else {
                let hint = format!("write {{{{ for a brace, or one of {}", known());
                return Err((format!("`{{{}` is a placeholder without an end", quoted(first_word(rest))), Some(hint)));
            };
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(Part::Field(field(&rest[..end])?));
            rest = &rest[end + 1..];
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self { parts })
    }

    /// The same for a text that stays on one line.
    pub(crate) fn parse_line(text: &str) -> Result<Self, Advice> {
        if text.trim().is_empty() {
            return Err(("a subject is empty".to_owned(), Some("leave the key out for the built-in one".to_owned())));
        }
        if text.chars().any(char::is_control) {
            let hint = "write it on one line; what is longer belongs in `body`".to_owned();
            return Err(("a subject contains a line break or another control character".to_owned(), Some(hint)));
        }
        Self::parse(text)
    }

    /// The text with what stands for each placeholder.
    pub fn fill(&self, value: impl Fn(Field) -> String) -> String {
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Field(field) => value(*field),
        };
        self.parts.iter().map(part).collect()
    }
}

fn field(name: &str) -> Result<Field, Advice> {
    if let Some((_, field)) = Field::ALL.into_iter().find(|(known, _)| *known == name) {
        return Ok(field);
    }
    let near = nearest(name, Field::ALL.iter().map(|(known, _)| *known));
    let meant = near.map(|near| format!("did you mean {{{near}}}? ")).unwrap_or_default();
    Err((format!("`{{{}}}` is no placeholder", quoted(name)), Some(format!("{meant}known are {}", known()))))
}

fn known() -> String {
    either(&Field::ALL.map(|(name, _)| format!("{{{name}}}"))).replace(" or ", " and ")
}

fn first_word(text: &str) -> &str {
    text.split(char::is_whitespace).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filled(text: &str) -> String {
        let template = Template::parse(text).unwrap_or_else(|(message, _)| panic!("{text}: {message}"));
        template.fill(|field| Field::ALL.iter().find(|(_, known)| *known == field).unwrap().0.to_uppercase())
    }

    #[test]
    fn placeholders_are_filled_in_and_doubled_braces_are_braces() {
        assert_eq!(filled("{account} on {host}: {{\"used\": {used}}}"), "ACCOUNT on HOST: {\"used\": USED}");
        assert_eq!(filled(""), "");
        assert_eq!(filled("{{}}{{{kind}}}"), "{}{KIND}");
    }

    #[test]
    fn what_is_no_placeholder_is_named_with_those_there_are() {
        for (text, message, hint) in [
            ("{acount}", "`{acount}` is no placeholder", "did you mean {account}? known are {host}, {kind}"),
            ("{}", "`{}` is no placeholder", "known are {host}"),
            ("a {user", "`{user` is a placeholder without an end", "write {{ for a brace"),
            ("a } b", "`}` closes no placeholder", "write }} for a brace"),
            ("{a\u{1b}}", "`{a\\u{1b}}` is no placeholder", "known are"),
        ] {
            let (said, advice) = Template::parse(text).unwrap_err();
            assert_eq!(said, message);
            assert!(advice.as_deref().is_some_and(|advice| advice.starts_with(hint)), "{text}: {advice:?}");
        }
        assert!(Template::parse_line("a\nb").unwrap_err().0.contains("line break"));
        assert!(Template::parse_line(" ").unwrap_err().0.contains("empty"));
        assert!(Template::parse(&"x".repeat(LONGEST + 1)).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_a_template_once_its_braces_are_doubled(text in "\\PC{0,60}") {
            prop_assert_eq!(filled(&text.replace('{', "{{").replace('}', "}}")), text);
        }

        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            let _ = Template::parse(&text).map(|template| template.fill(|_| String::new()));
        }
    }
}
