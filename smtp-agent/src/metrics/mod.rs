//! What Prometheus reads. Every number comes from a map at the moment of the scrape, so an agent that was
//! restarted goes on where the one before it stopped.

pub mod budget;
mod by_hand;
mod connections;
mod conversations;
mod families;
mod health;
mod limits;
mod named;
mod notices;
mod seats;
pub mod server;

pub use conversations::VERDICTS;
pub use health::wanted;
