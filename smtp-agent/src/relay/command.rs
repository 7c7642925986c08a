//! Everything that is ever said to a server, and the addresses that may stand in it.
//!
//! There is no DATA and no BDAT here, so none can be sent; and nothing that a user types can end a line.

use std::{fmt, str::FromStr};

/// Longest path of RFC 5321 (4.5.3.1.3), without its brackets.
const LONGEST_PATH: usize = 254;
const LONGEST_DOMAIN: usize = 253;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command<'a> {
    Ehlo(&'a HelloName),
    Helo(&'a HelloName),
    /// The path between the angle brackets, which may be empty.
    Mail(&'a str),
    Rcpt(&'a str),
    Rset,
    Quit,
}

impl fmt::Display for Command<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ehlo(name) => write!(f, "EHLO {name}"),
            Self::Helo(name) => write!(f, "HELO {name}"),
            Self::Mail(path) => write!(f, "MAIL FROM:<{path}>"),
            Self::Rcpt(path) => write!(f, "RCPT TO:<{path}>"),
            Self::Rset => f.write_str("RSET"),
            Self::Quit => f.write_str("QUIT"),
        }
    }
}

/// `user@domain`, plain enough to be put into every trick: letters, digits and a few signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mailbox {
    user: String,
    domain: String,
}

impl Mailbox {
    pub fn user(&self) -> &str {
        &self.user
    }

    pub fn domain(&self) -> &str {
        &self.domain
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.user, self.domain)
    }
}

impl FromStr for Mailbox {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let advice = "write a plain address such as somebody@example.org";
        let Some((user, domain)) = text.rsplit_once('@') else { return Err(format!("it has no @; {advice}")) };
        // Of the signs of RFC 5322 those that no trick gives a meaning: not `%` and not `!`.
        let plain = |c: char| c.is_ascii_alphanumeric() || "+-_='*.~#$&^{|}".contains(c);
        if user.is_empty() || !user.chars().all(plain) || user.starts_with('.') || user.ends_with('.') {
            return Err(format!("{user:?} is no plain local part; {advice}"));
        }
        if !is_domain(domain) {
            return Err(format!("{domain:?} is no domain; {advice}"));
        }
        if text.len() > LONGEST_PATH {
            return Err(format!("it is longer than {LONGEST_PATH} characters; {advice}"));
        }
        Ok(Self { user: user.to_owned(), domain: domain.to_owned() })
    }
}

/// A name for EHLO: a domain, or an address in brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelloName(String);

impl HelloName {
    /// The literal of an address (RFC 5321, 4.1.3).
    pub(super) fn literal(ip: std::net::IpAddr) -> Self {
        Self(literal(ip))
    }
}

impl fmt::Display for HelloName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for HelloName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let in_brackets = || {
            let inner = text.strip_prefix('[')?.strip_suffix(']')?;
            inner.strip_prefix("IPv6:").unwrap_or(inner).parse::<std::net::IpAddr>().ok().map(literal)
        };
        match in_brackets() {
            Some(literal) => Ok(Self(literal)),
            None if is_domain(text) => Ok(Self(text.to_owned())),
            None => Err("it is no host name; write one such as mail.example.org, or an address as [192.0.2.1]".into()),
        }
    }
}

pub(super) fn literal(ip: std::net::IpAddr) -> String {
    match ip {
        std::net::IpAddr::V4(v4) => format!("[{v4}]"),
        std::net::IpAddr::V6(v6) => format!("[IPv6:{v6}]"),
    }
}

/// Letters, digits, hyphens and dots, with the lengths of RFC 1035; underscores, since some hosts have them.
pub(crate) fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= LONGEST_DOMAIN && text.split('.').all(label)
}
