//! The line on a terminal while `serve` starts: how many are ready, and which are slow. Nothing where no terminal is.
//!
//! The text is pure; `Progress` only rewrites its line. It asks nobody and knows no time: who shows it brings rows.

use super::output::tame;
use super::rows::is_up;
use crate::base::text::{shorten, span};
use crate::sys::tty;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

/// One wanted server, in the API's words. Disabled servers are not counted.
#[derive(Clone, Debug)]
pub struct Row<'a> {
    pub name: &'a str,
    pub state: &'a str,
    pub phase: Option<&'a str>,
    /// How long it has been in this state.
    pub since: Duration,
    pub retry_in: Option<Duration>,
    /// How far its image is.
    pub progress: Option<String>,
}

impl Row<'_> {
    fn is_down(&self) -> bool {
        matches!(self.state, "parked" | "auto_disabled")
    }

    fn text(&self) -> String {
        let phase = self.progress.as_deref().or(self.phase);
        let what = match (phase, self.retry_in) {
            _ if self.is_down() => self.state.to_owned(),
            (_, Some(left)) => format!("{}, retry in {}", self.state, span(left)),
            (phase, None) => format!("{}, {}", span(self.since), phase.unwrap_or(self.state)),
        };
        tame(&format!("{} ({what})", self.name))
    }
}

/// `4 of 6 ready; waiting: git (12s, handshaking); down: x (parked)`, of at most `columns`; the slowest come first
/// and are the last to be left out.
pub fn line(rows: &[Row], columns: usize) -> String {
    let counted: Vec<&Row> = rows.iter().filter(|row| row.state != "disabled").collect();
    let up = counted.iter().filter(|row| is_up(row.state)).count();
    let mut text = format!("{up} of {} ready", counted.len());
    let (down, mut waiting): (Vec<&Row>, Vec<&Row>) =
        counted.into_iter().filter(|row| !is_up(row.state)).partition(|row| row.is_down());
    waiting.sort_by_key(|row| (std::cmp::Reverse(row.since), row.name));
    append(&mut text, "waiting", &waiting, columns);
    append(&mut text, "down", &down, columns);
    shorten(&text, columns)
}

/// Entries as far as they fit, then how many more there are.
fn append(text: &mut String, label: &str, rows: &[&Row], columns: usize) {
    for (index, row) in rows.iter().enumerate() {
        let (entry, rest) = match index {
            0 => (format!("; {label}: {}", row.text()), format!("; {} {label}", rows.len())),
            _ => (format!(", {}", row.text()), format!(" and {} more", rows.len() - index)),
        };
        let is_last = index + 1 == rows.len();
        let reserve = if is_last { 0 } else { " and 99 more".len() };
        if text.chars().count() + entry.chars().count() + reserve > columns {
            text.push_str(&rest);
            return;
        }
        text.push_str(&entry);
    }
}

pub struct Progress {
    /// `None` where no terminal is.
    to: Option<Box<dyn Write + Send>>,
    columns: usize,
    shown: String,
}

impl Progress {
    /// On stderr, where the log goes too: call `clear` before anything else is printed.
    pub fn on_stderr() -> Progress {
        let stderr = io::stderr();
        let columns = tty::columns(&stderr).unwrap_or(80);
        let to = stderr.is_terminal().then(|| Box::new(stderr) as Box<dyn Write + Send>);
        Progress { to, columns, shown: String::new() }
    }

    /// Whether anyone sees it; if not, nobody needs to gather rows.
    pub fn is_seen(&self) -> bool {
        self.to.is_some()
    }

    pub fn show(&mut self, rows: &[Row]) {
        // A full line would wrap, and `\r` would not come back to its start.
        let text = line(rows, self.columns.saturating_sub(1));
        if text != self.shown {
            self.write(&format!("\r{text}\x1b[K"));
            self.shown = text;
        }
    }

    /// Leaves the last line standing.
    pub fn finish(&mut self, rows: &[Row]) {
        self.show(rows);
        self.write("\n");
        self.shown.clear();
    }

    pub fn clear(&mut self) {
        if !self.shown.is_empty() {
            self.write("\r\x1b[K");
            self.shown.clear();
        }
    }

    fn write(&mut self, text: &str) {
        let Some(to) = &mut self.to else { return };
        // A terminal that is gone needs no progress.
        if to.write_all(text.as_bytes()).and_then(|()| to.flush()).is_err() {
            self.to = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use std::sync::Arc;

    fn row<'a>(name: &'a str, state: &'a str, seconds: u64) -> Row<'a> {
        Row { name, state, phase: None, since: Duration::from_secs(seconds), retry_in: None, progress: None }
    }

    fn rows() -> Vec<Row<'static>> {
        vec![
            row("time", "ready", 1),
            row("lazy", "sleeping", 1),
            Row { retry_in: Some(Duration::from_secs(3)), ..row("x", "backoff", 2) },
            Row { phase: Some("handshaking"), ..row("git", "connecting", 12) },
            row("q", "queued", 0),
            row("off", "disabled", 0),
            row("bad", "parked", 5),
        ]
    }

    #[test]
    fn lines() {
        let check = |columns, expected| assert_eq!(line(&rows(), columns), expected);
        check(
            200,
            "2 of 6 ready; waiting: git (12s, handshaking), x (backoff, retry in 3s), q (0ms, queued); down: bad (parked)",
        );
        check(70, "2 of 6 ready; waiting: git (12s, handshaking) and 2 more; 1 down");
        check(62, "2 of 6 ready; waiting: git (12s, handshaking) and 2 more; 1 d…");
        check(40, "2 of 6 ready; 3 waiting; 1 down");
        assert_eq!(line(&rows()[..2], 80), "2 of 2 ready");
    }

    #[derive(Clone, Default)]
    struct Screen(Arc<Mutex<Vec<u8>>>);

    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn one_line_is_rewritten() {
        let screen = Screen::default();
        let mut progress = Progress { to: Some(Box::new(screen.clone())), columns: 80, shown: String::new() };
        progress.clear();
        progress.show(&[row("a", "queued", 1)]);
        progress.show(&[row("a", "queued", 1)]);
        progress.clear();
        progress.finish(&[row("a", "ready", 1)]);
        let expected = "\r0 of 1 ready; waiting: a (1s, queued)\x1b[K\r\x1b[K\r1 of 1 ready\x1b[K\n";
        assert_eq!(String::from_utf8(screen.0.lock().clone()).unwrap(), expected);
    }
}
