//! Options of programs that take a password, by the letters of the program's own manual.

/// How a program reads its short options, as far as secrets are concerned.
pub(super) struct Program {
    names: &'static [&'static str],
    /// All programs whose names begin so, too.
    family: &'static [&'static str],
    /// Options whose value is a secret: the rest of the word, or else the next word.
    secret: &'static [u8],
    /// Options whose value, a secret, only ever is the rest of the word.
    joined: &'static [u8],
    /// Options whose value is a name and a secret behind one of `separators`.
    credentials: &'static [u8],
    separators: &'static [char],
    /// Other options with a value: what follows in the word is no option.
    valued: &'static [u8],
}

const NONE: Program =
    Program { names: &[], family: &[], secret: b"", joined: b"", credentials: b"", separators: &[], valued: b"" };

const PROGRAMS: [Program; 10] = [
    // Alone `-p` asks for it, and the next word is a database.
    Program { names: &["mycli"], family: &["mysql", "mariadb"], joined: b"p", valued: b"DehPSu", ..NONE },
    Program { names: &["curl"], credentials: b"uUE", separators: &[':'], valued: b"AbcCdDeFhHKmoPQrtTwxXyYz", ..NONE },
    Program { names: &["lftp"], credentials: b"u", separators: &[',', ':'], valued: b"pefc", ..NONE },
    Program { names: &["sshpass"], secret: b"p", valued: b"fdP", ..NONE },
    Program { names: &["smbclient", "rpcclient"], credentials: b"U", separators: &['%'], valued: b"Idpc", ..NONE },
    Program { family: &["mongo"], secret: b"p", valued: b"uhdcoq", ..NONE },
    Program { names: &["redis-cli"], secret: b"a", valued: b"hpsunr", ..NONE },
    Program { family: &["ldap"], secret: b"w", valued: b"DHhpbsfYyUXR", ..NONE },
    Program { names: &["zip", "unzip"], secret: b"P", ..NONE },
    // What sshpass runs: their `-p` is a port.
    Program { names: &["ssh", "scp", "sftp", "rsync"], ..NONE },
];

/// What a word says about secrets.
pub(super) enum Said {
    Nothing,
    /// The next word is one.
    Next,
    /// It begins at this octet of the word.
    From(usize),
    /// The next word has one behind its first separator.
    CredentialsNext(&'static [char]),
    CredentialsFrom(usize, &'static [char]),
}

/// The program that a word names, if it is one that takes secrets in short options.
pub(super) fn program(word: &str) -> Option<&'static Program> {
    let name = word.rsplit('/').next().unwrap_or_default();
    PROGRAMS.iter().find(|one| one.names.contains(&name) || one.family.iter().any(|family| name.starts_with(family)))
}

impl Program {
    pub(super) fn says(&self, word: &str) -> Said {
        if matches!(word, "--user" | "--proxy-user" | "--cert" | "--proxy-cert") && !self.credentials.is_empty() {
            return Said::CredentialsNext(self.separators);
        }
        let credentials = ["--user=", "--proxy-user=", "--cert="];
        if let Some(long) = credentials.iter().find(|long| word.starts_with(**long) && !self.credentials.is_empty()) {
            return Said::CredentialsFrom(long.len(), self.separators);
        }
        let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.starts_with('-')) else {
            return Said::Nothing;
        };
        for (at, letter) in letters.bytes().enumerate() {
            let rest = (at + 2 < word.len()).then_some(at + 2);
            if self.joined.contains(&letter) {
                return rest.map_or(Said::Nothing, Said::From);
            }
            if self.secret.contains(&letter) {
                return rest.map_or(Said::Next, Said::From);
            }
            if self.credentials.contains(&letter) {
                let next = Said::CredentialsNext(self.separators);
                return rest.map_or(next, |at| Said::CredentialsFrom(at, self.separators));
            }
            if self.valued.contains(&letter) {
                break;
            }
        }
        Said::Nothing
    }
}
