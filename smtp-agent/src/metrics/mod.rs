//! What Prometheus reads. Every number comes from a map at the moment of the scrape, so an agent that was
//! restarted goes on where the one before it stopped.

pub mod families;
pub mod server;
