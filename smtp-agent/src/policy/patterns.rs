//! Which patterns a cgroup's path matches, out of thousands.
//!
//! Each pattern is filed under what stands before its first special character. A path is asked for the beginnings of it
//! that are as long as some such prefix, and only the few patterns found there are tried.

use std::{
    cell::OnceCell,
    collections::{BTreeSet, HashMap},
};

use globset::GlobMatcher;

use crate::config::Pattern;

#[derive(Debug, Clone, Default)]
pub struct Patterns {
    all: Vec<Filed>,
    by_prefix: HashMap<String, Vec<usize>>,
    /// Lengths of the prefixes there are, in octets.
    lengths: BTreeSet<usize>,
}

#[derive(Debug, Clone)]
struct Filed {
    pattern: Pattern,
    shape: Shape,
}

/// How a pattern is tried.
#[derive(Debug, Clone)]
enum Shape {
    Exact,
    /// One star and nothing else that is special: what stands before and after it. Most patterns are of this kind, and
    /// compiling thousands of them takes longer than all else.
    OneStar {
        suffix: String,
        prefix: usize,
    },
    Any(OnceCell<GlobMatcher>),
}

fn is_special(c: char) -> bool {
    matches!(c, '*' | '?' | '[' | ']' | '{' | '}')
}

impl Patterns {
    /// Adds a pattern; they are numbered from 0 in this order.
    pub fn add(&mut self, pattern: Pattern) {
        let text = pattern.as_str();
        let prefix = &text[..text.find(is_special).unwrap_or(text.len())];
        let rest = &text[prefix.len()..];
        let shape = match rest.strip_prefix('*') {
            None if rest.is_empty() => Shape::Exact,
            Some(suffix) if !suffix.contains(is_special) => {
                Shape::OneStar { suffix: suffix.to_owned(), prefix: prefix.len() }
            }
            _ => Shape::Any(OnceCell::new()),
        };
        self.lengths.insert(prefix.len());
        self.by_prefix.entry(prefix.to_owned()).or_default().push(self.all.len());
        self.all.push(Filed { pattern, shape });
    }

    /// Numbers under which this very pattern was added.
    pub fn numbers_of(&self, pattern: &Pattern) -> impl Iterator<Item = usize> {
        self.all.iter().enumerate().filter(move |(_, filed)| filed.pattern == *pattern).map(|(number, _)| number)
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Paths that patterns without special characters name, and no other path matches those.
    pub fn exact(&self) -> impl Iterator<Item = &str> {
        self.all.iter().filter(|filed| matches!(filed.shape, Shape::Exact)).map(|filed| filed.pattern.as_str())
    }

    /// Numbers of the patterns that this very path matches, ascending.
    pub fn matching(&self, path: &str) -> Vec<usize> {
        let bytes = path.as_bytes();
        let mut found: Vec<usize> = self
            .lengths
            .range(..=bytes.len())
            .filter_map(|&length| self.by_prefix.get(path.get(..length)?))
            .flatten()
            .copied()
            .filter(|&number| self.all[number].matches(path))
            .collect();
        found.sort_unstable();
        found
    }
}

impl Filed {
    /// Of a path that begins with the pattern's prefix.
    fn matches(&self, path: &str) -> bool {
        match &self.shape {
            Shape::Exact => path == self.pattern.as_str(),
            Shape::OneStar { suffix, prefix } => path
                .get(*prefix..)
                .and_then(|rest| rest.strip_suffix(suffix.as_str()))
                .is_some_and(|between| !between.contains('/')),
            Shape::Any(matcher) => matcher.get_or_init(|| self.pattern.glob().compile_matcher()).is_match(path),
        }
    }
}

/// A path and every path above it, the outermost first, without the root: `/a`, `/a/b`, `/a/b/c`.
pub fn ancestry(path: &str) -> impl Iterator<Item = &str> {
    let ends = path.match_indices('/').map(|(at, _)| at).skip(1).chain([path.len()]);
    ends.filter(|&end| end > 1).map(|end| &path[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use proptest::prelude::*;

    /// As a configuration makes them.
    fn pattern(text: &str) -> Pattern {
        let text = format!("[[rule]]\ncgroup = {text:?}\nplan = \"standard\"\n");
        let loaded = config::parse_str("test", &text).unwrap_or_else(|p| panic!("{}", p.render(false)));
        let config::Subject::Cgroup(pattern) = &loaded.config.rules[0].subject else { panic!("{text}") };
        pattern.value.clone()
    }

    fn patterns(texts: &[&str]) -> Patterns {
        let mut patterns = Patterns::default();
        texts.iter().for_each(|text| patterns.add(pattern(text)));
        patterns
    }

    #[test]
    fn a_star_stays_within_its_component() {
        let all = patterns(&["/system.slice/php*.service", "/system.slice", "/**/x", "/k/pod-[0-9]?", "/a{b,c}", "/*"]);
        for (path, expected) in [
            ("/system.slice/php8.2-fpm.service", &[0][..]),
            ("/system.slice/php.service", &[0]),
            ("/system.slice/php/a.service", &[]),
            ("/system.slice/php.servic", &[]),
            ("/system.slice", &[1, 5]),
            ("/x", &[2, 5]),
            ("/a/b/x", &[2]),
            ("/k/pod-12", &[3]),
            ("/k/pod-1", &[]),
            ("/ab", &[4, 5]),
            ("/", &[5]),
        ] {
            assert_eq!(all.matching(path), expected, "{path}");
        }
        assert_eq!(all.exact().collect::<Vec<_>>(), ["/system.slice"]);
    }

    #[test]
    fn ancestry_begins_outermost_and_leaves_the_root_out() {
        assert_eq!(ancestry("/a/b/c").collect::<Vec<_>>(), ["/a", "/a/b", "/a/b/c"]);
        assert_eq!(ancestry("/").count(), 0);
    }

    proptest! {
        #[test]
        fn filing_changes_nothing(path in "/[ab*/]{0,12}", texts in prop::collection::vec("/[ab*?]{1,5}(/[ab*]{1,3})?", 1..8)) {
            let texts: Vec<&str> = texts.iter().map(String::as_str).filter(|t| !t.contains("**")).collect();
            let all = patterns(&texts);
            let expected: Vec<usize> = texts.iter().enumerate()
                .filter(|(_, text)| pattern(text).glob().compile_matcher().is_match(&path)).map(|(i, _)| i).collect();
            prop_assert_eq!(all.matching(&path), expected);
        }
    }
}
