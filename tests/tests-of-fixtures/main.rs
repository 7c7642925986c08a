//! Do the fixtures hold what they promise? Each is shown to work, and to clean up.

mod agent;
mod dialling;
mod mta;
mod prometheus;
mod sink;
mod world;
