//! Secrets in command lines, which everybody's history, reports and mails would keep.

use std::sync::LazyLock;

use regex::Regex;

use crate::config::{Attribution, Masking};

/// What stands where a secret was.
pub const MASKED: &str = "***";

/// What is masked.
#[derive(Debug, Clone, Default)]
pub enum Mask {
    /// What looks like a secret, and what matches one of these: the first group of each, or the whole.
    Secrets(Vec<Regex>),
    /// All but the program and the words that are file names or options.
    Arguments,
    #[default]
    Nothing,
}

/// Names whose value is a secret: of options, variables, settings and URL parameters.
const NAME: &str = r"[a-z0-9_.\-]*(?:passw(?:or)?d|passwd|passphrase|password|pwd|secret|token|api[_\-]?key|apikey|access[_\-]?key|private[_\-]?key|credentials?|auth[_\-]?pass)[a-z0-9_]*";

/// `--password`, `-password`: the next word is the secret.
static OPTION: LazyLock<Regex> = LazyLock::new(|| built_in(&format!("(?i)^--?(?:{NAME}|auth-password|pass|ap)$")));

/// `NAME=secret`, `"name" => "secret"`, `name: secret`, in a word of any length.
static SETTING: LazyLock<Regex> =
    LazyLock::new(|| built_in(&format!(r#"(?i)(?:{NAME}|\bpass)["']?\s*(?:=>|=|:|,)\s*["']?([^\s"'&;,)]+)"#)));

/// `scheme://user:secret@host`.
static URL: LazyLock<Regex> = LazyLock::new(|| built_in(r"(?i)[a-z][a-z0-9+.\-]*://[^\s/:@]*:([^\s/@]+)@"));

/// `Authorization: Basic secret`, `Bearer secret`.
static HEADER: LazyLock<Regex> =
    LazyLock::new(|| built_in(r"(?i)(?:authorization:\s*(?:[a-z]+\s+)?|\bbearer\s+)([a-z0-9._~+/=\-]+)"));

/// Tokens that say by their beginning what they are.
static TOKEN: LazyLock<Regex> = LazyLock::new(|| {
    built_in(
        r"\b((?:gh[pousr]_|github_pat_|glpat-|sk_live_|rk_live_|sk-|xox[abprs]-|SG\.|AKIA|ASIA|AIza|ya29\.|eyJ[A-Za-z0-9_\-]{8,}\.)[A-Za-z0-9_.\-]{8,})",
    )
});

fn built_in(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a pattern of this file")
}

/// `-pSECRET` of MySQL's programs, where it is joined to the option; in others this is a port or a path.
const JOINED_PASSWORD: [&str; 7] =
    ["mysql", "mysqldump", "mysqladmin", "mysqlimport", "mariadb", "mariadb-dump", "mycli"];

/// `-p SECRET`.
const PASSWORD_NEXT: [&str; 2] = ["sshpass", "htpasswd"];

/// `-u USER:SECRET`.
const USER_AND_PASSWORD: [&str; 3] = ["curl", "wget", "lftp"];

impl Mask {
    pub fn of(config: &Attribution) -> Self {
        match config.mask {
            // Each was tried when the configuration was read.
            Masking::Secrets => {
                Self::Secrets(config.mask_also.iter().filter_map(|pattern| Regex::new(pattern).ok()).collect())
            }
            Masking::Arguments => Self::Arguments,
            Masking::Nothing => Self::Nothing,
        }
    }

    /// The words of a command line without what is secret. They are text that is safe to show.
    pub fn apply(&self, words: &mut [String]) {
        match self {
            Self::Nothing => {}
            Self::Arguments => arguments(words),
            Self::Secrets(more) => secrets(words, more),
        }
    }
}

fn arguments(words: &mut [String]) {
    for word in words.iter_mut().skip(1) {
        let is_option = word.starts_with('-') && !word.contains('=') && word.len() <= 32;
        let is_path = word.starts_with('/') && !word.contains(' ');
        if !is_option && !is_path {
            MASKED.clone_into(word);
        }
    }
}

fn secrets(words: &mut [String], more: &[Regex]) {
    let program = words.first().map(|word| word.rsplit('/').next().unwrap_or_default().to_owned()).unwrap_or_default();
    let is = |programs: &[&str]| programs.contains(&program.as_str());
    let mut next_is_secret = false;
    let mut next_has_password = false;
    for (at, word) in words.iter_mut().enumerate() {
        if std::mem::take(&mut next_is_secret) && !word.is_empty() {
            MASKED.clone_into(word);
            continue;
        }
        if std::mem::take(&mut next_has_password) {
            mask_after_colon(word);
        }
        if at > 0 {
            next_is_secret = OPTION.is_match(word) || word == "-p" && is(&PASSWORD_NEXT);
            next_has_password =
                is(&USER_AND_PASSWORD) && matches!(word.as_str(), "-u" | "--user" | "--proxy-user" | "-U");
            if is(&JOINED_PASSWORD) && word.starts_with("-p") && word.len() > 2 {
                *word = format!("-p{MASKED}");
            }
        }
        for pattern in [&*SETTING, &*URL, &*HEADER, &*TOKEN].into_iter().chain(more) {
            cover(word, pattern);
        }
    }
}

fn mask_after_colon(word: &mut String) {
    if let Some(at) = word.find(':') {
        word.truncate(at + 1);
        word.push_str(MASKED);
    }
}

/// Puts [`MASKED`] where the pattern's first group is, or all of it where it has none.
fn cover(word: &mut String, pattern: &Regex) {
    let found: Vec<_> = pattern
        .captures_iter(word)
        .filter_map(|captures| captures.get(1).or(captures.get(0)).map(|group| group.range()))
        .filter(|range| !range.is_empty())
        .collect();
    for range in found.into_iter().rev() {
        word.replace_range(range, MASKED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn masked(line: &[&str]) -> String {
        let mut words: Vec<_> = line.iter().map(|word| (*word).to_owned()).collect();
        Mask::Secrets(Vec::new()).apply(&mut words);
        words.join(" ")
    }

    #[test]
    fn passwords_and_tokens_are_covered_wherever_programs_take_them() {
        for (line, shown) in [
            (&["mysqldump", "-u", "shop", "-pgeheim", "db"][..], "mysqldump -u shop -p*** db"),
            (&["/usr/bin/mysql", "--password=geheim"], "/usr/bin/mysql --password=***"),
            (&["swaks", "--auth-password", "geheim", "--to", "a@b"], "swaks --auth-password *** --to a@b"),
            (&["swaks", "-ap", "geheim"], "swaks -ap ***"),
            (&["sshpass", "-p", "geheim", "ssh", "x"], "sshpass -p *** ssh x"),
            (&["curl", "-u", "me:geheim", "https://x"], "curl -u me:*** https://x"),
            (&["curl", "smtp://me:geheim@mail.example:587"], "curl smtp://me:***@mail.example:587"),
            (&["curl", "-H", "Authorization: Bearer abc.def"], "curl -H Authorization: Bearer ***"),
            (&["curl", "https://x/?token=abc&y=1"], "curl https://x/?token=***&y=1"),
            (&["env", "SMTP_PASSWORD=geheim", "DB_PASS_FILE=/x"], "env SMTP_PASSWORD=*** DB_PASS_FILE=/x"),
            (&["php", "-r", "$m->Password = 'geheim'; $m->send();"], "php -r $m->Password = '***'; $m->send();"),
            (&["php", "-r", "['password' => \"geheim\"]"], "php -r ['password' => \"***\"]"),
            (&["x", "ghp_abcdefghijkl"], "x ***"),
            (&["ssh", "-p", "2222", "host"], "ssh -p 2222 host"),
            (&["nginx", "-p", "/srv"], "nginx -p /srv"),
            (&["perl", "/home/shop/bypass.pl", "compass"], "perl /home/shop/bypass.pl compass"),
            (&["passwd", "shop"], "passwd shop"),
        ] {
            assert_eq!(masked(line), shown);
        }
    }

    #[test]
    fn what_is_configured_is_covered_too_and_arguments_can_be_left_out_altogether() {
        let mut words = vec!["x".to_owned(), "customer-4711".into()];
        Mask::Secrets(vec![Regex::new(r"customer-(\d+)").unwrap()]).apply(&mut words);
        assert_eq!(words[1], "customer-***");
        let mut words: Vec<_> = ["php", "-f", "/srv/x.php", "me", "--k=v"].map(str::to_owned).into();
        Mask::Arguments.apply(&mut words);
        assert_eq!(words.join(" "), "php -f /srv/x.php *** ***");
        let mut words = vec!["x".to_owned(), "--password=y".into()];
        Mask::Nothing.apply(&mut words);
        assert_eq!(words[1], "--password=y");
    }

    proptest! {
        #[test]
        fn a_secret_behind_its_name_is_never_shown(name in "(password|api_key|auth_token|DB_PASSWORD)", secret in "[A-Za-z0-9]{12}") {
            let shown = masked(&["x", &format!("--{name}={secret}"), &format!("--{name}"), &secret]);
            prop_assert!(!shown.contains(&secret), "{shown}");
        }

        #[test]
        fn no_words_make_it_panic(words: Vec<String>) {
            let mut words = words;
            Mask::Secrets(Vec::new()).apply(&mut words);
        }
    }
}
