//! `cgroup = "/system.slice/php*.service"`: the cgroups a rule is for.

use globset::{Error, ErrorKind, Glob, GlobBuilder};

use super::{render::quoted, values::Advice};

/// Longer paths are refused by the kernel (`PATH_MAX`).
const LONGEST: usize = 4095;
/// A regular expression, which a pattern becomes, may not be nested without end.
const DEEPEST: usize = 8;

/// A pattern of paths below the root of the cgroup hierarchy. It stands for the cgroups it matches and all below them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern(String);

impl Pattern {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Matches the paths of the cgroups themselves, not of those below them. Its matcher can be compiled.
    pub fn glob(&self) -> Glob {
        glob(&self.0).expect("checked when the pattern was made")
    }

    /// One that matches this path alone; `None` for the root, and for what no pattern can mean.
    pub fn exact(path: &str) -> Option<Self> {
        let escaped = path.chars().fold(String::new(), |mut pattern, c| {
            match c {
                '*' | '?' | '[' | ']' | '{' | '}' => pattern.extend(['[', c, ']']),
                c => pattern.push(c),
            }
            pattern
        });
        Self::parse(&escaped).ok()
    }

    pub(crate) fn parse(text: &str) -> Result<Self, Advice> {
        let fault = |why: &str, hint: &str| {
            let hint = Some(hint).filter(|hint| !hint.is_empty());
            Err((format!("\"{}\" is not a usable cgroup: {why}", quoted(text)), hint.map(str::to_owned)))
        };
        let Some(below) = text.strip_prefix('/') else {
            let hint = match text {
                "" => "",
                _ => "begin it with /, the root of the cgroup hierarchy",
            };
            return fault(if text.is_empty() { "it is empty" } else { "it does not begin with /" }, hint);
        };
        if below.split('/').all(|part| part.is_empty() || part == "**") {
            return fault("it matches everything", "use [default] plan");
        }
        if text.starts_with("/sys/fs/cgroup/") {
            return fault("it begins with the mount point", "write what comes after /sys/fs/cgroup");
        }
        if below.ends_with('/') {
            return fault("it ends with /", "remove the last /; what lies below is matched too");
        }
        for part in below.split('/') {
            match part {
                "" => return fault("it contains //", "write / once"),
                "." | ".." => return fault("it contains `.` or `..`", "write the path without it"),
                "**" => {}
                part if part.contains("**") => {
                    return fault("`**` must stand alone between two /", "write one *, or `**` as a part of its own");
                }
                _ => {}
            }
        }
        if text.chars().any(char::is_control) {
            return fault("it contains a control character", "");
        }
        if text.len() > LONGEST {
            return fault("it is longer than 4095 bytes", "");
        }
        if depth(text) > DEEPEST {
            return fault("its braces are nested too deeply", "write one rule for each");
        }
        if !text.contains(['[', ']', '{', '}']) {
            // Nothing is left that could be wrong, and there may be thousands.
            return Ok(Self(text.to_owned()));
        }
        match glob(text) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(error) => match error.kind() {
                ErrorKind::UnclosedClass => fault("`[` is not closed", "add `]`, or write `[[]` for the character"),
                ErrorKind::UnclosedAlternates => {
                    fault("`{` is not closed", "add `}`, or write `[{]` for the character")
                }
                ErrorKind::UnopenedAlternates => {
                    fault("`}` closes nothing", "add `{`, or write `[}]` for the character")
                }
                ErrorKind::InvalidRange(from, to) => {
                    fault(&format!("the range {from}-{to} is empty"), &format!("write {to}-{from}"))
                }
                _ => fault("it cannot be read", "use `*`, `?`, `[a-z]`, `{a,b}` and `**`"),
            },
        }
    }
}

/// A backslash is part of a name: systemd writes `-` in it as `\x2d`.
fn glob(text: &str) -> Result<Glob, Error> {
    GlobBuilder::new(text).literal_separator(true).backslash_escape(false).build()
}

fn depth(text: &str) -> usize {
    let depths = text.chars().scan(0_usize, |depth, c| {
        *depth = match c {
            '{' => *depth + 1,
            '}' => depth.saturating_sub(1),
            _ => *depth,
        };
        Some(*depth)
    });
    depths.max().unwrap_or(0)
}
