//! One file per hook: a thin entry that fetches the arguments.

mod cgroup;
mod connect4;
mod connect6;
mod exec;
mod fork;
mod peer;
mod process;
mod received;
mod sent;
mod session;
