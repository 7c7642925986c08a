//! Real programs that send mail, each from a Debian root of its own: exim and postfix, two small clients, and a web host.

mod apache;
mod clients;
mod dns;
mod exim;
mod postfix;
mod root;
mod web;

pub use apache::Apache;
pub use clients::{Msmtp, Swaks};
pub use dns::Dns;
pub use exim::{Builder, Exim};
pub use postfix::{Builder as PostfixBuilder, Postfix};
pub use root::Letter;
pub use web::Web;
