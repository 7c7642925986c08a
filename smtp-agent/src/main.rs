use std::process::ExitCode;

fn main() -> ExitCode {
    smtp_agent::cli::main()
}
