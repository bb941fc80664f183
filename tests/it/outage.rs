//! An engine that is paused, down, silent, denied and back: its machine against tables, and against a simulated
//! engine that does all of that at random moments.

mod matrix;
mod world;
