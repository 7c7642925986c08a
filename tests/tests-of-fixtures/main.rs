//! Do the fixtures hold what they promise? Each is shown to work, and to clean up.

mod agent;
mod dialling;
mod hostile;
mod mailer;
mod mta;
mod prometheus;
mod senders;
mod sink;
mod world;
