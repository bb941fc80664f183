//! Every number that bounds something: its value, its unit, why, and what happens there.

use std::time::Duration;

mod engines;

pub use engines::*;

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

/// Connections of the control socket that hold a thread. 1024: three bridges (`mcpvisor stdio`) with as many requests
/// in flight as they may have, and the CLI; one more is answered 503.
pub const CONTROL_CONNECTIONS_MAX: usize = 1024;

/// One reply on the control socket, for the CLI: the largest tool result and some room; a longer one is refused.
pub const CONTROL_REPLY_BYTES_MAX: usize = LINE_BYTES_MAX + (1 << 20);

/// Idle event streams in the hub; one more is answered 503.
pub const STREAMS_MAX: usize = 4096;

/// Bytes queued for one event stream that reads slowly; past this the stream is closed.
pub const STREAM_QUEUE_BYTES_MAX: usize = 1 << 20;

/// From the first byte of a request head to its last. 10 s: a head fits in one packet; past this, 408.
pub const HEAD_DEADLINE: Duration = Duration::from_secs(10);

/// From the end of the head to the last byte of the body. 30 s: 16 MiB at 4 Mbit/s; past this, 408.
pub const BODY_DEADLINE: Duration = Duration::from_secs(30);

/// An idle connection between two requests is closed after this. 75 s: longer than the pools of the usual
/// clients keep one (60 s), so that it is they who close and no request meets our close on its way.
pub const KEEP_ALIVE_IDLE: Duration = Duration::from_secs(75);

/// A client that does not read: how long one response or event may take to write, plus a second per
/// `WRITE_BYTES_PER_SECOND_MIN` of it. Past this the connection is closed.
pub const WRITE_PATIENCE: Duration = Duration::from_secs(30);
pub const WRITE_BYTES_PER_SECOND_MIN: usize = 64 << 10;

/// After a refusal: how long we go on reading what the client still sends, so that it can see the status
/// instead of a reset.
pub const LINGER: Duration = Duration::from_secs(5);

/// Refused connections (503) that linger without a thread; beyond this the oldest is closed at once.
pub const REFUSED_LINGERING_MAX: usize = 64;

/// Bytes of request bodies above 64 KiB each that are held at the same time by one HTTP server. 128 MiB;
/// past this, 503.
pub const BODIES_BYTES_MAX: usize = 128 << 20;

/// Chunk extensions and trailers of one request body, which we drop; more is answered 400.
pub const CHUNK_EXTRA_BYTES_MAX: usize = 8 << 10;

/// Connections that wait in the kernel to be accepted. 1024: with std's 128, a thousand clients that come back
/// after a restart take seconds (their SYNs are dropped and sent again); beyond it the kernel does that.
pub const BACKLOG: i32 = 1024;

/// No descriptors or memory for a connection: accepting pauses, doubling from the first to the second, and
/// never ends.
pub const ACCEPT_PAUSE_MIN: Duration = Duration::from_millis(50);
pub const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// A closed event stream gets this long to take what is queued for it; then it is cut.
pub const STREAM_FINISH_PATIENCE: Duration = Duration::from_secs(5);

/// Downstream sessions; one more is answered 503 after the idle ones were expired.
pub const SESSIONS_MAX: usize = 4096;

/// Events of one stream that are kept for a client that lost it, and their bytes; the oldest are forgotten.
pub const REPLAY_EVENTS_MAX: usize = 128;
pub const REPLAY_BYTES_MAX: usize = 256 << 10;

/// Resources that one session may be subscribed to; one more is refused.
pub const SUBSCRIPTIONS_MAX: usize = 1024;

/// Messages in one batch (2025-03-26 only); more are refused.
pub const BATCH_MESSAGES_MAX: usize = 256;

/// Requests of servers that wait for clients; one more is refused at once.
pub const ASKS_MAX: usize = 1024;

/// Calls of modern clients that are held while their servers, of the legacy era, have asked something, in the whole
/// daemon and of one principal; one more is not held: what its server asks is refused.
pub const HELD_CALLS_MAX: usize = 256;
pub const HELD_CALLS_OF_ONE_MAX: usize = 64;

