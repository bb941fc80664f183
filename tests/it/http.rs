//! The HTTP server and the event-stream hub on real sockets, with a small handler behind them.
#![allow(
    clippy::disallowed_methods,
    reason = "tests ask the clock and start threads and processes of their own"
)]
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]
#![allow(clippy::wildcard_enum_match_arm, reason = "what is not expected is a failure")]

mod client;
mod drain;
mod host;
mod rules;
mod slow;
mod streams;
mod watch;

use client::Client;
use mcpvisor::gateway::http::{Exchange, HttpServer, Listener, Request, Settings};
use mcpvisor::gateway::hub::{Hub, HubLimits};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Generous: the machine is shared, and only a failure ever waits this long.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server on a loopback port, with its hub. Dropping it drains it.
struct Server {
    http: HttpServer,
    hub: Hub,
    address: SocketAddr,
}

impl Server {
    fn start(
        settings: Settings,
        handler: impl Fn(&Request, &mut Exchange) + Send + Sync + 'static,
    ) -> Server {
        Server::with_hub(settings, HubLimits::default(), |_| handler)
    }

    /// For handlers that need the hub themselves.
    fn with_hub<H>(settings: Settings, limits: HubLimits, handler: impl FnOnce(Hub) -> H) -> Server
    where
        H: Fn(&Request, &mut Exchange) + Send + Sync + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let hub = Hub::with_limits(limits).unwrap();
        let handler = Arc::new(handler(hub.clone()));
        let http =
            HttpServer::start("test", vec![Listener::Tcp(listener)], settings, hub.clone(), handler).unwrap();
        Server { http, hub, address }
    }

    fn echo(settings: Settings) -> Server {
        Server::start(settings, echo)
    }

    fn connect(&self) -> Client {
        Client::tcp(self.address)
    }
}

/// Says what it got: method, path and query in the head, the body as the body.
fn echo(request: &Request, exchange: &mut Exchange) {
    let query = request.query.as_deref().unwrap_or("-");
    let seen = format!("{} {} {query}", request.method, request.path);
    exchange.respond(200, &[("X-Seen", &seen)], &request.body);
}

/// Holds the handler of `/wait` until it is opened.
struct Gate {
    entered: Receiver<()>,
    open: Sender<()>,
}

impl Gate {
    fn wait_entered(&self) {
        self.entered.recv_timeout(PATIENCE).unwrap();
    }

    fn open(&self) {
        self.open.send(()).unwrap();
    }
}

/// The echo, with a gate before the path `/wait`.
fn gated_echo() -> (Gate, impl Fn(&Request, &mut Exchange) + Send + Sync + 'static) {
    let (entered_sender, entered) = mpsc::channel();
    let (open, opened) = mpsc::channel();
    let ends = Mutex::new((entered_sender, opened));
    let handler = move |request: &Request, exchange: &mut Exchange| {
        if request.path == "/wait" {
            let (entered, opened) = &*ends.lock().unwrap();
            entered.send(()).unwrap();
            opened.recv_timeout(PATIENCE).unwrap();
        }
        echo(request, exchange);
    };
    (Gate { entered, open }, handler)
}

/// From a callback: the test may be over, and its receiver gone.
fn tell(sender: &Sender<()>) {
    let _ = sender.send(());
}

/// Waits for something that no event announces.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "did not come: {what}");
        std::thread::yield_now();
    }
}
