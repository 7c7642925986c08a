//! The host's users and groups, subordinate uids, and the names of containers.

pub mod container;
pub mod database;
pub mod label;
pub mod naming;
pub mod netns;
pub mod subuid;
