//! The HTTP side: /metrics for Prometheus, the page at / for people, /-/healthy and /-/ready for supervisors.

use std::{
    net::{SocketAddr, TcpListener as StdListener},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper::{
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::net::TcpListener;

use super::{
    families::scrape,
    seats::{Doing, Patient, Seats},
};
use crate::{
    daemon::shared::Shared,
    exit::{Code, Failure, Result},
    page,
};

/// Bounds of what clients may hold.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// Connections at a time.
    connections: usize,
    /// How long one may wait for its next request.
    idle: Duration,
    /// How long a client may take for an answer.
    writing: Duration,
}

const BOUNDS: Bounds = Bounds { connections: 64, idle: Duration::from_secs(30), writing: Duration::from_secs(20) };

const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Binds before anything is attached, so that a port in use costs nothing.
pub fn bind(listen: SocketAddr) -> Result<StdListener> {
    let listener = StdListener::bind(listen).and_then(|l| l.set_nonblocking(true).map(|()| l));
    listener.map_err(|e| {
        let code =
            if e.kind() == std::io::ErrorKind::PermissionDenied { Code::NotPermitted } else { Code::Unavailable };
        Failure::new(
            code,
            format!(
                "the metrics cannot be served on {listen}: {e}; write another address in [metrics] listen, or \"off\""
            ),
        )
    })
}

/// Serves until the task is dropped.
pub async fn serve(shared: Arc<Shared>, listener: StdListener) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/metrics", get(metrics))
        .route("/-/healthy", get(|| async { "smtp-agent is alive\n" }))
        .route("/-/ready", get(ready))
        .with_state(shared.clone())
        .merge(page::routes(shared));
    bounded(routes, TcpListener::from_std(listener)?, BOUNDS).await
}

/// Any user of the host may connect, so connections are few, may neither idle nor leave answers unread, and make room
/// for who comes: what they hold are descriptors of the agent's. `axum::serve` has none of these limits.
async fn bounded(routes: Router, listener: TcpListener, bounds: Bounds) -> std::io::Result<()> {
    let mut seats = Seats::new(bounds.connections);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(bounds.idle);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let doing = seats.make_room().await;
                let routes = TowerToHyperService::new(routes.clone());
                let answering = doing.clone();
                let service = service_fn(move |request| {
                    answering.set(Doing::Answering);
                    let (answer, answering) = (routes.call(request), answering.clone());
                    async move {
                        let answer = answer.await;
                        answering.set(Doing::Waiting);
                        answer
                    }
                });
                let io = TokioIo::new(Patient::new(stream, bounds.writing, doing.clone()));
                let connection = http.serve_connection(io, service);
                seats.take(doing, async move {
                    // A client that goes away or says nothing is no news.
                    let _ = connection.await;
                });
            }
            Err(e) => {
                tracing::warn!("the metrics server cannot accept: {e}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    // Reading the maps is system calls, which must not hold up the other tasks.
    let scraped = tokio::task::spawn_blocking(move || scrape(&shared).map_err(|e| e.to_string())).await;
    match scraped.map_err(|e| e.to_string()).and_then(|text| text) {
        Ok(text) => ([(header::CONTENT_TYPE, TEXT_FORMAT)], text).into_response(),
        Err(e) => {
            tracing::error!("a scrape failed: {e}");
            (StatusCode::INTERNAL_SERVER_ERROR, format!("the gate's maps cannot be read: {e}\n")).into_response()
        }
    }
}

async fn ready(State(shared): State<Arc<Shared>>) -> Response {
    if shared.status.ready.load(Ordering::Relaxed) {
        "smtp-agent is ready: the gate is attached\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "smtp-agent is not ready: the gate is not attached\n").into_response()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpStream,
    };

    use super::*;

    const REQUEST: &[u8] = b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n";

    /// A server with an answer that no buffer of a socket holds.
    fn server(bounds: Bounds) -> SocketAddr {
        let listener = bind(([127, 0, 0, 1], 0).into()).expect("a port");
        let address = listener.local_addr().expect("its address");
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let routes = Router::new()
                .route("/x", get(|| async { "fine" }))
                .route("/large", get(|| async { "x".repeat(32 << 20) }));
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("a listener");
                bounded(routes, listener, bounds).await
            })
        });
        address
    }

    fn connected(server: SocketAddr) -> TcpStream {
        let stream = TcpStream::connect(server).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        stream
    }

    /// The first line of the answer.
    fn asked(stream: &mut TcpStream) -> String {
        stream.write_all(REQUEST).expect("a request");
        let mut buffer = [0; 1024];
        let read = stream.read(&mut buffer).expect("an answer");
        String::from_utf8_lossy(&buffer[..read]).lines().next().unwrap_or_default().to_owned()
    }

    fn bounds(connections: usize) -> Bounds {
        Bounds { connections, idle: Duration::from_secs(60), writing: Duration::from_secs(60) }
    }

    #[test]
    fn who_comes_when_there_is_no_room_gets_that_of_the_longest_idle() {
        let server = server(bounds(4));
        let mut idle: Vec<_> = (0..4).map(|_| connected(server)).collect();
        // The first has been of use last.
        for at in [0, 1, 2, 3, 0] {
            assert_eq!(asked(&mut idle[at]), "HTTP/1.1 200 OK");
        }
        assert_eq!(asked(&mut connected(server)), "HTTP/1.1 200 OK");
        assert_eq!(idle[1].read(&mut [0; 16]).unwrap_or(0), 0, "the longest idle was closed");
        assert_eq!(asked(&mut idle[0]), "HTTP/1.1 200 OK");
        // However many hold all the room.
        let _more: Vec<_> = (0..50).map(|_| connected(server)).collect();
        assert_eq!(asked(&mut connected(server)), "HTTP/1.1 200 OK");
    }

    #[test]
    fn who_does_not_read_makes_room_as_well() {
        let server = server(bounds(3));
        let deaf: Vec<_> = (0..3)
            .map(|_| {
                let mut stream = connected(server);
                stream.write_all(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n").expect("a request");
                stream
            })
            .collect();
        assert_eq!(asked(&mut connected(server)), "HTTP/1.1 200 OK");
        drop(deaf);
    }

    #[test]
    fn an_answer_that_is_not_read_is_given_up_in_time_and_one_that_is_read_comes_whole() {
        let server = server(Bounds { writing: Duration::from_secs(2), ..bounds(4) });
        let large = b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let mut reading = connected(server);
        reading.write_all(large).expect("a request");
        let mut answer = Vec::new();
        reading.read_to_end(&mut answer).expect("the answer");
        assert!(answer.len() > 32 << 20, "{}", answer.len());
        let mut deaf = connected(server);
        deaf.write_all(large).expect("a request");
        std::thread::sleep(Duration::from_millis(3500));
        let mut answer = Vec::new();
        let _ = deaf.read_to_end(&mut answer);
        assert!(answer.len() < 32 << 20, "it was waited for");
    }
}
