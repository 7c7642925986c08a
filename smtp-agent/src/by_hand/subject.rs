//! Of whom something is said: a user, a group, a container, a pattern of cgroups.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    accounts::{database::Database, label::printable},
    config::{Name, Pattern, parse_name},
};

/// What containers are called in tables and metrics begins with this.
const CONTAINER: &str = "container:";
/// Names are kept in the kernel, where they have less room than this.
const LONGEST_CONTAINER: usize = 256;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum Subject {
    User(Name),
    /// Every member, each for himself.
    Group(Name),
    /// By its name without `container:`, whichever account has it.
    Container(String),
    Cgroup(Pattern),
}

/// As it stands in requests and in the file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Written {
    User(String),
    Group(String),
    Container(String),
    Cgroup(String),
}

impl From<Subject> for Written {
    fn from(subject: Subject) -> Self {
        match subject {
            Subject::User(name) => Self::User(name.to_string()),
            Subject::Group(name) => Self::Group(name.to_string()),
            Subject::Container(name) => Self::Container(name),
            Subject::Cgroup(pattern) => Self::Cgroup(pattern.as_str().to_owned()),
        }
    }
}

impl TryFrom<Written> for Subject {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::User(text) => Self::user(&text),
            Written::Group(text) => Self::group(&text),
            Written::Container(text) => Self::container(&text),
            Written::Cgroup(text) => Self::cgroup(&text),
        }
    }
}

/// What is wrong and what to write, in one sentence.
fn sentence((message, hint): (String, Option<String>)) -> String {
    hint.map_or(message.clone(), |hint| format!("{message}; {hint}"))
}

impl Subject {
    pub fn user(text: &str) -> Result<Self, String> {
        parse_name(text).map(Self::User).map_err(sentence)
    }

    pub fn group(text: &str) -> Result<Self, String> {
        parse_name(text).map(Self::Group).map_err(sentence)
    }

    pub fn container(text: &str) -> Result<Self, String> {
        let name = text.strip_prefix(CONTAINER).unwrap_or(text);
        if name.is_empty() || name.len() > LONGEST_CONTAINER || name.chars().any(char::is_control) {
            return Err(format!("{text:?} is no name of a container; `smtp-agent status` shows what they are called"));
        }
        Ok(Self::Container(name.to_owned()))
    }

    pub fn cgroup(text: &str) -> Result<Self, String> {
        Pattern::parse(text).map(Self::Cgroup).map_err(sentence)
    }

    /// A name as tables show it: a container where it says so, else a user.
    pub fn shown(text: &str) -> Result<Self, String> {
        if text.starts_with(CONTAINER) { Self::container(text) } else { Self::user(text) }
    }

    /// Whether both mean the same on this host: a name and its number do.
    pub fn is(&self, other: &Self, users: &Database) -> bool {
        let same = |of: fn(&Database, &Name) -> Option<u32>, a, b| {
            a == b || of(users, a).is_some_and(|id| of(users, b) == Some(id))
        };
        match (self, other) {
            (Self::User(a), Self::User(b)) => same(Database::uid_of, a, b),
            (Self::Group(a), Self::Group(b)) => same(Database::gid_of, a, b),
            (a, b) => a == b,
        }
    }

    /// How a command names it: `shop`, `--group staff`.
    pub fn argument(&self) -> String {
        match self {
            Self::User(name) => printable(name.to_string().as_bytes()),
            Self::Group(name) => format!("--group {}", printable(name.to_string().as_bytes())),
            Self::Container(name) => format!("--container {name}"),
            Self::Cgroup(pattern) => format!("--cgroup '{}'", pattern.as_str()),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(name) => write!(f, "user {}", printable(name.to_string().as_bytes())),
            Self::Group(name) => write!(f, "group {}", printable(name.to_string().as_bytes())),
            // Learned names are escaped already.
            Self::Container(name) => write!(f, "container {name}"),
            Self::Cgroup(pattern) => write!(f, "cgroup {}", pattern.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_one_key_and_read_back_as_written() {
        for (subject, text) in [
            (Subject::user("shop"), r#"{"user":"shop"}"#),
            (Subject::user("1001"), r#"{"user":"1001"}"#),
            (Subject::group("staff"), r#"{"group":"staff"}"#),
            (Subject::container("container:web"), r#"{"container":"web"}"#),
            (Subject::cgroup("/system.slice/php*.service"), r#"{"cgroup":"/system.slice/php*.service"}"#),
        ] {
            let subject = subject.unwrap();
            assert_eq!(serde_json::to_string(&subject).unwrap(), text);
            assert_eq!(serde_json::from_str::<Subject>(text).unwrap(), subject);
        }
        for wrong in [
            "{}",
            r#"{"user":""}"#,
            r#"{"user":"a:b"}"#,
            r#"{"cgroup":"x"}"#,
            r#"{"user":"a","group":"b"}"#,
            r#"{"uid":1}"#,
        ] {
            assert!(serde_json::from_str::<Subject>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_name_as_tables_show_it_is_a_container_where_it_says_so() {
        assert_eq!(Subject::shown("container:web"), Subject::container("web"));
        assert_eq!(Subject::shown("web"), Subject::user("web"));
    }

    #[test]
    fn a_name_and_its_number_are_the_same_subject() {
        let users = Database::of(&[("ann", 1, 10)], &[("staff", 10, &[])]);
        let user = |text| Subject::user(text).unwrap();
        let group = |text| Subject::group(text).unwrap();
        assert!(user("ann").is(&user("1"), &users) && group("10").is(&group("staff"), &users));
        assert!(user("ghost").is(&user("ghost"), &users), "one who is no more is still himself");
        assert!(!user("ghost").is(&user("phantom"), &users) && !user("ann").is(&group("ann"), &users));
    }
}
