//! Bytes from a pipe, cut into lines, with a limit on what one line may hold.

use crate::base::bytes::newline;

/// What happens to a line that is longer than the limit. It is counted in either case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oversized {
    /// Nothing of it is given.
    Drop,
    /// Its beginning is given.
    Cut,
}

/// Collects bytes and gives lines.
#[derive(Debug)]
pub struct Lines {
    buffer: Vec<u8>,
    limit: usize,
    policy: Oversized,
    /// Within a line that was too long: its bytes are dropped up to the newline.
    skipping: bool,
    /// Lines that were too long.
    pub oversized: u64,
}

impl Lines {
    pub fn new(limit: usize, policy: Oversized) -> Lines {
        Lines { buffer: Vec::new(), limit, policy, skipping: false, oversized: 0 }
    }

    /// Adds what was read and calls `take` for every complete line, without its `\n` or `\r\n`. Empty lines are
    /// left out.
    pub fn feed(&mut self, bytes: &[u8], mut take: impl FnMut(&[u8])) {
        let mut rest = bytes;
        // Whole lines that lie within what was read are taken from there, without a copy.
        while let Some(end) = newline(rest) {
            let (line, after) = (&rest[..end], &rest[end + 1..]);
            rest = after;
            if self.skipping {
                self.skipping = false;
            } else if self.buffer.is_empty() {
                self.emit(line, &mut take);
            } else {
                self.buffer.extend_from_slice(line);
                let whole = std::mem::take(&mut self.buffer);
                self.emit(&whole, &mut take);
                self.recycle(whole);
            }
        }
        if !self.skipping {
            self.buffer.extend_from_slice(rest);
            if self.buffer.len() > self.limit {
                let begun = std::mem::take(&mut self.buffer);
                self.emit(&begun, &mut take);
                self.skipping = true;
            }
        }
    }

    fn emit(&mut self, line: &[u8], take: &mut impl FnMut(&[u8])) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > self.limit {
            self.oversized += 1;
            if self.policy == Oversized::Cut {
                take(&line[..self.limit]);
            }
        } else if !line.is_empty() {
            take(line);
        }
    }

    /// What came after the last newline, at the end of the stream.
    pub fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }

    /// Keeps the allocation of a small buffer; a large one is given back.
    fn recycle(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() <= 64 << 10 {
            buffer.clear();
            self.buffer = buffer;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(limit: usize, chunks: &[&str], lines: &[&str], oversized: u64) {
        let mut seen = Vec::new();
        let mut reader = Lines::new(limit, Oversized::Drop);
        for chunk in chunks {
            reader.feed(chunk.as_bytes(), |line| seen.push(String::from_utf8(line.to_vec()).unwrap()));
        }
        assert_eq!(
            (seen.iter().map(String::as_str).collect::<Vec<_>>(), reader.oversized),
            (lines.to_vec(), oversized)
        );
    }

    #[test]
    fn lines() {
        check(9, &["a\nb\r\n\nc"], &["a", "b"], 0);
        check(9, &["ab", "c", "d\ne\nf", "\n"], &["abcd", "e", "f"], 0);
        check(3, &["abcd", "efgh\nxy\n"], &["xy"], 1);
        check(3, &["abcd\nabc\n"], &["abc"], 1);
        check(3, &["ab", "cd\nx\n"], &["x"], 1);
        check(3, &["abcdef", "ghijkl", "\nok\n"], &["ok"], 1);
    }

    #[test]
    fn cut_to_the_limit() {
        let mut seen = Vec::new();
        let mut reader = Lines::new(3, Oversized::Cut);
        for chunk in ["abcd", "efg", "h\nx\nvwxyz\n"] {
            reader.feed(chunk.as_bytes(), |line| seen.push(line.to_vec()));
        }
        assert_eq!(seen, [b"abc".to_vec(), b"x".to_vec(), b"vwx".to_vec()]);
        assert_eq!(reader.oversized, 2);
    }

    #[test]
    fn any_split_gives_the_same() {
        let text = "one\ntwo two\r\n\nthree";
        for cut in 0..text.len() {
            let (head, tail) = text.split_at(cut);
            check(9, &[head, tail, "\n"], &["one", "two two", "three"], 0);
        }
    }
}
