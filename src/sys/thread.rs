//! Threads: named, with a small stack, and never silently dead.

use parking_lot::Mutex;
use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{self, Builder, JoinHandle, Scope, ScopedJoinHandle};

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

/// The same for a thread that may borrow: it has ended when the scope (`std::thread::scope`) has.
pub fn spawn_in<'scope, F, T>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    body: F,
) -> io::Result<ScopedJoinHandle<'scope, Result<T, String>>>
where
    F: FnOnce() -> T + Send + 'scope,
    T: Send + 'scope,
{
    let label = name.to_owned();
    Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn_scoped(scope, move || {
        catch_unwind(AssertUnwindSafe(body)).map_err(|panic| {
            let text = panic_text(panic.as_ref());
            log::error!("thread {label} panicked: {text}");
            text
        })
    })
}

/// Does all `jobs`, up to `at_once` at the same time, and returns what came of each, in order; `None` where `body`
/// panicked. The calling thread works too, so that it gets done also where no other thread can be had.
pub fn each<T: Send, R: Send>(
    name: &str,
    at_once: usize,
    jobs: Vec<T>,
    body: impl Fn(T) -> R + Sync,
) -> Vec<Option<R>> {
    let count = jobs.len();
    let results = Mutex::new((0..count).map(|_| None).collect::<Vec<Option<R>>>());
    let open = Mutex::new(jobs.into_iter().enumerate());
    let take = || open.lock().next();
    let work = || {
        while let Some((index, job)) = take() {
            match catch_unwind(AssertUnwindSafe(|| body(job))) {
                Ok(result) => results.lock()[index] = Some(result),
                Err(panic) => log::error!("a job panicked: {}", panic_text(panic.as_ref())),
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..at_once.min(count) {
            // Fewer threads only take longer.
            if spawn_in(scope, name, work).is_err() {
                break;
            }
        }
        work();
    });
    results.into_inner()
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    #[test]
    fn each_in_order_and_at_once() {
        let together = Barrier::new(3);
        let done = each("test", 3, vec![1, 2, 3], |n| {
            together.wait();
            assert_ne!(n, 2, "this one panics");
            n * 10
        });
        assert_eq!(done, [Some(10), None, Some(30)]);
        assert_eq!(each("test", 4, Vec::<u8>::new(), |n| n), []);
        assert_eq!(each("test", 1, vec![1, 2], |n| n + 1), [Some(2), Some(3)]);
    }
}
