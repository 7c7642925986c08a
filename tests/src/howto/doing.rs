//! What happens on a host besides the commands of a page: `<!-- test: … -->`.

/// All there is. What comes after a comma may be left out.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Doing {
    /// `the agent starts`, and is ready when the page goes on.
    AgentStarts,
    /// `the mail server starts`: exim on port 25 of loopback, keeping in its queue what it is given.
    MailServerStarts,
    /// `as USER`: who types behind `$ ` from here on.
    As(String),
    /// `USER sends N messages, M a connection, K rejected, from UNIT`: to the server outside, in clear.
    Sends { user: String, messages: u32, each: u32, rejected: u32, unit: String },
    /// `USER hands in N messages`: to sendmail, and waits until each was tried.
    HandsIn { user: String, messages: u32 },
    /// `USER connects N times, from UNIT`
    Connects { user: String, times: u64, unit: String },
    /// `meanwhile USER runs FILE`: a script that connects again and again, as long as the next command runs.
    Meanwhile { user: String, file: String },
    /// `the history knows what USER runs`: waits until it does, a second or two.
    Written { user: String },
}

/// Where scripts of websites run.
const WEB: &str = "php8.2-fpm.service";

impl Doing {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let unknown = || format!("nobody knows how to do {text:?}");
        let mut clauses = text.split(", ").map(|clause| clause.split(' ').collect::<Vec<_>>());
        let number = |word: &str| word.parse::<u32>().map_err(|_| unknown());
        let mut done = match clauses.next().unwrap_or_default()[..] {
            ["the", "agent", "starts"] => Self::AgentStarts,
            ["the", "mail", "server", "starts"] => Self::MailServerStarts,
            ["as", user] => Self::As(user.into()),
            [user, "sends", n, "messages"] => {
                Self::Sends { user: user.into(), messages: number(n)?, each: 1, rejected: 0, unit: WEB.into() }
            }
            [user, "hands", "in", n, "messages"] => Self::HandsIn { user: user.into(), messages: number(n)? },
            [user, "connects", n, "times"] => {
                Self::Connects { user: user.into(), times: number(n)?.into(), unit: WEB.into() }
            }
            ["the", "history", "knows", "what", user, "runs"] => Self::Written { user: user.into() },
            ["meanwhile", user, "runs", file] => Self::Meanwhile { user: user.into(), file: file.into() },
            _ => return Err(unknown()),
        };
        for clause in clauses {
            match (&mut done, &clause[..]) {
                (Self::Sends { unit, .. } | Self::Connects { unit, .. }, ["from", name]) => *unit = (*name).into(),
                (Self::Sends { each, .. }, [n, "a", "connection"]) => *each = number(n)?,
                (Self::Sends { rejected, .. }, [n, "rejected"]) => *rejected = number(n)?,
                _ => return Err(unknown()),
            }
        }
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doings_are_understood_whole_or_not_at_all() {
        let (user, unit) = ("shop".to_owned(), "cron.service".to_owned());
        assert_eq!(
            Doing::parse("shop sends 30 messages, 12 rejected, 10 a connection, from cron.service"),
            Ok(Doing::Sends { user: user.clone(), messages: 30, each: 10, rejected: 12, unit: unit.clone() })
        );
        assert_eq!(Doing::parse("shop connects 3 times"), Ok(Doing::Connects { user, times: 3, unit: WEB.into() }));
        for text in ["", "shop sends many messages", "shop connects 3 times, 2 rejected", "as", "as shop and root"] {
            assert!(Doing::parse(text).is_err(), "{text:?}");
        }
    }
}
