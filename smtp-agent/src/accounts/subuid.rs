//! Subordinate uids (subuid(5)): who owns them, as prefixes the kernel can look up.
//!
//! Debian and Ubuntu give every user 65,536 of them, so a limit per uid would be a limit times 65,536.

use super::database::Database;

/// All uids that share the first `bits` bits of `first`, and the user they are charged to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    pub first: u32,
    pub bits: u32,
    pub owner: u32,
}

impl Prefix {
    pub fn covers(&self, uid: u32) -> bool {
        self.bits == 0 || (uid ^ self.first) >> (32 - self.bits) == 0
    }
}

/// Prefixes for the ranges in the text of /etc/subuid, and a sentence for each line that could not be used.
///
/// A uid that a user of the host has stays his own even inside somebody's range.
pub fn parse(text: &str, users: &Database) -> (Vec<Prefix>, Vec<String>) {
    let mut prefixes = Vec::new();
    let mut complaints = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        match range(line, users) {
            Ok((owner, first, last)) => prefixes.extend(cover(first, last, owner)),
            Err(what) => complaints.push(format!("/etc/subuid:{}: {what}; the line is left out", number + 1)),
        }
    }
    let own: Vec<_> = users
        .uids()
        .filter(|&uid| prefixes.iter().any(|p| p.covers(uid)))
        .map(|uid| Prefix { first: uid, bits: 32, owner: uid })
        .collect();
    prefixes.extend(own);
    (prefixes, complaints)
}

fn range(line: &str, users: &Database) -> Result<(u32, u32, u32), String> {
    let fields: Vec<_> = line.split(':').collect();
    let [owner, first, count] = fields[..] else {
        return Err("expected NAME:FIRST:COUNT".into());
    };
    // subuid(5): "login name or UID".
    let owner = users.uid(owner).or_else(|| owner.parse().ok()).ok_or_else(|| format!("no user {owner:?} here"))?;
    let number = |text: &str| text.trim().parse::<u32>().map_err(|_| format!("{text:?} is no uid"));
    let (first, count) = (number(first)?, number(count)?);
    if count == 0 {
        return Err("a range of nothing".into());
    }
    if first == 0 {
        return Err("a range that begins with root's uid".into());
    }
    let last = first.checked_add(count - 1).ok_or("a range past the last uid")?;
    Ok((owner, first, last))
}

/// The fewest prefixes that cover `first..=last` and nothing else.
fn cover(first: u32, last: u32, owner: u32) -> Vec<Prefix> {
    let mut out = Vec::new();
    let (mut next, end) = (first as u64, last as u64 + 1);
    while next < end {
        let aligned = if next == 0 { 32 } else { next.trailing_zeros().min(32) };
        let fits = 63 - (end - next).leading_zeros();
        let size = aligned.min(fits);
        out.push(Prefix { first: next as u32, bits: 32 - size, owner });
        next += 1 << size;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_debian_range_takes_few_prefixes() {
        assert!(cover(100_000, 165_535, 1000).len() <= 12);
    }

    #[test]
    fn lines_that_mean_nothing_are_named_and_the_rest_is_used() {
        let users = Database::default();
        let text = "1000:100000:65536\n\n# comment\nbroken\nghost:1:2\n7:0:10\n7:4294967295:2\n8:5:x\n9:5:0\n";
        let (prefixes, complaints) = parse(text, &users);
        assert!(prefixes.iter().all(|p| p.owner == 1000));
        let lines: Vec<_> = complaints.iter().map(|c| c.split(':').nth(1).unwrap().to_owned()).collect();
        assert_eq!(lines, ["4", "5", "6", "7", "8", "9"]);
    }

    proptest! {
        #[test]
        fn a_cover_holds_exactly_the_range(first in 1u32.., len in 0u32..200_000, probe: u32) {
            let last = first.saturating_add(len);
            let prefixes = cover(first, last, 7);
            let inside = |uid: u32| prefixes.iter().filter(|p| p.covers(uid)).count();
            let near = [first, last, first.wrapping_sub(1), last.wrapping_add(1), probe];
            for uid in near {
                prop_assert_eq!(inside(uid), usize::from((first..=last).contains(&uid)));
            }
            prop_assert!(prefixes.len() <= 62);
        }
    }
}
