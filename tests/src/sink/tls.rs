//! A certificate that nobody has to trust.

use crate::Must;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer};
use std::sync::{Arc, OnceLock};

/// TLS 1.2 and 1.3 with a self-signed certificate for sink.test, the same for all sinks of a process.
#[track_caller]
pub(super) fn config() -> Arc<ServerConfig> {
    static CONFIG: OnceLock<Arc<ServerConfig>> = OnceLock::new();
    let make = || {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["sink.test".to_string()]).must("cannot make a certificate");
        let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
        let versions = ServerConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .must("ring offers no TLS");
        let config = versions.with_no_client_auth().with_single_cert(vec![cert.der().clone()], key);
        Arc::new(config.must("the certificate cannot be used"))
    };
    Arc::clone(CONFIG.get_or_init(make))
}
