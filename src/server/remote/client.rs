//! HTTP to one remote server: requests in, heads and bodies out, and every way to fail as a [`Trouble`].
//!
//! It knows nothing of sessions or JSON-RPC. Each thread has an agent of its own, so that cutting one request cuts no
//! other.

use super::tls::{self, Tickets};
use super::trouble::Trouble;
use super::upstream::Upstream;
use crate::base::fault::{Fault, FaultKind};
use crate::base::limits::{REMOTE_CONNECT, REMOTE_KEEP_ALIVE, REMOTE_REDIRECTS_MAX, REMOTE_WRITE};
use crate::base::text;
use crate::http::date;
use crate::http::url::Url;
use crate::sys::clock;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use ureq::config::Config;
use ureq::{Agent, BodyReader, Proxy, ProxyProtocol, SendBody};

/// 32 KiB hold every head; more is a broken server.
const HEAD_BYTES_MAX: usize = 32 << 10;

/// What a request says beside its body.
pub type Headers<'a> = [(&'a str, &'a str)];

#[derive(Debug)]
pub struct Client {
    config: Config,
    headers: Vec<(String, String)>,
    tickets: Tickets,
}

/// How long an answer may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Its head, and then its body.
    Answer(Duration),
    /// It stays open: without a byte for so long it is lost.
    Silence(Duration),
    /// Whoever waits for it cuts it.
    Caller,
}

/// What came back, the body still to be read.
pub struct Reply {
    pub status: u16,
    /// Without parameters, in lower case; empty if there is none.
    pub content_type: String,
    /// `Mcp-Session-Id`
    pub session: Option<String>,
    pub retry_after: Option<Duration>,
    /// `WWW-Authenticate`, short.
    pub challenge: Option<String>,
    /// Where it came from, if not from where we asked.
    pub moved: Option<Url>,
    pub body: BodyReader<'static>,
}

