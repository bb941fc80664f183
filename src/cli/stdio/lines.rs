//! The client's side: its lines in, our lines out. Bounded, whole lines only; nothing here reads JSON.

use crate::base::limits::LINE_BYTES_MAX;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use parking_lot::Mutex;
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::fd::AsFd;

/// One line of the client, without its newline.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    Text(Vec<u8>),
    /// Longer than the limit, and thrown away.
    TooLong,
}

pub struct Input {
    from: BufReader<File>,
    bytes_max: usize,
}

impl Input {
    pub fn stdin() -> io::Result<Input> {
        Ok(Input::of(io::stdin().as_fd().try_clone_to_owned()?.into(), LINE_BYTES_MAX))
    }

    fn of(file: File, bytes_max: usize) -> Input {
        Input { from: BufReader::with_capacity(64 << 10, file), bytes_max }
    }

    /// The next line; the last one may lack its newline. `None` at the end, also when stdin cannot be read any more.
    pub fn next(&mut self) -> Option<Line> {
        let (mut line, mut dropped, bytes_max) = (Vec::new(), false, self.bytes_max);
        loop {
            let part = self.part();
            if part.is_empty() {
                return match (dropped, line.is_empty()) {
                    (true, _) => Some(Line::TooLong),
                    (false, true) => None,
                    (false, false) => Some(Line::Text(line)),
                };
            }
            let end = part.iter().position(|byte| *byte == b'\n');
            let taken = &part[..end.unwrap_or(part.len())];
            dropped |= line.len() + taken.len() > bytes_max;
            if dropped {
                line = Vec::new();
            } else {
                line.extend_from_slice(taken);
            }
            let used = taken.len() + usize::from(end.is_some());
            self.from.consume(used);
            if end.is_some() {
                return Some(if dropped { Line::TooLong } else { Line::Text(line) });
            }
        }
    }

    /// What has come; nothing at the end.
    fn part(&mut self) -> &[u8] {
        while let Err(error) = self.from.fill_buf() {
            if error.kind() == ErrorKind::WouldBlock {
                wait(self.from.get_ref(), PollFlags::POLLIN);
            } else if error.kind() != ErrorKind::Interrupted {
                return &[];
            }
        }
        self.from.buffer()
    }
}

/// Stdout, one line at a time.
pub struct Output(Mutex<File>);

impl Output {
    pub fn stdout() -> io::Result<Output> {
        Ok(Output(Mutex::new(io::stdout().as_fd().try_clone_to_owned()?.into())))
    }

    /// One message, written whole. A line break between JSON tokens is white space; here it would end the message.
    pub fn line(&self, mut message: Vec<u8>) -> io::Result<()> {
        message.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
        message.push(b'\n');
        let mut file = self.0.lock();
        let mut rest = message.as_slice();
        while !rest.is_empty() {
            match file.write(rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == ErrorKind::Interrupted => (),
                Err(error) if error.kind() == ErrorKind::WouldBlock => wait(&file, PollFlags::POLLOUT),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// A client may have made its end of the pipe, and so ours, non-blocking.
fn wait(file: &File, flags: PollFlags) {
    // An interrupted wait only makes the caller try again.
    let _ = poll(&mut [PollFd::new(file.as_fd(), flags)], PollTimeout::NONE);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::OwnedFd;

    #[test]
    fn lines_in() {
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"a\n\n123456\n12345678901\n1234567890\nlast").unwrap();
        drop(writer);
        let mut input = Input::of(OwnedFd::from(reader).into(), 10);
        let text = |text: &str| Some(Line::Text(text.as_bytes().to_vec()));
        assert_eq!(input.next(), text("a"));
        assert_eq!(input.next(), text(""));
        assert_eq!(input.next(), text("123456"));
        assert_eq!(input.next(), Some(Line::TooLong));
        assert_eq!(input.next(), text("1234567890"));
        assert_eq!(input.next(), text("last"));
        assert_eq!(input.next(), None);
    }

    #[test]
    fn lines_out() {
        let (reader, writer) = io::pipe().unwrap();
        let out = Output(Mutex::new(OwnedFd::from(writer).into()));
        out.line(b"{\"a\":\r\n1}".to_vec()).unwrap();
        out.line(b"{}".to_vec()).unwrap();
        drop(out);
        let text = io::read_to_string(reader).unwrap();
        assert_eq!(text, "{\"a\":  1}\n{}\n");
    }
}
