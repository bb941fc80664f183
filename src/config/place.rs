//! From a byte of the text to the line and column that people count.

/// Finds any place by walking at most [`Places::STRIDE`] bytes, so that a file of one long line stays cheap.
pub struct Places<'t> {
    text: &'t str,
    /// Line and column of every `STRIDE`th byte.
    marks: Vec<(usize, usize)>,
}

impl<'t> Places<'t> {
    const STRIDE: usize = 256;

    pub fn new(text: &'t str) -> Places<'t> {
        let mut marks = vec![(1, 1)];
        for piece in text.as_bytes().chunks_exact(Places::STRIDE) {
            let last = marks[marks.len() - 1];
            marks.push(piece.iter().fold(last, after));
        }
        Places { text, marks }
    }

    /// Line and column, both from 1, the column in characters. A place past the end is the end.
    pub fn position(&self, at: usize) -> (usize, usize) {
        let at = at.min(self.text.len());
        let mark = at / Places::STRIDE;
        let walked = &self.text.as_bytes()[mark * Places::STRIDE..at];
        walked.iter().fold(self.marks[mark], after)
    }
}

fn after((line, column): (usize, usize), byte: &u8) -> (usize, usize) {
    match byte {
        b'\n' => (line + 1, 1),
        0x80..0xc0 => (line, column),
        _ => (line, column + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns() {
        #[track_caller]
        fn check(text: &str, at: usize, place: (usize, usize)) {
            assert_eq!(Places::new(text).position(at), place);
        }
        check("", 0, (1, 1));
        check("ab\ncd", 2, (1, 3));
        check("ab\ncd", 3, (2, 1));
        check("é€😀x", 9, (1, 4));
        check("ab", 99, (1, 3));
        let long = "é".repeat(2000);
        check(&long, 3000, (1, 1501));
        check(&long, 4000, (1, 2001));
        check(&format!("{}\n{}", "x".repeat(1023), "y".repeat(5)), 1024, (2, 1));
    }
}
