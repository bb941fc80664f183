//! Every number that bounds something: its value, its unit, why, and what happens there.

use std::time::Duration;

/// One JSON-RPC line from a server. 64 MiB: the largest tool result that any server in the field sends is far
/// below; a longer line is dropped up to its newline and counted, and its caller is answered `too_large` only
/// by time-out, because its id is unknown.
pub const LINE_BYTES_MAX: usize = 64 << 20;

/// One HTTP request body. 16 MiB; more is answered 413.
pub const BODY_BYTES_MAX: usize = 16 << 20;

/// One HTTP request head. 16 KiB; more is answered 431.
pub const HEAD_BYTES_MAX: usize = 16 << 10;

/// Header lines in one head; more is answered 431.
pub const HEADERS_MAX: usize = 64;

/// Connections of the public endpoint that hold a thread. One more is answered 503 with Retry-After.
pub const CONNECTIONS_MAX: usize = 512;

/// Connections of the control socket.
pub const CONTROL_CONNECTIONS_MAX: usize = 64;

/// Idle event streams in the hub; one more is answered 503.
pub const STREAMS_MAX: usize = 4096;

/// Bytes queued for one event stream that reads slowly; past this the stream is closed.
pub const STREAM_QUEUE_BYTES_MAX: usize = 1 << 20;

/// Downstream sessions; one more is answered 503 after the idle ones were expired.
pub const SESSIONS_MAX: usize = 4096;

/// A session without a request or an open stream for this long is forgotten (404 from then on).
pub const SESSION_IDLE: Duration = Duration::from_secs(30 * 60);

/// Calls that wait for one server; one more is answered `busy` at once.
pub const CALLS_MAX: usize = 1024;

/// Bytes queued toward one server that does not read its stdin; more is answered `busy`.
pub const OUTBOX_BYTES_MAX: usize = 16 << 20;

/// Bytes of JSON-RPC lines in flight in the whole process; past this a call is answered `busy`.
pub const IN_FLIGHT_BYTES_MAX: usize = 256 << 20;

/// Messages (progress, requests, the answer) that wait for one caller; progress is dropped first.
pub const SLOT_MESSAGES_MAX: usize = 64;

/// Lines of one server's stderr kept for failure reports, and bytes of each; older and longer are dropped.
pub const STDERR_LINES_MAX: usize = 200;
pub const STDERR_LINE_BYTES_MAX: usize = 4 << 10;

/// Lines of stderr that go with a failure.
pub const STDERR_TAIL_LINES: usize = 5;

/// Tools that one server may list, over all pages; the rest is cut with a warning.
pub const TOOLS_MAX: usize = 10_000;

/// Pages of one list; a server that never ends its pages is cut here.
pub const LIST_PAGES_MAX: usize = 200;

/// Events of one server's machine kept for a failure report (the tape).
pub const TAPE_EVENTS_MAX: usize = 64;

/// Messages in a supervisor's inbox; producers wait.
pub const INBOX_MESSAGES_MAX: usize = 256;

/// Lines that are not JSON-RPC, from one life, before the server is called broken.
pub const GARBAGE_LINES_MAX: usize = 10_000;

/// The exposed name of a tool in the aggregate: clients refuse longer ones.
pub const TOOL_NAME_CHARS_MAX: usize = 64;

/// Size of one server's log file before it is rotated once (`.1`), so at most twice this per server.
pub const SERVER_LOG_BYTES_MAX: u64 = 5 << 20;

/// Nesting of JSON that we look into.
pub const JSON_DEPTH_MAX: usize = 127;

/// One config file. 8 MiB: a thousand servers with long environments stay below 1 MiB; a longer file is refused
/// whole, with a finding.
pub const CONFIG_BYTES_MAX: usize = 8 << 20;

/// Servers in one config file; the ones after are left out, with a finding.
pub const SERVERS_MAX: usize = 4096;

/// Characters of a server's name; a longer one is cut, and its server parked.
pub const SERVER_NAME_CHARS_MAX: usize = 200;

/// Findings of each severity about one config file; the rest is counted in one last finding.
pub const FINDINGS_MAX: usize = 500;

/// Syntax mistakes that one reading of a file reports; after so many the reader gives up.
pub const SYNTAX_MISTAKES_MAX: usize = 20;

/// The longest span that a config key may ask for. One day: longer is a slip of unit (nanoseconds, say).
pub const CONFIG_SPAN_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Patience of the guardian and of a daemon that lost its guardian: from SIGTERM to SIGKILL.
pub const CRASH_TERM_PATIENCE: Duration = Duration::from_millis(300);

const _: () = assert!(OUTBOX_BYTES_MAX >= BODY_BYTES_MAX);
const _: () = assert!(IN_FLIGHT_BYTES_MAX >= LINE_BYTES_MAX + BODY_BYTES_MAX);
const _: () = assert!(STDERR_TAIL_LINES <= STDERR_LINES_MAX);
