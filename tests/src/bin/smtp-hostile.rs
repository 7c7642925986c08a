//! Plays seeded conversations that keep the letter of SMTP and none of its manners, and says what came of them.

use clap::Parser;
use smtp_tests::hostile::{Plan, play};
use std::process::ExitCode;

fn main() -> ExitCode {
    match play(&Plan::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("smtp-hostile: {error:#}");
            ExitCode::FAILURE
        }
    }
}
