//! Real programs that send mail, each from a Debian root of its own: exim and postfix, and two small clients.

mod clients;
mod exim;
mod postfix;
mod root;

pub use clients::{Msmtp, Swaks};
pub use exim::{Builder, Exim};
pub use postfix::{Builder as PostfixBuilder, Postfix};
pub use root::Letter;
