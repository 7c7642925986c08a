//! What is answered to which path.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{
        StatusCode,
        header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE},
    },
    middleware,
    response::{Html, IntoResponse, Response},
    routing::get,
};
use serde::Serialize;

use super::{
    guard::{POLICY_OF_REPORTS, guard},
    recent::Attempt,
    render,
};
use crate::{config::Show, daemon::shared::Shared, exit::Failure};

const SCRIPT: &str = include_str!("page.js");
const STYLE: &str = include_str!("page.css");

const JSON: &str = "application/json";

/// Attempts, messages that were stopped, and who was behind them.
#[derive(Serialize)]
struct Attempts<'a> {
    attempts: Vec<&'a Attempt>,
}

/// Everything but GET and HEAD is answered with 405.
pub fn routes(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/page.js", get(async |State(shared): State<Arc<Shared>>| file(&shared, "text/javascript", SCRIPT)))
        .route("/page.css", get(async |State(shared): State<Arc<Shared>>| file(&shared, "text/css", STYLE)))
        .route("/api/overview", get(overview))
        .route("/api/recent", get(recent))
        .route("/report", get(report))
        .route_layer(middleware::from_fn_with_state(shared.clone(), guard))
        .with_state(shared)
}

fn absent() -> Response {
    (StatusCode::NOT_FOUND, "there is nothing here\n").into_response()
}

fn file(shared: &Shared, kind: &str, text: &'static str) -> Response {
    match shared.page.show() {
        Show::Off => absent(),
        Show::Accounts | Show::All => ([(CONTENT_TYPE, format!("{kind}; charset=utf-8"))], text).into_response(),
    }
}

fn unreadable(e: &Failure) -> Response {
    tracing::error!("the page cannot be shown: {e}");
    (StatusCode::INTERNAL_SERVER_ERROR, format!("the gate's maps cannot be read: {e}\n")).into_response()
}

async fn page(State(shared): State<Arc<Shared>>) -> Response {
    if shared.page.show() == Show::Off {
        return Html(render::landing()).into_response();
    }
    match shared.page.looks.of(&shared).await {
        Ok(look) => Html(look.html()).into_response(),
        Err(e) => unreadable(&e),
    }
}

async fn overview(State(shared): State<Arc<Shared>>) -> Response {
    if shared.page.show() == Show::Off {
        return absent();
    }
    match shared.page.looks.of(&shared).await {
        Ok(look) => ([(CONTENT_TYPE, JSON)], look.json.clone()).into_response(),
        Err(e) => unreadable(&e),
    }
}

async fn recent(State(shared): State<Arc<Shared>>) -> Response {
    match shared.page.show() {
        Show::Off => return absent(),
        Show::Accounts => {
            let why =
                "attempts and who was behind them are shown with `show = \"all\"` in [page] of the configuration\n";
            return (StatusCode::FORBIDDEN, why).into_response();
        }
        Show::All => {}
    }
    // Written while they are held, so that they need not be copied: some hundred kilobytes at most, as a rule.
    let recent = shared.page.recent();
    match serde_json::to_vec(&Attempts { attempts: recent.all().collect() }) {
        Ok(json) => ([(CONTENT_TYPE, JSON)], json).into_response(),
        Err(e) => unreadable(&Failure::unavailable(format!("the attempts cannot be written as JSON: {e}"))),
    }
}

/// The report, where the daemon offers one ([`super::Page::offer_reports`]).
async fn report(State(shared): State<Arc<Shared>>) -> Response {
    let show = shared.page.show();
    if show == Show::Off {
        return absent();
    }
    match shared.page.reports.report(show).await {
        Some(Ok(html)) => ([(CONTENT_SECURITY_POLICY, POLICY_OF_REPORTS)], Html(html)).into_response(),
        Some(Err(e)) => {
            tracing::error!("the report cannot be made: {e}");
            (StatusCode::INTERNAL_SERVER_ERROR, format!("the report cannot be made: {e}\n")).into_response()
        }
        None => absent(),
    }
}
