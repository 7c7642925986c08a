//! The live view of a terminal: state, keys and drawing. It knows no terminal and no clock but those it is given; `cli`
//! brings both.

mod app;
mod columns;
mod draw;
mod rates;
mod recent;
mod told;

pub use app::{Action, App, Prompt, Sort, View};
pub use draw::{Look, draw};
pub use told::Told;
