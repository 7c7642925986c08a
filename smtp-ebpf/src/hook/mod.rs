//! One file per hook: a thin entry that fetches the arguments.

mod connect4;
mod connect6;
