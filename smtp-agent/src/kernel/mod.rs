//! The kernel side as the agent sees it: facts of the host, pins, maps, programs. Nothing outside this room
//! uses aya.

pub mod addresses;
pub mod attached;
pub mod binaries;
pub mod btf;
pub mod cgroup;
pub mod cgroup_tree;
pub mod destroy;
pub mod gate;
pub mod host;
pub mod maps;
pub mod pins;
pub mod portraits;
pub mod ring;
pub mod storage;
pub mod sys;
