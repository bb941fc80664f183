//! One life of a server: a thread from the launch to the last trace of it.
//!
//! It tries once and reports; whether and when to try again is the machine's to decide. The thread ends when the
//! life is over: what it lived in verified gone, every caller answered.

use super::body::Body;
use super::handle::{Report, Server};
use super::launch::Launch;
use super::link::Link;
use super::machine::Event;
use super::orders::{Order, Orders};
use super::process;
use super::vessel::Vessel;
use super::{container, docker_cli, remote};
use crate::base::fault::{Fault, FaultKind};
use crate::base::id::Life;
use crate::reaper::keeper::Keeper;
use crate::sys::thread;
use nix::poll::{PollTimeout, poll};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// What a life starts with.
pub struct Birth {
    pub life: Life,
    pub server: Arc<Server>,
    pub orders: Orders,
    pub keeper: Arc<Keeper>,
}

/// Starts the life's thread, which reports to the supervisor through the server's inbox. `launch` may be why it
/// could not be worked out (a missing variable).
pub fn begin(birth: Birth, launch: Result<Launch, Fault>) -> io::Result<()> {
    let name = format!("life:{}", birth.server.slug);
    // Not joined: it ends with what it lives in, and its last report is `Gone`. What can panic for a server's sake is
    // caught inside; where we end or reap processes, a panic means that we do not know what is left, and the guardian
    // does.
    thread::spawn_vital(&name, move || run(birth, launch)).map(|_| ())
}

fn run(birth: Birth, launch: Result<Launch, Fault>) {
    match launch {
        Ok(Launch::Process(program)) => process::run(birth, &program),
        Ok(Launch::Container(plan)) => container::run(birth, &plan),
        Ok(Launch::DockerCli(plan)) => docker_cli::run(birth, &plan),
        Ok(Launch::Remote(upstream)) => remote::run(birth.life, &birth.server, upstream, &birth.orders),
        Err(fault) => {
            birth.server.tell(Report::Event(Event::SpawnFailed(birth.life, fault.kind), Some(fault)))
        }
    }
}

/// It exists and cannot be served: says so, and waits until it is to be cleared up.
pub(super) fn unfit(server: &Server, life: Life, error: &io::Error, orders: &Orders) {
    let fault = Fault::new(FaultKind::HostResources, format!("serve {}: {error}", server.name));
    server.tell(Report::Event(Event::Exited(life, fault.kind), Some(fault)));
    loop {
        // EINTR: it is asked again.
        let _ = poll(&mut [orders.wake().poll_fd()], PollTimeout::NONE);
        if orders.take().any(|order| order == Order::Clear) {
            return;
        }
    }
}

/// The life while it runs. A bug in it must end this life and nothing else, and must not leave what it lives in.
pub(super) fn live(
    server: &Arc<Server>,
    link: &Arc<Link>,
    orders: &Orders,
    vessel: &mut impl Vessel,
    early: &[u8],
) {
    let lived =
        catch_unwind(AssertUnwindSafe(|| Body::new(server, vessel, link, orders.clone()).live(early)));
    if let Err(panic) = lived {
        let what = thread::panic_text(panic.as_ref());
        let fault =
            Fault::new(FaultKind::Internal, format!("the thread of this server's life panicked: {what}"));
        log::error!("{}: {fault}", server.name);
        link.life_over(&fault);
        server.close(link.life);
        server.tell(Report::Event(Event::Exited(link.life, fault.kind), Some(fault)));
    }
}
