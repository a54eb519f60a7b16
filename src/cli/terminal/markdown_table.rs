//! Tables of a terminal: columns as wide as their cells, or narrower and wrapped where there is no room. A table that cannot
//! be narrow enough is a list of its rows, with a line per cell.

use super::markdown_layout::{StyledLine, StyledSpan, TextStyle, wrap_spans};

/// Between two columns.
const SEPARATOR: &str = " │ ";
const SEPARATOR_WIDTH: usize = 3;

/// The width of the line between two rows that are lists.
const RECORD_RULE: usize = 20;

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

    /// Returns the lines of the table in `width` columns. The first row is the head.
    pub(super) fn layout(mut self, width: usize) -> Vec<StyledLine> {
        for span in self.rows.first_mut().into_iter().flatten().flatten() {
            span.style.bold = true;
        }
        let Some(widths) = self.column_widths(width) else { return self.layout_records(width) };
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

    /// Returns each row as lines of `head: cell`.
    fn layout_records(&self, width: usize) -> Vec<StyledLine> {
        let Some((head, rows)) = self.rows.split_first() else { return Vec::new() };
        let mut lines = Vec::new();
        for row in rows {
            if !lines.is_empty() {
                lines.push(StyledLine(vec![dim_span(&"─".repeat(width.min(RECORD_RULE)))]));
            }
            for (column, cell) in row.iter().enumerate().filter(|(_, cell)| !cell.is_empty()) {
                let mut spans = head.get(column).cloned().unwrap_or_default();
                spans.push(dim_span(": "));
                spans.extend(cell.iter().cloned());
                lines.extend(wrap_spans(&spans, width));
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

    /// Returns the widths of the columns; `None` if the longest words of the columns do not fit next to each other.
    fn column_widths(&self, width: usize) -> Option<Vec<usize>> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widest_line = |column: usize, max: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            let lines = cells.flat_map(|cell| wrap_spans(cell, max));
            lines.map(|line| line.width()).max().unwrap_or(0).max(1)
        };
        let mut widths: Vec<usize> = (0..columns).map(|column| widest_line(column, usize::MAX)).collect();
        let words: Vec<usize> = (0..columns).map(|column| widest_line(column, 1)).collect();
        let room = width.saturating_sub(SEPARATOR_WIDTH * columns.saturating_sub(1));
        // The widest column has the longest texts, which can be wrapped best.
        while widths.iter().sum::<usize>() > room {
            let narrowable = widths.iter_mut().zip(&words).filter(|(width, word)| **width > **word);
            *narrowable.map(|(width, _)| width).max()? -= 1;
        }
        Some(widths)
    }
}

fn dim_span(text: &str) -> StyledSpan {
    StyledSpan { style: TextStyle { dim: true, ..TextStyle::default() }, text: text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::super::markdown_layout::ColorUse;
    use super::*;

    fn layout(rows: &[&[&str]], width: usize) -> Vec<String> {
        let mut table = TableLayout::new(Vec::new());
        for row in rows {
            for cell in *row {
                table.add_cell(vec![StyledSpan { style: TextStyle::default(), text: (*cell).to_owned() }]);
            }
            table.end_row();
        }
        table.layout(width).iter().map(|line| line.render(ColorUse::Plain).trim_end().to_owned()).collect()
    }

    #[test]
    fn columns_are_narrowed_to_their_longest_words_and_then_become_lists() {
        let rows: [&[&str]; 3] =
            [&["Pod", "Why"], &["payments-api-xh8kv", "it has no memory left"], &["web", "it is fine"]];
        assert_eq!(
            layout(&rows, 35),
            [
                "Pod                │ Why",
                "───────────────────┼───────────────",
                "payments-api-xh8kv │ it has no",
                "                   │ memory left",
                "web                │ it is fine",
            ]
        );
        assert_eq!(
            layout(&rows, 24),
            [
                "Pod: payments-api-xh8kv",
                "Why: it has no memory",
                "left",
                "────────────────────",
                "Pod: web",
                "Why: it is fine"
            ]
        );
        // Every line of a table is within the terminal, however many columns there are.
        let wide: Vec<String> = (0..24).map(|n| format!("column {n}")).collect();
        let wide: Vec<&str> = wide.iter().map(String::as_str).collect();
        assert!(layout(&[&wide, &wide], 60).iter().all(|line| line.chars().count() <= 60));
    }

    #[test]
    fn family_of_a_wide_cell_stays_in_one_piece() {
        let rows: [&[&str]; 2] = [&["ポッド", "絵文字"], &["決済-api", "👩‍👩‍👧‍👦"]];
        assert_eq!(layout(&rows, 60), ["ポッド   │ 絵文字", "─────────┼───────", "決済-api │ 👩‍👩‍👧‍👦"]);
    }
}
