//! What an account is called, in metrics, events and tables.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use smtp_common::connection::{Account, kind};

use super::database::user_name;

/// The label of everyone beyond the cap, and of whoever found no room in a map.
pub const OTHER: &str = "other";
/// The label of kernel threads.
pub const KERNEL: &str = "kernel";

/// Names of users, asked for once until [`Labels::forget`].
#[derive(Default)]
pub struct Labels {
    users: Mutex<HashMap<u32, String>>,
}

impl Labels {
    /// The name of an account; `container` is what the agent has learned of a container, if anything.
    pub fn of(&self, account: Account, container: impl FnOnce() -> Option<String>) -> String {
        match account.kind {
            kind::USER => self.user(account.id as u32),
            kind::KERNEL => KERNEL.into(),
            kind::CGROUP => format!("container:{}", container().unwrap_or_else(|| format!("cgroup-{}", account.id))),
            kind::NETNS => format!("container:{}", container().unwrap_or_else(|| format!("netns-{}", account.id))),
            kind::ROOTLESS => format!("container:rootless-{}", self.user(account.id as u32)),
            _ => OTHER.into(),
        }
    }

    fn user(&self, uid: u32) -> String {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        users.entry(uid).or_insert_with(|| user_label(uid, user_name(uid))).clone()
    }

    /// Asks again from now on: the databases have changed.
    pub fn forget(&self) {
        self.users.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// A name that says something else as a label gives way to the uid.
fn user_label(uid: u32, name: Option<String>) -> String {
    let digits = |name: &String| name.bytes().all(|b| b.is_ascii_digit());
    let taken = |name: &String| name == OTHER || name == KERNEL || name.starts_with("container:") || digits(name);
    match name.filter(|name| !name.is_empty() && !taken(name)) {
        Some(name) => printable(name.as_bytes()),
        None => uid.to_string(),
    }
}

/// Text that is safe on a terminal, in a log line and in a label: control characters, invisible direction
/// marks and bytes that are not UTF-8 are shown as escapes.
pub fn printable(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            let hidden =
                matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
            if c == '\\' {
                out.push_str("\\\\");
            } else if c.is_control() || hidden {
                out.extend(c.escape_default());
            } else {
                out.push(c);
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// [`printable`], of a field the kernel pads with NUL.
pub fn printable_until_nul(bytes: &[u8]) -> String {
    printable(bytes.split(|&b| b == 0).next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_could_move_the_cursor_or_forge_a_line_is_escaped() {
        for (bytes, shown) in [
            (&b"exim4"[..], "exim4"),
            (b"a\nb", "a\\nb"),
            (b"\x1b[31mred", "\\u{1b}[31mred"),
            (b"\xff\xfe", "\\xff\\xfe"),
            ("tür".as_bytes(), "tür"),
            ("a\u{202e}b".as_bytes(), "a\\u{202e}b"),
            (b"a\\nb", "a\\\\nb"),
        ] {
            assert_eq!(printable(bytes), shown);
        }
        assert_eq!(printable_until_nul(b"sh\0garbage"), "sh");
    }

    #[test]
    fn a_user_called_like_a_label_is_shown_by_number() {
        assert_eq!(user_label(7, Some("other".into())), "7");
        assert_eq!(user_label(7, Some("kernel".into())), "7");
        assert_eq!(user_label(7, Some("container:web".into())), "7");
        assert_eq!(user_label(7, Some("8".into())), "7");
        assert_eq!(user_label(7, None), "7");
        assert_eq!(user_label(7, Some("shop".into())), "shop");
    }

    proptest! {
        #[test]
        fn no_bytes_leave_a_control_character(bytes: Vec<u8>) {
            prop_assert!(!printable(&bytes).chars().any(char::is_control));
        }
    }
}
