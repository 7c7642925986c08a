//! One file per hook: a thin entry that fetches the arguments.

mod connect4;
mod connect6;
mod exec;
mod fork;
mod received;
mod sent;
mod session;
