//! The users of the tests that are about users and groups.

use smtp_tests::Etc;

pub(crate) const ANN: u32 = 5_001;
pub(crate) const BOB: u32 = 5_002;
pub(crate) const EVE: u32 = 5_003;

/// Ann's primary group is the staff, Bob is a member of it besides, Eve is not; and who sends for others.
pub(crate) fn people() -> Etc {
    let etc = Etc::with_users(&[
        ("ann", ANN, 7_000),
        ("bob", BOB, BOB),
        ("eve", EVE, EVE),
        ("exim", 5_010, 5_010),
        ("mailman", 5_011, 5_011),
    ]);
    etc.replace("group", &etc.read("group").replace("ann:x:7000:", "staff:x:7000:bob"));
    etc
}
