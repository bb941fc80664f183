//! What a life runs, worked out anew for each: everything resolved, nothing started.

use super::remote::Upstream;
use crate::sys::spawn::Program;

#[derive(Debug)]
pub enum Launch {
    /// A child process that speaks on stdin and stdout.
    Process(Program),
    /// A server that runs elsewhere and speaks HTTP.
    Remote(Upstream),
}