/// How long a client may take to answer what is asked of it across the eras. 10 min: a person reads and thinks; a held
/// call is cancelled then, and a call that asked a legacy client ends with an error.
pub const INPUT_PATIENCE: Duration = Duration::from_secs(10 * 60);

/// Times that one call may ask its client across the eras; then it is refused, or ends with an error.
pub const INPUT_ROUNDS_MAX: u32 = 16;

/// Questions in one of those rounds; one more is refused, or ends the call with an error.
pub const INPUT_QUESTIONS_MAX: usize = 32;

/// What a server asks within this time of its first question is asked in the same round. 30 ms: servers that ask several
/// things at once write them in one go; one that asks more later asks in the next round.
pub const INPUT_GATHERING: Duration = Duration::from_millis(30);

/// Between a result that wants nothing but to be asked again and asking again.
pub const INPUT_PAUSE: Duration = Duration::from_millis(250);

/// Held calls that have ended and are remembered, to tell a client that comes again what became of its call.
pub const HELD_ENDED_MAX: usize = 1024;

/// One line toward a server. 10 MiB: servers on the TypeScript SDK never answer again after a longer one (measured);
/// a call that is longer is answered `too_large` and not sent.
pub const REQUEST_LINE_BYTES_MAX: usize = 10 << 20;

/// A session without a request or an open stream for this long is forgotten (404 from then on).
pub const SESSION_IDLE: Duration = Duration::from_secs(30 * 60);

/// Calls that wait for one server; one more is answered `busy` at once.
pub const CALLS_MAX: usize = 1024;

/// A call's whole time, however often progress extends it. 24 h: longer than any job that somebody waits for; then
/// it is answered `call_timeout`.
pub const CALL_TOTAL_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Bytes queued toward one server that does not read its stdin; more is answered `busy`.
pub const OUTBOX_BYTES_MAX: usize = 16 << 20;

/// Bytes of JSON-RPC lines toward servers in the whole process: not yet written to a pipe, or not yet answered by a remote
/// server; past this a call is answered `busy`.
pub const IN_FLIGHT_BYTES_MAX: usize = 256 << 20;

/// Messages (progress, requests, the answer) that wait for one caller; progress is dropped first.
pub const SLOT_MESSAGES_MAX: usize = 64;

/// Lines of one server's stderr kept for failure reports, and bytes of each; older and longer are dropped.
pub const STDERR_LINES_MAX: usize = 200;
pub const STDERR_LINE_BYTES_MAX: usize = 4 << 10;

/// Lines of stderr that go with a failure.
pub const STDERR_TAIL_LINES: usize = 5;

/// Entries of one list of one server, over all pages; the rest is cut with a warning.
pub const ITEMS_MAX: usize = 10_000;

/// Pages of one list; a server that never ends its pages is cut here.
pub const LIST_PAGES_MAX: usize = 200;

/// Starts of one server whose times are kept; the oldest makes way.
pub const STARTS_KEPT_MAX: usize = 20;

/// Characters of the fault that a given-up server is remembered with, and of its hint; the rest is cut.
pub const HISTORY_FAULT_CHARS_MAX: usize = 500;

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

/// Size of the daemon's own log file before it is rotated once (`.1`).
pub const MAIN_LOG_BYTES_MAX: u64 = 10 << 20;

/// Lines of all logs that wait for the disk; a log that is noisy takes half of what is free of it. 4 MiB: several seconds
/// of what servers say at their worst; what there is no room for is counted, and said in its log.
pub const LOG_WAITING_BYTES_MAX: usize = 4 << 20;

/// What each of them may hold whatever the others do: a line of the longest, and some; and the main log.
pub const LOG_WAITING_BYTES_OWN: usize = 8 << 10;
pub const MAIN_LOG_WAITING_BYTES: usize = 256 << 10;

const _: () = assert!(LOG_WAITING_BYTES_OWN > STDERR_LINE_BYTES_MAX);

/// What we say ourselves in an hour, and go on saying for days, in the main log and in those of servers. Together below
/// 1 MB; more is left out, and counted.
pub const MAIN_LOG_BYTES_PER_HOUR: u32 = 400 << 10;
pub const NOTES_BYTES_PER_HOUR: u32 = 450 << 10;

