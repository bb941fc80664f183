//! TLS to remote servers: whom we trust, and one configuration for all connections of a life.
//!
//! ureq builds it anew for every connection whose request has time-outs of its own, as all of ours have: every root is
//! parsed again, and no session is ever taken up again. Here it is built once, so that a server which is spoken to again
//! after a pause (the next probe, say) knows us by its ticket.

use crate::base::time::Time;
use crate::sys::clock;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{
    ConnectProxyConnector, ConnectionDetails, Connector, RustlsConnector, TcpConnector, Transport,
};
use ureq::{Agent, config::Config};

/// What connections share that are otherwise each other's strangers.
#[derive(Clone, Debug, Default)]
pub struct Tickets(Arc<RustlsConnector>);

impl Tickets {
    /// With connections of its own. All agents of these tickets must trust the same roots.
    pub fn agent(&self, config: &Config) -> Agent {
        let connector =
            ().chain(ConnectProxyConnector::default()).chain(TcpConnector::default()).chain(self.clone());
        Agent::with_parts(config.clone(), connector, DefaultResolver::default())
    }
}

impl<In: Transport> Connector<In> for Tickets {
    type Out = <RustlsConnector as Connector<In>>::Out;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let own = ConnectionDetails {
            uri: details.uri,
            addrs: details.addrs.clone(),
            config: details.config,
            // What a request sets for itself are time-outs, and none of that is in what is kept.
            request_level: false,
            resolver: details.resolver,
            now: details.now,
            timeout: details.timeout,
            current_time: details.current_time.clone(),
            run_connector: details.run_connector.clone(),
            register_shutdown: details.register_shutdown.clone(),
        };
        self.0.connect(&own, chained)
    }
}

/// The host's roots, or the bundled ones where it has none (a scratch container, an appliance).
pub fn config() -> TlsConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = roots().map_or(RootCerts::WebPki, RootCerts::Specific);
    TlsConfig::builder().root_certs(roots).unversioned_rustls_crypto_provider(provider).build()
}

type Roots = Arc<Vec<Certificate<'static>>>;

/// Reading them costs some ms; they change when the host is updated.
const ROOTS_AGE_MAX: Duration = Duration::from_secs(10 * 60);

fn roots() -> Option<Roots> {
    static KNOWN: Mutex<Option<(Time, Roots)>> = Mutex::new(None);
    let mut known = KNOWN.lock();
    let now = clock::now();
    let fresh = known.as_ref().filter(|(read, _)| now.since(*read) < ROOTS_AGE_MAX);
    let roots = fresh.map(|(_, roots)| roots.clone()).unwrap_or_else(|| {
        let native = rustls_native_certs::load_native_certs();
        for error in native.errors {
            log::debug!("read the host's root certificates: {error}");
        }
        let certs = native.certs.iter().map(|cert| Certificate::from_der(cert).to_owned());
        let roots = Roots::new(certs.collect());
        *known = Some((now, roots.clone()));
        roots
    });
    (!roots.is_empty()).then_some(roots)
}
