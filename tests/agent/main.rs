//! The agent layer: the real binary as root in a real kernel, judged by what its user sees. Exit codes, sentences,
//! files, metrics and events; what the kernel decides is the business of the kernel layer.

mod bpf;
mod by_hand;
mod check;
mod commands;
mod control;
mod dashboards;
mod detach;
mod doctor;
mod events;
mod explain;
mod history;
mod host;
mod hostile;
mod howto;
mod labels;
mod lifecycle;
mod logging;
mod metrics;
mod names;
mod neighbours;
mod notify;
mod page;
mod pins;
mod reboot;
mod refusals;
mod rehearse;
mod reload;
mod scene;
mod top;
mod unasked;