/// A report about a server that was given up has so many of its last tries and lines, and of lines so many bytes of its
/// log are looked through.
pub const REPORT_ATTEMPTS_MAX: usize = 10;
pub const REPORT_LINES_MAX: usize = 50;
pub const REPORT_LOG_BYTES_MAX: u64 = 64 << 10;

/// Reports of one server, and of all, that are kept; the oldest go. 200: an incident of all servers of a large config.
pub const REPORTS_OF_ONE_MAX: usize = 3;
pub const REPORTS_MAX: usize = 200;

/// How long a line that says of an error waits until it is on the disk: it may be the last. 100 ms: a write takes µs.
pub const LOG_SETTLE: Duration = Duration::from_millis(100);

/// How long the end of the daemon waits for its logs.
pub const LOG_END_PATIENCE: Duration = Duration::from_millis(500);

/// Nesting of JSON that we look into.
pub const JSON_DEPTH_MAX: usize = 127;

/// One config file. 8 MiB: a thousand servers with long environments stay below 1 MiB; a longer file is refused
/// whole, with a finding.
pub const CONFIG_BYTES_MAX: usize = 8 << 20;

/// How long nothing must stir before a config file that did is read, and how long it may go on stirring. 100 ms: an
/// editor writes, renames and sets permissions within a few; 1 s is what a person waits without wondering.
pub const CONFIG_SETTLE: Duration = Duration::from_millis(100);
pub const CONFIG_SETTLE_MAX: Duration = Duration::from_secs(1);

/// Those who wait at the same time for the config to be read again; one more is refused.
pub const CONFIG_ASKS_MAX: usize = 64;

/// How long one who asks for it waits until the config is read and its changes are told to the servers. 30 s: it takes
/// milliseconds; longer means that the daemon is stuck.
pub const CONFIG_APPLY_PATIENCE: Duration = Duration::from_secs(30);

/// How long a command that changes a config file waits for another one that does. 30 s: each takes a few fsyncs, so
/// hundreds go through; longer means that one is stuck, and the file stays as it is.
pub const CONFIG_EDIT_PATIENCE: Duration = Duration::from_secs(30);

/// How often a change is made anew because somebody else wrote the file meanwhile. 5: a person saves now and then;
/// what writes more often than that is no person, and the file is left to it.
pub const CONFIG_EDIT_TRIES: usize = 5;

/// Links that are followed from the name of a config to the file. 40, as in the kernel; what leads further is neither
/// watched nor changed.
pub const CONFIG_LINKS_MAX: usize = 40;

/// One entry that is given on stdin. 1 MiB: far more than a person writes; a longer one is refused.
pub const ENTRY_BYTES_MAX: u64 = 1 << 20;

/// How long `upstream add` waits for the server to be up, where nobody says else. 30 s: what a start may take
/// (`connection_timeout`); what is slower is said to be under way.
pub const ADD_WAIT: Duration = Duration::from_secs(30);

const _: () = assert!(CONFIG_SETTLE.as_millis() < CONFIG_SETTLE_MAX.as_millis());

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

/// Bytes of memory that a container may be limited to. 6 MiB: engines refuse less; such an entry is parked.
pub const CONTAINER_MEMORY_MIN: u64 = 6 << 20;

/// Patience of the guardian and of a daemon that lost its guardian: from SIGTERM to SIGKILL.
pub const CRASH_TERM_PATIENCE: Duration = Duration::from_millis(300);

const _: () = assert!(OUTBOX_BYTES_MAX >= BODY_BYTES_MAX);
const _: () = assert!(IN_FLIGHT_BYTES_MAX >= LINE_BYTES_MAX + BODY_BYTES_MAX);
const _: () = assert!(STDERR_TAIL_LINES <= STDERR_LINES_MAX);
const _: () = assert!(BODIES_BYTES_MAX >= BODY_BYTES_MAX);

/// What a daemon that crashed left behind: from the first SIGKILL to giving up and naming what could not be ended.
pub const CRASH_CLEANING: Duration = Duration::from_secs(2);

/// Waiting for a guardian that still cleans up after a dead daemon; past this the start is refused (exit 6).
/// 20 s: longer than it takes at most.
pub const GUARDIAN_CLEANING_PATIENCE: Duration = Duration::from_secs(20);

