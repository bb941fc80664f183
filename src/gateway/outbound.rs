//! What servers say of their own accord, and which client hears it.
//!
//! A life is shared, so a server cannot say whom it means, unless it speaks on the stream of a call. Its other requests
//! go to the one session that has calls in flight there, and are refused at once when that is not exactly one; its news
//! goes to those who asked for it.

use super::asks::Asks;
use super::hub::Hub;
use super::interest::Interest;
use super::sessions::{Mount, NOBODY, Session, Sessions};
use crate::base::id::CallId;
use crate::base::text::shorten;
use crate::mcp::envelope::{self, Outcome};
use crate::mcp::era::Era;
use crate::mcp::features::{Feature, Level, missing};
use crate::mcp::items::splice;
use crate::mcp::{params, scan};
use crate::server::handle::{Said, Server};
use crate::server::link::Link;
use crate::server::slot::{Question, Slot};
use crate::sys::clock;
use std::sync::Arc;

const TOO_MANY: &str = "too many requests wait for clients";

pub struct Outbound {
    pub sessions: Arc<Sessions>,
    pub interest: Interest,
    pub asks: Arc<Asks>,
    pub hub: Hub,
}

impl Outbound {
    /// Runs on the life's thread; never blocks.
    pub fn hear(&self, server: &Server, link: &Arc<Link>, said: &Said<'_>) {
        match said {
            Said::Ready => self.remind(server, link),
            Said::Request { id, method, params, call } => {
                if let Err(why) = self.ask(link, (id, *call), method, *params) {
                    let error = envelope::error_object(envelope::METHOD_NOT_FOUND, &why, None::<&()>);
                    // A server that takes no more input has no use for an answer.
                    let _ = link.send(envelope::response(id, Outcome::Error(&error)));
                }
            }
            Said::Notification { method, params } => self.notification(server, link, method, *params),
        }
    }

    fn ask(
        &self,
        link: &Arc<Link>,
        (id, call): (&str, Option<CallId>),
        method: &str,
        params: Option<&str>,
    ) -> Result<(), String> {
        let method_shown = shorten(method, 80);
        let feature =
            Feature::of_method(method).ok_or(format!("`{method_shown}` is not offered to servers"))?;
        let caller = call.map_or_else(|| self.sole_caller(link), |call| link.caller(call));
        let Some((session, call, slot)) = caller.filter(|(session, _, _)| *session != NOBODY) else {
            return Err(format!(
                "`{method_shown}`: no single client has calls in flight here, so nobody can be asked"
            ));
        };
        if let Some(offered) = self.sessions.asked_of_visit(session) {
            let Some(offered) = offered else {
                return Err(format!(
                    "`{method_shown}`: the client speaks 2026-07-28, and can be asked nothing in such a request"
                ));
            };
            let missing = missing(feature, params, &offered);
            let ask = self.asks.open(session, link, call, (id, None)).ok_or(TOO_MANY)?;
            let (method, params) = (method.into(), params.map(Into::into));
            return self.said(link, call, ask, slot.ask(Question { ask, method, params, missing }));
        }
        let client =
            self.sessions.of_number(session).filter(|client| client.client.features.contains(&feature));
        if client.is_none() {
            return Err(format!("`{method_shown}`: the client does not offer {}", feature.name()));
        }
        let token = params.and_then(|params| Some((params, params::progress_token(params)?)));
        let theirs = (id, token.as_ref().map(|(params, span)| &params[span.clone()]));
        let ours = self.asks.open(session, link, call, theirs).ok_or(TOO_MANY)?;
        let id = ours.to_string();
        let edited = token.map(|(params, span)| splice(params, &[(span, &id)]));
        let said = slot.message(envelope::request(&id, method, edited.as_deref().or(params)), true);
        self.said(link, call, ours, said)
    }

    /// The one client that has calls in flight here, its newest call, and where that waits. Calls whose clients are asked
    /// already do not count beside one of the same principal that waits: a client that does not come again keeps its own
    /// from nothing, and what is asked is never heard by another.
    fn sole_caller(&self, link: &Link) -> Option<(u64, CallId, Slot)> {
        let callers = link.callers();
        let waits = |(_, _, slot): &&(u64, CallId, Slot)| !slot.is_held();
        let newest = callers.iter().rfind(waits).or(callers.last())?;
        let mut others = callers.iter().filter(|(of, ..)| *of != newest.0).peekable();
        if others.peek().is_some() {
            let principal = self.sessions.principal(newest.0).filter(|_| !newest.2.is_held())?;
            let is_aside = |(of, _, slot): &(u64, CallId, Slot)| {
                slot.is_held() && self.sessions.principal(*of).as_ref() == Some(&principal)
            };
            if !others.all(is_aside) {
                return None;
            }
        }
        Some(newest.clone())
    }

