//! What a life runs, worked out anew for every life.

use crate::sys::spawn::Program;

pub enum Launch {
    /// A process of this host.
    Process(Program),
}