/// How long the guardian lets the daemon shut down if the daemon has not said (`budget`), and what is added to
/// either; past this the daemon is killed and the guardian cleans up.
pub const SHUTDOWN_BUDGET: Duration = Duration::from_secs(60);
pub const SHUTDOWN_BUDGET_SLACK: Duration = Duration::from_secs(5);

/// Clearing what one life left: SIGKILL is repeated this long, then the survivors are reported.
pub const LIFE_CLEARING: Duration = Duration::from_secs(5);

/// How long the clearing of one life waits for processes that are being started, to tell them from its orphans. 100 ms: a
/// spawn takes less than one; past it the clearing looks again, and meanwhile others may start.
pub const SPAWN_PATIENCE: Duration = Duration::from_millis(100);

/// Ending one orphan in a sweep: from SIGTERM to SIGKILL, and from there to giving up.
pub const ORPHAN_TERM_PATIENCE: Duration = Duration::from_millis(300);
pub const ORPHAN_KILL_PATIENCE: Duration = Duration::from_secs(5);

/// Looks at `/proc` in one sweep: each pass finds what the pass before set free.
pub const SWEEP_PASSES_MAX: usize = 3;

/// Bytes of the ledger of lives before it is written anew with only what still lives.
pub const LEDGER_BYTES_MAX: usize = 256 << 10;

/// Earlier sessions that the ledger remembers, and lives of each; the oldest are forgotten. The mark still finds
/// what they left.
pub const LEDGER_SESSIONS_MAX: usize = 16;
pub const LEDGER_LIVES_MAX: usize = 4096;

/// Processes named in one line for people; the rest is counted.
pub const NAMED_PROCESSES_MAX: usize = 8;

const _: () = assert!(CRASH_TERM_PATIENCE.as_millis() < CRASH_CLEANING.as_millis());

/// Calls that wait inside the demo server (`sleep`, `--slow`); one more is answered with an error.
pub const DEMO_JOBS_MAX: usize = 1024;

/// How long a process that the demo server leaves behind lives if nobody ends it. 10 min: longer than any test,
/// short enough that a broken test run cleans up after itself.
pub const DEMO_HELPER_LIFE: Duration = Duration::from_secs(600);

/// One line from the client of `mcpvisor stdio`: what the daemon takes as a body. A longer one is answered with an
/// error; up to `LINE_BYTES_MAX` under its own id, above that under none, because it is not kept.
pub const STDIO_LINE_BYTES_MAX: usize = BODY_BYTES_MAX;

/// Requests of one client of `mcpvisor stdio` in flight, and the bytes of their lines, which are kept until an answer
/// begins; further lines wait in the pipe.
pub const STDIO_IN_FLIGHT_MAX: usize = 256;
pub const STDIO_IN_FLIGHT_BYTES_MAX: usize = 64 << 20;

/// Streams of `subscriptions/listen` of one client of `mcpvisor stdio`, each with a thread; one more is refused.
pub const STDIO_LISTENS_MAX: usize = 16;

const _: () = assert!(CONTROL_CONNECTIONS_MAX >= 3 * STDIO_IN_FLIGHT_MAX);
const _: () = assert!(STDIO_IN_FLIGHT_BYTES_MAX >= STDIO_LINE_BYTES_MAX);

/// A daemon without an endpoint (`serve --ephemeral`) ends when no session was active for this long. 10 s: a client
/// that is restarted finds its servers running.
pub const EPHEMERAL_IDLE: Duration = Duration::from_secs(10);

/// How long such a daemon waits for its first session. 30 s: a client may be slow to say its first word.
pub const EPHEMERAL_FIRST: Duration = Duration::from_secs(30);

/// The stderr of such daemons, in one file; beyond this it is begun anew at the next start.
pub const EPHEMERAL_LOG_BYTES_MAX: u64 = 64 << 10;

/// Calls in flight to one remote server, each with a thread and a connection; further ones wait in its queue.
pub const REMOTE_CALLS_MAX: usize = 16;

/// Beside them: pings, notifications and answers, so that none of them ever waits for a call to end.
pub const REMOTE_URGENT_MAX: usize = 2;

/// And `subscriptions/listen`, which stays open: the one that is wanted, and the one before until it is closed.
pub const REMOTE_LISTENS_MAX: usize = 2;

/// A thread of a remote server that has nothing to send ends after this.
pub const REMOTE_IDLE: Duration = Duration::from_secs(30);

