//! Tests of the diagnosis, most of them against a server on loopback that says what the test wants.

mod hostile;
mod parsing;
mod properties;
mod server;
mod verdicts;

use std::time::{Duration, Instant};

use self::server::Server;
use super::{
    Options, Verdict, Visit,
    target::Vantage,
    verdict::{Conclusion, conclude},
    visit::visit,
};

const SOON: Duration = Duration::from_millis(300);

fn options(server: &Server) -> Options {
    Options {
        target: server.address.to_string().parse().expect("a target"),
        from: "tester@from.example".parse().expect("an address"),
        to: "victim@to.example".parse().expect("an address"),
        hello: Some("client.example".parse().expect("a name")),
        timeout: SOON,
        operated: false,
    }
}

fn visited(server: &Server) -> Visit {
    visit(server.address, &[], &options(server), SOON * 40)
}

/// What the same answers mean when they come from outside. Over loopback nothing is proven.
fn outside(visit: &Visit) -> Conclusion {
    conclude(&visit.probes, Vantage::Outside)
}

#[track_caller]
fn assert_verdict(visit: &Visit, verdict: Verdict, parts: &[&str]) {
    let conclusion = outside(visit);
    assert_eq!(conclusion.verdict, verdict, "{conclusion:?}\n{visit:#?}");
    for part in parts {
        assert!(conclusion.because.contains(part), "{part:?} is missing in {:?}", conclusion.because);
    }
}

/// Runs something that must come to its end in time, whatever the server does.
#[track_caller]
fn within<T>(limit: Duration, what: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let result = what();
    assert!(began.elapsed() < limit, "it took {:?}", began.elapsed());
    result
}
