//! A table for a terminal: what stands in it is named in the first column and painted in the second, the rest are
//! numbers; below a row stands what explains it. Pure, and knows nothing of servers or engines.

use super::output::{Colour, tame, wrap};

/// Between two columns, and before what is said below a row.
const GAP: &str = "  ";
const INDENT: usize = 4;

pub(super) struct Row<const N: usize> {
    pub cells: [String; N],
    /// Of the second cell.
    pub colour: Colour,
    /// As it came: it is tamed here.
    pub why: Option<String>,
}

/// Headings and rows. A first cell that does not fit beside the others gets a line of its own.
pub(super) fn table<const N: usize>(
    headings: [&str; N],
    rows: Vec<Row<N>>,
    columns: usize,
    paint: &dyn Fn(&str, Colour) -> String,
) -> String {
    let mut widths = headings.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(&row.cells) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let others: usize = widths[1..].iter().map(|width| width + GAP.len()).sum();
    widths[0] = widths[0].min(columns.saturating_sub(others)).max(headings[0].len());
    let head = line(&headings.map(str::to_owned), &widths, |cell| cell);
    let mut text = format!("{}\n", paint(&head, Colour::Bold));
    for Row { mut cells, colour, why } in rows {
        if cells[0].chars().count() > widths[0] {
            text.push_str(&format!("{}\n", cells[0]));
            cells[0].clear();
        }
        text.push_str(&format!("{}\n", line(&cells, &widths, |cell| paint(&cell, colour))));
        for line in why.iter().flat_map(|why| wrap(&tame(why), columns, INDENT)) {
            text.push_str(&format!("{line}\n"));
        }
    }
    text
}

/// Words to the left, numbers to the right; `paint` gets the second cell with its padding.
fn line<const N: usize>(
    cells: &[String; N],
    widths: &[usize; N],
    paint: impl Fn(String) -> String,
) -> String {
    let padded = cells.iter().zip(widths).enumerate().map(|(column, (cell, width))| match column {
        0 => format!("{cell:width$}"),
        1 => paint(format!("{cell:width$}")),
        _ => format!("{cell:>width$}"),
    });
    padded.collect::<Vec<String>>().join(GAP)
}
