//! Configurations of any size, as a panel would write them: one `[[rule]]` for each account, cgroup or destination.

use std::{fmt::Write, net::Ipv4Addr};

/// By number only: nobody has them, and nothing needs their names.
const FIRST_ACCOUNT: u32 = 3_000_000;
/// Different limits among the accounts: a host has more accounts than tariffs.
const TARIFFS: usize = 100;

/// The uid of the account with this number.
pub(crate) fn account(number: usize) -> u32 {
    FIRST_ACCOUNT + number as u32
}

/// Rules for so many accounts in so many files.
pub(crate) fn accounts(count: usize, files: usize) -> Vec<String> {
    let rule = |text: &mut String, number: usize| {
        let limit = 999_999_000 + number % TARIFFS;
        write(text, format_args!("[[rule]]\nuser={}\nper_day={limit}\n", account(number)));
    };
    (0..files)
        .map(|file| {
            let mut text = String::new();
            (count * file / files..count * (file + 1) / files).for_each(|number| rule(&mut text, number));
            text
        })
        .collect()
}

/// How a rule names its cgroup.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Form {
    Exact,
    /// A star late in the name, so that what stands before it differs from rule to rule.
    LateStar,
    /// A star early in the name: all rules begin with the same.
    EarlyStar,
}

/// The name of the cgroup that the rule with this number means.
pub(crate) fn cgroup(number: usize) -> String {
    format!("site-{number:05}.service")
}

/// Rules for so many cgroups below `base`, each with a limit that is never reached.
pub(crate) fn cgroups(count: usize, base: &str, form: Form) -> String {
    let mut text = String::new();
    for number in 0..count {
        let pattern = match form {
            Form::Exact => cgroup(number),
            Form::LateStar => format!("site-{number:05}*.service"),
            Form::EarlyStar => format!("*-{number:05}.service"),
        };
        let limits = "per_hour = 1_000_000_000\nper_day = 1_000_000_000";
        write(&mut text, format_args!("[[rule]]\ncgroup = \"{base}/{pattern}\"\n{limits}\n"));
    }
    text
}

/// Every second of the destinations that exceptions speak of: what lies between is spoken of by none.
pub(crate) fn destination(number: usize) -> Ipv4Addr {
    // 198.18.0.0/15 is for benchmarks (RFC 2544).
    Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + 2 * number as u32)
}

/// The address after it.
pub(crate) fn no_destination(number: usize) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(destination(number)) + 1)
}

/// Exceptions for so many destinations, of everybody.
pub(crate) fn exceptions(count: usize) -> String {
    let mut text = String::new();
    for number in 0..count {
        write(&mut text, format_args!("[[rule]]\nto = \"{}\"\nplan = \"allow\"\n", destination(number)));
    }
    text
}

/// Writing to a string cannot fail.
fn write(text: &mut String, what: std::fmt::Arguments<'_>) {
    let _ = text.write_fmt(what);
}

#[cfg(test)]
mod tests {
    use super::*;
    use smtp_agent::config;

    fn rules(text: &str) -> (usize, usize) {
        let loaded = config::parse_str("test", text).unwrap_or_else(|problems| panic!("{}", problems.render(false)));
        (loaded.config.rules.len(), loaded.config.exceptions.len())
    }

    #[test]
    fn what_is_written_is_read_as_so_many_rules() {
        assert_eq!(rules(&accounts(250, 1).concat()), (250, 0));
        assert_eq!(rules(&exceptions(250)), (0, 250));
        for form in [Form::Exact, Form::LateStar, Form::EarlyStar] {
            assert_eq!(rules(&cgroups(250, "/base", form)), (250, 0), "{form:?}");
        }
    }

    #[test]
    fn files_share_the_accounts_among_them() {
        let files = accounts(1_000, 300);
        assert_eq!(files.len(), 300);
        assert_eq!(files.concat(), accounts(1_000, 1).concat());
        assert!(files.iter().all(|text| !text.is_empty()));
    }

    #[test]
    fn a_hundred_thousand_accounts_fit_into_one_file() {
        assert!(accounts(100_000, 1).concat().len() <= 4 << 20, "larger files are refused");
    }
}
