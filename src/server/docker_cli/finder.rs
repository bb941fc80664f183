//! Finds out which container the user's own `docker run` made: by its cidfile, and when that does not come, by our
//! labels. A thread beside the life, over when it knows, or when the life does not need to know any more.

use crate::engine::by_cli::Reach;
use crate::engine::patience::Patience;
use crate::reaper::whose::Whose;
use crate::sys::net::poll_until;
use crate::sys::wake::Wake;
use crate::sys::{clock, thread};
use crossbeam_channel::{Receiver, bounded};
use std::io;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

/// Between two looks at the cidfile, which comes about 150 ms after the start.
const FILE_EVERY: Duration = Duration::from_millis(30);

/// Between two questions to the engine, while the command still pulls its image.
const ENGINE_EVERY: Duration = Duration::from_secs(1);

/// One question to the engine.
const ENGINE_PATIENCE: Duration = Duration::from_secs(10);

/// The digits of a full id.
const ID_CHARS: usize = 64;

/// What it has to say, in this order, each at most once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Clue {
    /// There is no container yet, after all the time that one takes: the image is being pulled, most likely.
    Late,
    Found(String),
}

/// Dropped, it stops looking.
pub(super) struct Finder {
    clues: Receiver<Clue>,
    stop: Wake,
    thread: Option<JoinHandle<Result<(), String>>>,
}

/// Where to look.
pub(super) struct Search {
    pub cidfile: PathBuf,
    /// How long the cidfile may take.
    pub timeout: Duration,
    pub reach: Reach,
    /// Of this very life.
    pub whose: Whose,
}

impl Finder {
    /// `news` is woken for every clue.
    pub(super) fn begin(search: Search, news: Wake) -> io::Result<Finder> {
        let (tell, clues) = bounded(2);
        let stop = Wake::new()?;
        let stopped = stop.clone();
        let look = move || {
            let tell = |clue| {
                // Full it never is; nobody listens once the life is over.
                let _ = tell.send(clue);
                news.wake();
            };
            search.run(&stopped, &tell);
        };
        Ok(Finder { clues, stop, thread: Some(thread::spawn("cidfile", look)?) })
    }

    pub(super) fn clue(&self) -> Option<Clue> {
        self.clues.try_recv().ok()
    }
}

impl Drop for Finder {
    fn drop(&mut self) {
        self.stop.wake();
        // It ends at once: every wait of it looks at `stop`. A panic of it was reported where it happened.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Search {
    fn run(&self, stop: &Wake, tell: &dyn Fn(Clue)) {
        let latest = clock::now() + self.timeout;
        let mut late = false;
        loop {
            if let Some(id) = read_id(&self.cidfile) {
                return tell(Clue::Found(id));
            }
            if late && let Some(id) = self.ask(stop) {
                return tell(Clue::Found(id));
            }
            let pause = if late { ENGINE_EVERY } else { FILE_EVERY };
            // Without a descriptor to wait with we would spin: then it is given up, and the labels find it later.
            if poll_until(&mut [stop.poll_fd()], Some(clock::now() + pause)).unwrap_or(true) {
                return;
            }
            if !late && clock::now() >= latest {
                late = true;
                if let Some(id) = self.ask(stop) {
                    return tell(Clue::Found(id));
                }
                tell(Clue::Late);
            }
        }
    }

    /// An engine that cannot be asked now is asked again.
    fn ask(&self, stop: &Wake) -> Option<String> {
        self.whose.find(&self.reach, &Patience::of(ENGINE_PATIENCE).or_cancel(stop)).ok()?.pop()
    }
}

/// A full id, once the file is whole.
pub(super) fn read_id(cidfile: &Path) -> Option<String> {
    let text = std::fs::read_to_string(cidfile).ok()?;
    let id = text.trim();
    (id.len() == ID_CHARS && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| id.to_owned())
}
