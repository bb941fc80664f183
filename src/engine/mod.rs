//! Floor 3: one container engine that speaks the Docker Engine API.

pub mod outage;
pub mod socket;
