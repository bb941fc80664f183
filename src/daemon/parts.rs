//! What the two listeners serve from, and which path is whose.

use super::settings::Gatekeeper;
use crate::api::config::Control;
use crate::api::events::Events;
use crate::api::rest::{self, Api};
use crate::api::status::About;
use crate::config::Config;
use crate::gateway::asks::Asks;
use crate::gateway::catalogue::{Announced, Cache};
use crate::gateway::early::Early;
use crate::gateway::front::Front;
use crate::gateway::held::{HeldCall, HeldCalls};
use crate::gateway::http::{Exchange, Handler, HttpServer, Listener, Peer, Request, Settings};
use crate::gateway::hub::Hub;
use crate::gateway::interest::Interest;
use crate::gateway::levels::Levels;
use crate::gateway::listeners::Listeners;
use crate::gateway::methods::{ListWait, Methods};
use crate::gateway::outbound::Outbound;
use crate::gateway::reply;
use crate::gateway::router::Router;
use crate::mcp::seal::Sealer;
use crate::server::board::Board;
use crate::server::handle::{Ear, Needed};
use crate::server::registry::Registry;
use crate::store::Store;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

/// Those who may hear of servers; made before the first server can say anything.
pub struct Clients {
    interest: Interest,
    asks: Arc<Asks>,
    hub: Hub,
}

impl Clients {
    pub fn new() -> io::Result<Clients> {
        let interest = Interest { sessions: Arc::default(), listeners: Arc::<Listeners>::default() };
        Ok(Clients { interest, asks: Arc::default(), hub: Hub::start()? })
    }

    /// Knows whether somebody has subscribed to what a server has.
    pub fn needed(&self) -> Arc<Needed> {
        let interest = self.interest.clone();
        Arc::new(move |server| !interest.of(server).is_empty())
    }

    /// Hears what servers say of their own accord.
    pub fn ear(&self) -> Arc<Ear> {
        let (interest, asks, hub) = (self.interest.clone(), self.asks.clone(), self.hub.clone());
        let outbound = Outbound { sessions: interest.sessions.clone(), interest, asks, hub };
        Arc::new(move |server, link, said| outbound.hear(server, link, said))
    }
}

/// What both listeners serve from.
pub struct Parts {
    pub router: Arc<Router>,
    pub front: Arc<Front>,
    pub hub: Hub,
    api: Arc<Api>,
}

impl Parts {
    pub fn new(
        config: &Config,
        clients: Clients,
        servers: Arc<Registry>,
        board: Board,
        about: About,
        control: Control,
        store: Store,
    ) -> Parts {
        let Clients { interest, asks, hub } = clients;
        let (cache, early) = (Cache::default(), Early::default());
        let sealer = Arc::new(Sealer::new(&secret()));
        let router =
            Arc::new(Router { servers, board, cache, early, asks, sealer, levels: Levels::default() });
        let methods = Methods {
            router: router.clone(),
            sessions: interest.sessions.clone(),
            interest,
            hub: hub.clone(),
            held: HeldCalls::new(HeldCall::give_up),
            announced: Announced::default(),
            list_wait: ListWait::new(config.list_wait),
        };
        let events = Events::new(router.clone(), hub.clone());
        let api = Arc::new(Api { about, router: router.clone(), config: control, store, events });
        Parts { router, front: Arc::new(Front { methods }), hub, api }
    }

    /// Every request of both listeners; `gatekeeper` guards what comes over TCP.
    fn handler(&self, gatekeeper: Gatekeeper) -> Arc<Handler> {
        let (front, api) = (self.front.clone(), self.api.clone());
        Arc::new(move |request: &Request, exchange: &mut Exchange| {
            if matches!(request.peer, Peer::Tcp(_)) {
                let header = |name| request.headers.get(name);
                let access = gatekeeper.read().clone();
                let checked = access.check(
                    header("host"),
                    header("origin"),
                    header("authorization"),
                    header("x-api-key"),
                );
                if let Err(refused) = checked {
                    return reply::refuse(exchange, refused.status, &refused.fault);
                }
            }
            match mount(&request.path) {
                Some(mount) => front.serve(mount.as_deref(), request, exchange),
                None if api.serve(request, exchange) => (),
                None => rest::nowhere(exchange, &request.path),
            }
        })
    }

    /// The public endpoint.
    pub fn serve_endpoint(&self, endpoint: TcpListener, gatekeeper: Gatekeeper) -> io::Result<HttpServer> {
        let listeners = vec![Listener::Tcp(endpoint)];
        HttpServer::start("http", listeners, Settings::default(), self.hub.clone(), self.handler(gatekeeper))
    }

    /// The same on the control socket, whose mode is its access control.
    pub fn serve_control(&self, control: UnixListener) -> io::Result<HttpServer> {
        let listeners = vec![Listener::Unix(control)];
        let handler = self.handler(Gatekeeper::default());
        HttpServer::start("ctl", listeners, Settings::control(), self.hub.clone(), handler)
    }
}

/// What tokens are sealed with, until this daemon ends.
fn secret() -> [u8; 32] {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).expect("Linux gives random bytes from early boot on");
    secret
}

/// `/mcp` is `Some(None)`, `/mcp/s/<server>` is `Some(Some(server))`.
fn mount(path: &str) -> Option<Option<String>> {
    let path = path.strip_suffix('/').unwrap_or(path);
    if path == "/mcp" {
        return Some(None);
    }
    let name = path.strip_prefix("/mcp/s/").filter(|name| !name.is_empty() && !name.contains('/'))?;
    Some(Some(rest::percent_decoded(name)))
}