    /// What was opened as `ask` is on its way to the caller, or was not taken.
    fn said(&self, link: &Link, call: CallId, ask: u64, taken: bool) -> Result<(), String> {
        if !taken {
            self.asks.refuse(ask, "the client does not read what it is told");
        } else if link.slot_of(call).is_none() {
            // It ended meanwhile, and may have looked for open asks before this one was there.
            self.asks.end_of(link.life, call, "the call that this belongs to is over");
        }
        Ok(())
    }

    fn notification(&self, server: &Server, link: &Arc<Link>, method: &str, params: Option<&str>) {
        let message = || envelope::notification(method, params);
        let params = params.unwrap_or("{}");
        match method {
            "notifications/message" => self.log_message(server, link, params, &message()),
            "notifications/resources/updated" => {
                let Some(uri) = params::text(params, "uri") else { return };
                let concerned = |session: &Arc<Session>| session.is_subscribed(&server.name, &uri);
                self.tell(server, concerned, &message());
                self.interest.listeners.resource_updated(&self.hub, &server.name, &uri, params);
            }
            "notifications/cancelled" => self.take_back(link, params),
            // Whatever else a server has to say is for those who look at this server alone.
            _ => {
                self.tell(server, |session| session.mount != Mount::All, &message());
                let Interest { listeners, .. } = &self.interest;
                listeners.list_said_changed(&self.hub, &server.name, method);
            }
        }
    }

    /// A log message goes with the call that it most likely belongs to, else to everybody who listens.
    fn log_message(&self, server: &Server, link: &Arc<Link>, params: &str, message: &[u8]) {
        let level =
            params::text(params, "level").and_then(|name| Level::of_name(&name)).unwrap_or(Level::Emergency);
        let wants = |session: &Arc<Session>| session.level().is_none_or(|wanted| level >= wanted);
        let caller = self.sole_caller(link);
        if let Some((visit, _, slot)) = &caller
            && let Some(wanted) = self.sessions.level_of_visit(*visit)
        {
            if wanted.is_some_and(|wanted| level >= wanted) {
                slot.message(message.to_vec(), false);
            }
            return;
        }
        if let Some((session, _, slot)) = caller
            && let Some(session) = self.sessions.of_number(session)
        {
            if wants(&session) {
                slot.message(message.to_vec(), false);
            }
            return;
        }
        self.tell(server, wants, message);
    }

    fn tell(&self, server: &Server, concerned: impl Fn(&Arc<Session>) -> bool, message: &[u8]) {
        for session in self.sessions.that_see(&server.name).iter().filter(|session| concerned(session)) {
            session.say(&self.hub, message);
        }
    }

    fn take_back(&self, link: &Arc<Link>, params: &str) {
        let Some(span) = scan::find(params, "requestId") else { return };
        let Some((session, ours, call)) = self.asks.take_back(link.life, &params[span.clone()]) else {
            return;
        };
        let theirs = splice(params, &[(span, &ours.to_string())]);
        // Who was asked in a result is asked no more, or answers in vain.
        let was_told = self.sessions.asked_of_visit(session).is_none();
        if let Some(slot) = link.slot_of(call).filter(|_| was_told) {
            slot.message(envelope::notification("notifications/cancelled", Some(&theirs)), false);
        }
    }

    /// A new life knows nothing of what sessions asked the one before: levels and subscriptions are said again.
    fn remind(&self, server: &Server, link: &Arc<Link>) {
        let sessions = self.sessions.that_see(&server.name);
        // In the modern era every call says its own level.
        let level = sessions.iter().filter_map(|session| session.level()).min();
        if let Some(level) = level.filter(|_| link.era() == Era::Legacy) {
            let params = format!("{{\"level\":\"{}\"}}", level.name());
            link.tell_of("logging/setLevel", params, clock::now());
        }
        self.interest.remind(server, link);
    }
}
