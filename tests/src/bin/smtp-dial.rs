//! Makes connection attempts in a chosen way as a chosen user, and says what became of them.

use clap::Parser;
use smtp_tests::dial::{caller, plan::Plan};
use std::process::ExitCode;

fn main() -> ExitCode {
    match caller::run(&Plan::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("smtp-dial: {error:#}");
            ExitCode::FAILURE
        }
    }
}
