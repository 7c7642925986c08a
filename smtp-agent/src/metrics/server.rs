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
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::Semaphore};

use super::families::scrape;
use crate::{
    daemon::shared::Shared,
    exit::{Code, Failure, Result},
    page,
};

/// Connections at a time, and how long one may wait for its next request.
const CONNECTIONS: usize = 64;
const IDLE: Duration = Duration::from_secs(30);

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
///
/// Any user of the host may connect, so connections are few and may not idle: what they hold are descriptors of the
/// agent's. `axum::serve` has neither limit.
pub async fn serve(shared: Arc<Shared>, listener: StdListener) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/metrics", get(metrics))
        .route("/-/healthy", get(|| async { "smtp-agent is alive\n" }))
        .route("/-/ready", get(ready))
        .with_state(shared.clone())
        .merge(page::routes(shared));
    let listener = TcpListener::from_std(listener)?;
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(IDLE);
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return Ok(()) };
        match listener.accept().await {
            Ok((stream, _)) => {
                let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes.clone()));
                tokio::spawn(async move {
                    // A client that goes away or says nothing is no news.
                    let _ = connection.await;
                    drop(permit);
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
