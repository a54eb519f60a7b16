//! Tables of a terminal: columns as wide as their cells, or narrower and wrapped where there is no room.

use super::markdown_layout::{StyledLine, StyledSpan, TextStyle, wrap_spans};

/// Between two columns.
const SEPARATOR: &str = " │ ";
const SEPARATOR_WIDTH: usize = 3;
/// A column is not made narrower than this.
const MIN_COLUMN: usize = 6;

type TableCell = Vec<StyledSpan>;

/// A table while it is read.
pub(super) struct TableLayout {
    /// Whether each column is aligned to the right.
    right_aligned: Vec<bool>,
    rows: Vec<Vec<TableCell>>,
    row: Vec<TableCell>,
}

impl TableLayout {
    pub(super) fn new(right_aligned: Vec<bool>) -> Self {
        Self { right_aligned, rows: Vec::new(), row: Vec::new() }
    }

    pub(super) fn add_cell(&mut self, cell: TableCell) {
        self.row.push(cell);
    }

    pub(super) fn end_row(&mut self) {
        self.rows.push(std::mem::take(&mut self.row));
    }

    /// Returns the lines of the table in `width` columns, as far as its columns can be made narrower. The first row is the head.
    pub(super) fn layout(mut self, width: usize) -> Vec<StyledLine> {
        for span in self.rows.first_mut().into_iter().flatten().flatten() {
            span.style.bold = true;
        }
        let widths = self.column_widths(width);
        let mut lines = Vec::new();
        for (index, row) in self.rows.iter().enumerate() {
            let cells: Vec<Vec<StyledLine>> = widths
                .iter()
                .enumerate()
                .map(|(column, width)| wrap_spans(row.get(column).map_or(&[][..], Vec::as_slice), *width))
                .collect();
            let height = cells.iter().map(Vec::len).max().unwrap_or(1);
            lines.extend((0..height).map(|at| self.join_cells(&cells, at, &widths)));
            if index == 0 {
                let rule: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
                lines.push(StyledLine(vec![dim_span(&rule.join("─┼─"))]));
            }
        }
        lines
    }

    fn join_cells(&self, cells: &[Vec<StyledLine>], at: usize, widths: &[usize]) -> StyledLine {
        let mut line = Vec::new();
        for (column, width) in widths.iter().enumerate() {
            if column > 0 {
                line.push(dim_span(SEPARATOR));
            }
            let cell = cells[column].get(at).cloned().unwrap_or_default();
            let padding = " ".repeat(width.saturating_sub(cell.width()));
            let padding = StyledSpan { style: TextStyle::default(), text: padding };
            if self.right_aligned.get(column) == Some(&true) {
                line.push(padding);
                line.extend(cell.0);
            } else {
                line.extend(cell.0);
                line.push(padding);
            }
        }
        StyledLine(line)
    }

    fn column_widths(&self, width: usize) -> Vec<usize> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let natural = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| StyledLine(cell.clone()).width()).max().unwrap_or(0).max(1)
        };
        let mut widths: Vec<usize> = (0..columns).map(natural).collect();
        let room = width.saturating_sub(SEPARATOR_WIDTH * columns.saturating_sub(1));
        // The widest column has the longest texts, which can be wrapped best.
        while widths.iter().sum::<usize>() > room {
            let Some(widest) = widths.iter_mut().max() else { break };
            if *widest <= MIN_COLUMN {
                break;
            }
            *widest -= 1;
        }
        widths
    }
}

fn dim_span(text: &str) -> StyledSpan {
    StyledSpan { style: TextStyle { dim: true, ..TextStyle::default() }, text: text.to_owned() }
}
