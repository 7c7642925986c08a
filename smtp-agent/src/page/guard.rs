//! Who may ask for the page, and what a browser may do with the answer.
//!
//! The page is for whoever can connect. What is kept out are other sites that this person's browser has open: they may
//! neither read an answer nor show it in a frame, nor call this server by a name of their own (DNS rebinding).

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{
        HeaderName, HeaderValue, StatusCode, Uri,
        header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS},
        uri::Authority,
    },
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::daemon::shared::Shared;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// A report is made for mailing, too, so its style stands in it. It runs nothing and asks for nothing.
pub(super) const POLICY_OF_REPORTS: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; \
                                            form-action 'none'; frame-ancestors 'none'";

const HEADERS: [(HeaderName, &str); 5] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (CACHE_CONTROL, "no-store"),
];

const MISDIRECTED: &str = "smtp-agent does not answer to this name. Ask for it by its address or as localhost, or add \
                           the name to `hosts` in [page] of its configuration.\n";

pub(super) async fn guard(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let response = if is_meant(&request, &shared.page.settings().hosts) {
        next.run(request).await
    } else {
        (StatusCode::MISDIRECTED_REQUEST, MISDIRECTED).into_response()
    };
    with_headers(response)
}

pub(super) fn with_headers(mut response: Response) -> Response {
    for (name, value) in HEADERS {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

/// Whether every name in the request is one of ours.
fn is_meant<B>(request: &axum::http::Request<B>, hosts: &[String]) -> bool {
    let mut names: Vec<Option<Authority>> =
        request.headers().get_all(HOST).iter().map(|value| Authority::try_from(value.as_bytes()).ok()).collect();
    // "GET http://NAME/ HTTP/1.1" says it a second time.
    names.extend(Uri::authority(request.uri()).cloned().map(Some));
    !names.is_empty() && names.iter().all(|name| name.as_ref().is_some_and(|name| is_ours(name.host(), hosts)))
}

/// An address cannot be rebound, and `localhost` is resolved by browsers themselves.
fn is_ours(host: &str, hosts: &[String]) -> bool {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    if bare.parse::<IpAddr>().is_ok() {
        return true;
    }
    let name = bare.strip_suffix('.').unwrap_or(bare);
    name.eq_ignore_ascii_case("localhost") || hosts.iter().any(|ours| ours.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(uri: &str, hosts: &[&str]) -> bool {
        let mut request = axum::http::Request::builder().uri(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        is_meant(&request.body(()).unwrap(), &["mail.example.org".to_owned()])
    }

    #[test]
    fn only_addresses_localhost_and_the_names_of_the_configuration_are_answered() {
        for host in ["127.0.0.1:9725", "[::1]:9725", "10.0.0.7", "localhost:1", "LOCALHOST.", "Mail.Example.org:80"] {
            assert!(asked("/", &[host]), "{host}");
        }
        for host in [
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "mail.example.org.evil.example",
            "",
            "127.1",
            "xlocalhost",
            "[::1",
            "a b",
            "user@evil.example",
            "0x7f000001",
        ] {
            assert!(!asked("/", &[host]), "{host}");
        }
        assert!(!asked("/", &[]), "no name at all");
        assert!(!asked("/", &["localhost", "evil.example"]), "two names");
        assert!(!asked("http://evil.example/", &["localhost"]), "the other place for a name");
        assert!(asked("http://127.0.0.1:9725/", &["127.0.0.1:9725"]));
    }

    #[test]
    fn every_answer_is_guarded_and_a_policy_of_its_own_stays() {
        let plain = with_headers("x".into_response());
        for (name, value) in HEADERS {
            assert_eq!(plain.headers()[&name], value);
        }
        let own = with_headers(([(CONTENT_SECURITY_POLICY, POLICY_OF_REPORTS)], "x").into_response());
        assert_eq!(own.headers()[CONTENT_SECURITY_POLICY], POLICY_OF_REPORTS);
        assert!(!POLICY_OF_REPORTS.contains("script-src"), "nothing in a report runs");
    }
}
