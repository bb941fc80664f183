//! Threads: named, with a small stack, and never silently dead.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{Builder, JoinHandle};

/// 256 KiB: 127-deep JSON needs up to 128 KiB in release; debug frames are larger. RSS does not depend on it.
const STACK_BYTES: usize = if cfg!(debug_assertions) { 1 << 20 } else { 256 << 10 };

/// Runs `body` on a thread called `name` (the kernel keeps 15 bytes of it). A panic is caught, logged and
/// returned by `join` as `Err(text)`; what it means is for the caller to decide.
pub fn spawn<F, T>(name: &str, body: F) -> io::Result<JoinHandle<Result<T, String>>>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let label = name.to_owned();
    Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(move || {
        catch_unwind(AssertUnwindSafe(body)).map_err(|panic| {
            let text = panic_text(panic.as_ref());
            log::error!("thread {label} panicked: {text}");
            text
        })
    })
}

/// The same for a thread that the daemon cannot go on without: after a panic the process aborts, and the guardian
/// ends what it leaves.
pub fn spawn_vital<F>(name: &str, body: F) -> io::Result<JoinHandle<()>>
where
    F: FnOnce() + Send + 'static,
{
    let label = name.to_owned();
    Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(move || {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(body)) {
            log::error!("thread {label} panicked: {}; the daemon ends", panic_text(panic.as_ref()));
            std::process::abort();
        }
    })
}

/// What a panic said.
pub fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