/// From the address to an open connection, TLS and proxy included; past this the server is `unreachable`.
pub const REMOTE_CONNECT: Duration = Duration::from_secs(10);

/// One write to a remote server may take this long; there is no limit to a whole request, which may be large and slow.
pub const REMOTE_WRITE: Duration = Duration::from_secs(30);

/// What is answered without work being done (a notification, a ping, the older transport's POST): past this it is
/// taken for lost. A call has its own deadline.
pub const REMOTE_REPLY: Duration = Duration::from_secs(30);

/// A silent event stream is opened anew after this: a connection whose other end has vanished looks the same.
pub const REMOTE_SILENCE: Duration = Duration::from_secs(10 * 60);

/// Kept open without use. 3 s: servers close idle connections after 5 s (Node, uvicorn), and who sends into a close
/// cannot know whether it was read.
pub const REMOTE_KEEP_ALIVE: Duration = Duration::from_secs(3);

/// Bytes that came from one remote server and were not looked at yet; who reads more waits.
pub const REMOTE_INBOX_BYTES_MAX: usize = 16 << 20;

/// An error body of a remote server, of which we read this much for its message.
pub const REMOTE_ERROR_BYTES_MAX: u64 = 64 << 10;

/// Times that one stream is taken up again without anything new on it; then it is given up.
pub const REMOTE_RESUMES_MAX: u32 = 5;

/// The longest pause before an event stream is opened again.
pub const REMOTE_PAUSE_MAX: Duration = Duration::from_secs(60);

/// The longest that a server may ask to be left alone (`Retry-After`). 24 h: the longest quotas are daily; more is a slip,
/// and is taken for this.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// A request that only reads, and is answered by 429 or 503 with a shorter `Retry-After`, is asked once more after that.
/// 3 s: who waits for the answer would do the same; a longer time is the caller's to decide about.
pub const RETRY_AFTER_SHORT: Duration = Duration::from_secs(3);

/// A session lost again within this is no accident: the life ends, and the machine's backoff decides.
pub const REMOTE_SESSION_MIN: Duration = Duration::from_secs(30);

/// Ending the session with a server that we leave (DELETE); past this it is left as it is.
pub const REMOTE_BYE: Duration = Duration::from_secs(2);

/// Redirects within one origin that one request follows.
pub const REMOTE_REDIRECTS_MAX: usize = 3;

const _: () = assert!(REMOTE_BYE.as_millis() < LIFE_CLEARING.as_millis());

/// Rows of the state database: containers that were created (the oldest that are gone are dropped first), removals
/// owed, values remembered. 512 is several hundred times what a day of restarts makes; past each, the oldest goes.
pub const CREATED_ROWS_MAX: usize = 512;
pub const OWED_ROWS_MAX: usize = 512;
pub const VALUE_ROWS_MAX: usize = 4096;

/// Bytes of one remembered value, and of all of them, which are kept in memory too; a larger one is refused, and
/// past the sum the oldest are forgotten.
pub const VALUE_BYTES_MAX: usize = 512 << 10;
pub const VALUES_BYTES_MAX: usize = 16 << 20;

const _: () = assert!(VALUE_BYTES_MAX <= VALUES_BYTES_MAX);

/// Rows that changed and are not on the disk yet. Past this (a disk that is full for days) the whole database is
/// written anew at the next success, which is no more than its rows.
pub const UNSAVED_ROWS_MAX: usize = CREATED_ROWS_MAX + OWED_ROWS_MAX + VALUE_ROWS_MAX;

/// How long whoever must know that something is on the disk waits for it, or for the database to be read at all.
/// 1 s: a commit takes 3 ms; a disk that takes longer is in trouble, which is said, and nobody is held up by it.
pub const STORE_PATIENCE: Duration = Duration::from_secs(1);

/// How long changes that nobody waits for are gathered before they are written. 100 ms: the start of many servers makes
/// hundreds, and each commit costs a flush of the disk; what a crash within it loses is learnt again.
pub const STORE_GATHERING: Duration = Duration::from_millis(100);

/// Broken databases that are kept beside the new one; the oldest goes. Also how often a run begins anew before it
/// goes on in memory: a disk that breaks three files will break the next.
pub const BROKEN_DATABASES_MAX: usize = 3;

