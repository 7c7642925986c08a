//! Which patterns a cgroup's path matches, out of thousands.
//!
//! Each pattern is filed under what stands before its first special character, and where that is a star and the only one,
//! under what stands after it. A path is asked for the beginnings (and ends) of it that are as long as some such part, and
//! only the few patterns found there are tried.

use std::{
    cell::OnceCell,
    collections::{BTreeSet, HashMap},
};

use globset::GlobMatcher;

use crate::config::Pattern;

#[derive(Debug, Clone, Default)]
pub struct Patterns {
    all: Vec<Filed>,
    by_prefix: HashMap<String, Drawer>,
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
    OneStar,
    Any(OnceCell<GlobMatcher>),
}

/// Numbers of the patterns with one prefix.
#[derive(Debug, Clone, Default)]
struct Drawer {
    exact: Vec<usize>,
    /// By what stands after the star: thousands may begin alike.
    one_star: HashMap<String, Vec<usize>>,
    /// Lengths of that, in octets.
    lengths: BTreeSet<usize>,
    any: Vec<usize>,
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
        self.lengths.insert(prefix.len());
        let (number, drawer) = (self.all.len(), self.by_prefix.entry(prefix.to_owned()).or_default());
        let shape = match rest.strip_prefix('*') {
            None if rest.is_empty() => {
                drawer.exact.push(number);
                Shape::Exact
            }
            Some(suffix) if !suffix.contains(is_special) => {
                drawer.one_star.entry(suffix.to_owned()).or_default().push(number);
                drawer.lengths.insert(suffix.len());
                Shape::OneStar
            }
            _ => {
                drawer.any.push(number);
                Shape::Any(OnceCell::new())
            }
        };
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
        let mut found = Vec::new();
        for &length in self.lengths.range(..=path.len()) {
            let Some((prefix, rest)) = path.split_at_checked(length) else { continue };
            let Some(drawer) = self.by_prefix.get(prefix) else { continue };
            if rest.is_empty() {
                found.extend(&drawer.exact);
            }
            for &length in drawer.lengths.range(..=rest.len()) {
                if let Some((between, suffix)) = rest.split_at_checked(rest.len() - length)
                    && let Some(numbers) = drawer.one_star.get(suffix)
                    && !between.contains('/')
                {
                    found.extend(numbers);
                }
            }
            found.extend(drawer.any.iter().filter(|&&number| self.all[number].matches(path)));
        }
        found.sort_unstable();
        found
    }
}

impl Filed {
    /// Asked of those alone that filing does not decide.
    fn matches(&self, path: &str) -> bool {
        match &self.shape {
            Shape::Any(matcher) => matcher.get_or_init(|| self.pattern.glob().compile_matcher()).is_match(path),
            Shape::Exact | Shape::OneStar => false,
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