impl Client {
    pub fn new(upstream: &Upstream) -> Client {
        // Nobody means a proxy for their own machine (Go's rule, too).
        let proxy = if upstream.url.is_loopback() { None } else { Proxy::try_from_env() };
        let tls_to_proxy = proxy.as_ref().is_some_and(|proxy| proxy.protocol() == ProxyProtocol::Https);
        let tls = (upstream.url.is_https() || tls_to_proxy).then(tls::config).unwrap_or_default();
        let config = Config::builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(proxy)
            .tls_config(tls)
            .user_agent(concat!("mcpvisor/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(REMOTE_CONNECT))
            .timeout_per_write(Some(REMOTE_WRITE))
            .max_response_header_size(HEAD_BYTES_MAX)
            .input_buffer_size(HEAD_BYTES_MAX)
            .output_buffer_size(HEAD_BYTES_MAX)
            .max_idle_connections(1)
            .max_idle_connections_per_host(1)
            .max_idle_age(REMOTE_KEEP_ALIVE)
            .build();
        Client { config, headers: upstream.headers.clone(), tickets: Tickets::default() }
    }

    /// With connections of its own; `shutdown` cuts them.
    pub fn agent(&self) -> Agent {
        self.tickets.agent(&self.config)
    }

    /// `sent` is set when the body begins to be sent.
    pub fn post(
        &self,
        agent: &Agent,
        url: &Url,
        headers: &Headers<'_>,
        line: &[u8],
        patience: Patience,
        sent: &AtomicBool,
    ) -> Result<Reply, Trouble> {
        let length = line.len().to_string();
        let (answer, silence) = match patience {
            Patience::Answer(span) => (Some(span), None),
            Patience::Silence(span) => (None, Some(span)),
            Patience::Caller => (None, None),
        };
        self.follow(url, |url| {
            let mut body = Tracked { rest: line, sent };
            let config = agent.post(url.full()).config();
            let config = config.timeout_recv_response(answer).timeout_recv_body(answer);
            let mut request = config.timeout_per_read(silence).build();
            for (name, value) in self.headers(headers) {
                request = request.header(name, value);
            }
            request = request
                .header("content-type", "application/json")
                .header("accept", "application/json, text/event-stream")
                .header("content-length", &length);
            let reply = request.send(SendBody::from_reader(&mut body));
            reply.map_err(|error| Trouble::of(error, url, sent.load(Ordering::Acquire)))
        })
    }

    /// An event stream. `silence`: how long nothing may come.
    pub fn stream(
        &self,
        agent: &Agent,
        url: &Url,
        headers: &Headers<'_>,
        silence: Option<Duration>,
    ) -> Result<Reply, Trouble> {
        self.follow(url, |url| {
            let mut request = agent.get(url.full()).config().timeout_per_read(silence).build();
            for (name, value) in self.headers(headers) {
                request = request.header(name, value);
            }
            let reply = request.header("accept", "text/event-stream").call();
            reply.map_err(|error| Trouble::of(error, url, false))
        })
    }

    pub fn delete(&self, url: &Url, headers: &Headers<'_>, patience: Duration) -> Result<u16, Trouble> {
        let agent = self.agent();
        let config = agent.delete(url.full()).config();
        let mut request =
            config.timeout_connect(Some(patience / 2)).timeout_recv_response(Some(patience / 2)).build();
        for (name, value) in self.headers(headers) {
            request = request.header(name, value);
        }
        let reply = request.call().map_err(|error| Trouble::of(error, url, false))?;
        Ok(reply.status().as_u16())
    }

    fn headers<'a>(&'a self, more: &'a Headers<'a>) -> impl Iterator<Item = (&'a str, &'a str)> {
        let own = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        own.chain(more.iter().copied())
    }

    /// Goes where the server sends us, if that is at the same origin: nowhere else gets our headers.
    fn follow(
        &self,
        url: &Url,
        mut ask: impl FnMut(&Url) -> Result<ureq::http::Response<ureq::Body>, Trouble>,
    ) -> Result<Reply, Trouble> {
        let mut at = url.clone();
        for _ in 0..=REMOTE_REDIRECTS_MAX {
            let response = ask(&at)?;
            let status = response.status().as_u16();
            let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
            // The others would turn a POST into a GET.
            if matches!(status, 301 | 302 | 303 | 307 | 308) {
                let location = header("location").unwrap_or_default();
                let next = at.join(location);
                match next {
                    Ok(next) if matches!(status, 307 | 308) && next.same_origin(url) => {
                        at = next;
                        continue;
                    }
                    next => return Err(Trouble::answered(elsewhere(&at, status, next.ok().as_ref()))),
                }
            }
            let media = header("content-type").unwrap_or_default();
            return Ok(Reply {
                status,
                content_type: media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase(),
                session: header("mcp-session-id").map(str::to_owned),
                retry_after: header("retry-after")
                    .and_then(|text| date::retry_after(text, header("date"), clock::wall())),
                challenge: header("www-authenticate").map(|text| text::shorten(text, 200)),
                moved: (at != *url).then_some(at),
                body: response.into_body().into_with_config().limit(u64::MAX).reader(),
            });
        }
        let message = format!("{url}: more than {REMOTE_REDIRECTS_MAX} redirects");
        Err(Trouble::answered(Fault::new(FaultKind::BadUpstream, message)))
    }
}

fn elsewhere(at: &Url, status: u16, next: Option<&Url>) -> Fault {
    let to = next.map_or("nowhere that can be read".to_owned(), Url::to_string);
    let fault = Fault::new(FaultKind::BadUpstream, format!("{at} answered {status}, a redirect to {to}"));
    fault.hint("if that is the server, write its address as the `url`")
}

/// Says when it is first read: from then on the server may have heard of the request.
struct Tracked<'a> {
    rest: &'a [u8],
    sent: &'a AtomicBool,
}

impl Read for Tracked<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.sent.store(true, Ordering::Release);
        self.rest.read(buffer)
    }
}