/// That a server does not speak an era is believed for this long. 7 days: servers are updated, and asking once more costs
/// one start.
pub const ERA_DOUBT: Duration = Duration::from_secs(7 * 24 * 3600);

/// Silence at the first question of an era that may not be spoken, beyond thrice the time that the server took before.
pub const ERA_SILENCE_MIN: Duration = Duration::from_secs(1);

/// A `subscriptions/listen` that was open for less is not opened again at once when the server ends it, but with the next
/// probe. 10 s: a server that ends every one is asked a few times a minute at most.
pub const LISTEN_MIN: Duration = Duration::from_secs(10);

/// The longest that a list of several servers is said to be good, whatever they say of theirs. 60 s: a server that is added
/// to the config is seen that soon by clients that do not listen for changes.
pub const LIST_TTL_MAX: Duration = Duration::from_secs(60);

/// A list that is stale, or doubted, is not read again more often than this, however often clients list.
pub const LIST_AGAIN_MIN: Duration = Duration::from_secs(10);

/// How long a start waits for the end of those who hold its instance: somebody who was killed takes a moment to go.
/// 500 ms; who lives after that is running.
pub const DYING_PATIENCE: Duration = Duration::from_millis(500);

/// Events that are kept for who follows `/events` and was cut off, and their bytes; the oldest are forgotten, which is
/// said (`gap`). 2048: a start of 300 servers. 512 KiB: below what one stream may have queued, so that all of it can be
/// given to a client at once.
pub const JOURNAL_EVENTS_MAX: usize = 2048;
pub const JOURNAL_BYTES_MAX: usize = 512 << 10;

/// Streams of `/events`; every event is given to each of them by whoever made it. One more is answered 503.
pub const EVENT_STREAMS_MAX: usize = 256;

/// A stream of `/events` on which nothing happens gets a comment this often. 30 s: proxies close what is idle for 60 s.
pub const STREAM_PULSE_EVERY: Duration = Duration::from_secs(30);

// Beside its own bytes an event costs some, see `hub.rs`.
const _: () = assert!(JOURNAL_BYTES_MAX + JOURNAL_EVENTS_MAX * 64 < STREAM_QUEUE_BYTES_MAX);

/// Servers and engines of which the hook `on_event` is still to be told something; news of one more is left out, and
/// counted. 4096: one for each server.
pub const HOOK_SUBJECTS_MAX: usize = SERVERS_MAX;

/// The pause between two runs of the hook for the same thing, doubled with every run up to the longest; what happens
/// meanwhile is told together. Begun anew after as long without news as the longest. An engine that goes and comes every
/// second is told of about 30 times in an hour.
pub const HOOK_PAUSE_FIRST: Duration = Duration::from_secs(1);
pub const HOOK_PAUSE_MAX: Duration = Duration::from_secs(600);

/// A hook that takes too long, from SIGTERM to SIGKILL; the same at the shutdown, where less time is left.
pub const HOOK_TERM_PATIENCE: Duration = Duration::from_secs(1);
pub const HOOK_STOP_PATIENCE: Duration = Duration::from_millis(300);

/// How long a shutdown waits for the end of the hook. Past it the process ends all the same, and the guardian ends what
/// is left.
pub const HOOK_END_PATIENCE: Duration = Duration::from_secs(1);

const _: () = assert!(HOOK_STOP_PATIENCE.as_millis() < HOOK_END_PATIENCE.as_millis());

/// Who may wait for the same recovery of a server; one more is told that it is busy. 256: no
/// operator has as many, and a script that has is wrong.
pub const RECONNECT_ASKERS_MAX: usize = 256;

/// How long `reconnect` waits for the outcome where nobody says: most servers are back in a second, a slow one has its
/// `connection_timeout`.
pub const RECONNECT_WAIT: Duration = Duration::from_secs(30);

/// Characters of the reason that somebody gives for a `reconnect`; what is longer is cut.
pub const RECONNECT_REASON_MAX: usize = 200;

/// For what engines are asked of their containers by `status?usage=all`, and of how many at the same time; what comes later
/// is missing there.
pub const USAGE_PATIENCE: Duration = Duration::from_secs(3);
pub const USAGE_AT_ONCE: usize = 64;
