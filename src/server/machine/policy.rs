//! The numbers of one server's machine.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The pauses between the tries after its engine came back, +-`jitter`: the first try is made at once. Short, because
/// most of what fails then is over in a moment; the last one repeats.
pub const RECONNECT_LADDER: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(5), Duration::from_secs(10)];

/// Numbers of one server, from its entry and the global settings. Passed to every step, never stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// Started when a call needs it, stopped when none came for a while.
    pub lazy: bool,
    /// From launch to birth, and again from birth to ready: handshake and first lists together.
    pub connect_timeout: Duration,
    /// How long its image may take to be pulled.
    pub pull_timeout: Duration,
    /// From closing its input to SIGTERM.
    pub eof_grace: Duration,
    /// From closing its input to SIGKILL: `eof_grace` is part of it.
    pub stop_grace: Duration,
    /// Between two SIGKILLs, until the exit is seen.
    pub kill_repeat: Duration,
    /// How long the rest of the process group may take to vanish before it is told again.
    pub verify_timeout: Duration,
    /// Between two health probes; `None` = no probes.
    pub probe_every: Option<Duration>,
    /// How long the answer to a probe may take.
    pub probe_patience: Duration,
    /// Unanswered probes in a row that make a server deaf.
    pub probe_misses: u32,
    /// Pause after a fault of the host. It does not grow: the host is not punished.
    pub host_retry: Duration,
    /// The same after an image could not be pulled: registries count requests.
    pub pull_retry: Duration,
    /// How long an engine may take to say that it is there; silence speaks against the engine.
    pub doubt: Duration,
    /// `docker_recovery.max_reconnect_attempts`: tries on the ladder each time that its engine came back. After them what
    /// fails is taken as it is at any other time.
    pub reconnect_attempts: u32,
    /// The first pause after a server's own fault; it doubles with each consecutive one.
    pub backoff_first: Duration,
    pub retry_backoff_max: Duration,
    /// Share of a pause that dice may add or take: 0.2 = +-20 %.
    pub jitter: f64,
    /// Ready for this long ends a row of consecutive failures. Connecting alone never does.
    pub settle: Duration,
    /// `auto_disable.enabled`: may a server that fails too often be stopped until a human asks?
    pub auto_disable: bool,
    /// Failures within `failure_window` that auto-disable.
    pub failure_threshold: usize,
    pub failure_window: Duration,
    /// The same for a server that was never ready since it was enabled or its entry changed.
    pub startup_attempts: usize,
    /// The host is in trouble (its disk is full): failures lengthen the pause, and are not counted.
    pub host_ill: bool,
    /// Is a server that was given up tried again, once and after a growing pause, without anybody asking?
    pub probation: bool,
    /// The first such pause; it doubles with each try that fails.
    pub probation_first: Duration,
    pub probation_max: Duration,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            lazy: false,
            connect_timeout: Duration::from_secs(30),
            pull_timeout: Duration::from_secs(600),
            eof_grace: Duration::from_millis(500),
            stop_grace: Duration::from_secs(5),
            kill_repeat: Duration::from_secs(1),
            verify_timeout: Duration::from_secs(5),
            probe_every: Some(Duration::from_secs(60)),
            probe_patience: Duration::from_secs(5),
            probe_misses: 3,
            host_retry: Duration::from_secs(5),
            pull_retry: Duration::from_secs(60),
            doubt: Duration::from_secs(2),
            reconnect_attempts: 4,
            backoff_first: Duration::from_secs(1),
            retry_backoff_max: Duration::from_secs(300),
            jitter: 0.2,
            settle: Duration::from_secs(60),
            auto_disable: true,
            failure_threshold: 10,
            failure_window: Duration::from_secs(30 * 60),
            startup_attempts: 3,
            host_ill: false,
            probation: true,
            probation_first: Duration::from_secs(15 * 60),
            probation_max: Duration::from_secs(24 * 3600),
        }
    }
}
