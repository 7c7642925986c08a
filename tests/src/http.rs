//! HTTP GET to a server on loopback.

use std::{sync::OnceLock, time::Duration};

/// The answer, whatever its status; an error sentence when there is none.
pub fn get(url: &str, query: &[(&str, &str)]) -> Result<(u16, String), String> {
    static CLIENT: OnceLock<ureq::Agent> = OnceLock::new();
    let client = CLIENT.get_or_init(|| {
        ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(10)))
            .http_status_as_error(false)
            // Servers come and go on the same ports: a kept connection could lead to a dead one.
            .max_idle_connections(0)
            // Whatever proxy the environment names does not lead to this machine's loopback.
            .proxy(None)
            .build()
            .into()
    });
    let mut request = client.get(url);
    for (key, value) in query {
        request = request.query(*key, *value);
    }
    let mut response = request.call().map_err(|error| format!("GET {url}: {error}"))?;
    let body = response.body_mut().read_to_string().map_err(|error| format!("GET {url}: {error}"))?;
    Ok((response.status().as_u16(), body))
}
