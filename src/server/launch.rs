//! What a life runs, worked out anew for every life.

use super::container::ContainerPlan;
use super::docker_cli::CliPlan;
use super::remote::Upstream;
use crate::sys::spawn::Program;

pub enum Launch {
    /// A process of this host.
    Process(Program),
    /// A container that we make through the engine's API.
    Container(Box<ContainerPlan>),
    /// A `docker run` that the user wrote.
    DockerCli(Box<CliPlan>),
    /// A server that runs elsewhere and speaks HTTP.
    Remote(Upstream),
}
