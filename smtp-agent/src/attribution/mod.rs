//! From what the kernel saw of a process to the user, service, script and parents behind it.

pub mod culprit;

pub use culprit::Culprit;
