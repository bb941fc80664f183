//! Floor 4: what MCP clients see: sessions, one catalogue of all servers' lists, and the routing of requests.
//!
//! ```text
//! front      Streamable HTTP: POST, GET, DELETE            methods    what each request means on a mount
//! router     which server, and the way there               open_call  a call that was sent and waits
//! outbound   what servers say of their own accord          asks       their requests that wait for clients
//! sessions   the clients; replay: their last events        reply      JSON or a stream of events
//! catalogue  all servers' lists as one                     access     who may speak to us at all
//! http, hub  the HTTP server; idle event streams           early      calls whose server is still starting
//! modern     the era without sessions                      listeners  its clients that listen
//! levels     how loud servers were told to be
//! crossing   a call between the eras                       interest   which resources anybody wants to hear of
//! held       calls whose clients come again
//! freshness  for how long lists are good
//! ```

pub mod access;
pub mod asks;
pub mod catalogue;
pub mod crossing;
pub mod early;
pub mod freshness;
pub mod front;
pub mod held;
pub mod http;
pub mod hub;
pub mod interest;
pub mod levels;
pub mod listeners;
pub mod methods;
pub mod modern;
pub mod open_call;
pub mod outbound;
pub mod replay;
pub mod reply;
pub mod router;
pub mod sessions;
