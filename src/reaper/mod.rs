//! Floor 3: nothing that we start outlives its purpose, and nothing that is not ours is touched.

pub mod badge;
pub mod bequest;
pub mod cleanup;
pub mod clear;
pub mod container_cleanup;
pub mod containers;
pub mod guardian;
pub mod instance;
pub mod judge;
pub mod judge_container;
pub mod keeper;
pub mod labels;
pub mod ledger;
pub mod link;
pub mod mark;
pub mod owed;
mod owed_schedule;
pub mod removal;
pub mod strangers;
pub mod sweep;
pub mod tree;
pub mod whose;
