//! Tables within a budget: the values of the columns are counted, and the rows that are unlike the others or have the largest
//! numbers are shown first.

use std::fmt::Write;

use super::{
    alarm_words::{AlarmLevel, alarm_level},
    budget::{BudgetedText, OutputBudget},
    object_lists::MIN_WEIGHT,
    table_layout::{TableBlock, TableRow},
    truncate::clip_value,
    value_statistics::{PathStatistics, ValueStatistics, combine_weights},
};

/// Most columns whose values are told.
const MAX_TOLD_COLUMNS: usize = 8;
/// Longest cell in bytes, from one attempt to fit all rows to the next.
const CELL_BYTES: &[usize] = &[2_000, 300, 120, 60, 40];
/// Longest cell in bytes if not all rows fit.
const SHORT_CELL_BYTES: usize = 100;
/// Longest row in bytes that could not be read.
const MAX_ROW_BYTES: usize = 1_200;
/// Share of the budget in percent for rows if not all of them fit.
const ROWS_PERCENT: usize = 75;
/// Weight of a row in which two counts differ that are equal in nearly all rows, as `DESIRED` and `READY`.
const UNEQUAL_WEIGHT: f64 = 1.4;
/// Most columns whose counts are compared.
const MAX_COMPARED_COLUMNS: usize = 12;
/// Weight of the rows with the largest numbers of a column.
const EXTREME_WEIGHT: f64 = 0.9;

/// Shows a table within the budget.
pub(super) fn shrink_table(table: &TableBlock<'_>, budget: OutputBudget) -> String {
    let whole = whole_table(table);
    if budget.allows(&whole) {
        return whole;
    }
    let mut statistics = ValueStatistics::default();
    for row in &table.rows {
        statistics.begin_item();
        visit_cells(table, row, &mut |column, cell| statistics.add_fact(column, cell));
    }
    statistics.finish();
    let scores = score_rows(table, &statistics);
    let mut order: Vec<usize> = (0..table.rows.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));

    let shown_columns: Vec<usize> =
        (0..table.columns.len()).filter(|at| !is_constant(table, *at, &statistics)).collect();
    let mut text = BudgetedText::new(budget);
    text.push_line(&describe_columns(table, &statistics, &shown_columns, budget));
    let name_column = name_column(table, &statistics);
    let headings: Vec<&str> = shown_columns.iter().map(|at| table.columns[*at]).collect();
    text.push_line(&headings.join("  "));
    let max_cell = fitting_cell_bytes(table, &shown_columns, text.remaining());
    // If not all rows fit, the names of the others are worth more than further rows.
    let for_rows = if max_cell.is_some() { text.remaining() } else { text.remaining().share(ROWS_PERCENT) };
    let max_cell = max_cell.unwrap_or(SHORT_CELL_BYTES);
    let mut rows = BudgetedText::new(for_rows.minus("[... 100000 of 100000 rows left out ...]"));
    let mut kept: Vec<Option<String>> = vec![None; table.rows.len()];
    for at in order {
        let printed = print_row(table, at, &shown_columns, max_cell, &statistics);
        if rows.push_line(&printed) {
            kept[at] = Some(printed);
        } else if rows.remaining().tokens < 12 {
            break;
        }
    }
    for row in kept.iter().flatten() {
        text.push_line(row);
    }
    let left_out = kept.iter().filter(|row| row.is_none()).count();
    let unusual = kept.iter().zip(&scores).filter(|(row, score)| row.is_none() && **score > 0.0).count();
    if left_out > 0 {
        let names = kept.iter().zip(&table.rows).filter(|(kept, row)| kept.is_none() && !row.cells.is_empty());
        let names: Vec<&str> = names.map(|(_, row)| row.cells[name_column]).collect();
        let mut line = BudgetedText::new(
            text.remaining().minus("[... 100000 of 100000 rows left out, 100000 of them unusual ...]"),
        );
        line.push_list("Further rows: ", names.into_iter());
        if !line.is_empty() {
            text.push_line(&line.into_text());
        }
        text.push_line(&format!(
            "[... {left_out} of {} rows left out, {unusual} of them unusual ...]",
            table.rows.len()
        ));
    }
    text.into_text()
}

/// Returns the table as the output has it.
pub(super) fn whole_table(table: &TableBlock<'_>) -> String {
    let mut whole = table.heading.to_owned();
    for row in &table.rows {
        whole.push('\n');
        whole.push_str(row.text);
    }
    whole
}

fn visit_cells(table: &TableBlock<'_>, row: &TableRow<'_>, visit: &mut dyn FnMut(&str, &str)) {
    for (column, cell) in table.columns.iter().zip(&row.cells) {
        // Seconds and minutes of ages differ in all rows. The rest of such a cell counts: `41 (3m ago)`.
        let cell = cell.split_once(" (").map_or(*cell, |(cell, _)| cell);
        visit(column, cell);
    }
}

/// Returns how unusual each row is; 0 if it is not.
fn score_rows(table: &TableBlock<'_>, statistics: &ValueStatistics) -> Vec<f64> {
    let mut scores: Vec<f64> = Vec::with_capacity(table.rows.len());
    for row in &table.rows {
        let mut weights: Vec<f64> = Vec::new();
        visit_cells(table, row, &mut |column, cell| {
            if let Some(fact) = statistics.judge_fact(column, cell).filter(|fact| fact.weight >= MIN_WEIGHT) {
                weights.push(fact.weight);
            }
            if is_incomplete(cell) {
                weights.push(1.3);
            }
        });
        // A row that could not be read may hold anything, and an error of the tool.
        if row.cells.is_empty() {
            weights.push(if alarm_level(row.text) == AlarmLevel::Fault { 2.6 } else { 0.6 });
        }
        weights.sort_by(|a, b| b.total_cmp(a));
        let score = combine_weights(weights.into_iter());
        scores.push(if score < MIN_WEIGHT { 0.0 } else { score });
    }
    for (score, differs) in scores.iter_mut().zip(find_unequal_rows(table)) {
        *score += if differs { UNEQUAL_WEIGHT } else { 0.0 };
    }
    for column in statistics.paths().iter().filter(|column| is_measured(column)) {
        for extreme in &column.largest {
            if let Some(score) = scores.get_mut(extreme.item) {
                *score += EXTREME_WEIGHT;
            }
        }
    }
    scores
}

/// Returns for each row whether two of its counts differ that are equal in at least 19 of 20 rows.
fn find_unequal_rows(table: &TableBlock<'_>) -> Vec<bool> {
    let count = |row: &TableRow<'_>, at: usize| row.cells.get(at)?.parse::<u64>().ok();
    let total = table.rows.len();
    let counts: Vec<usize> = (0..table.columns.len())
        .filter(|at| table.rows.iter().filter(|row| count(row, *at).is_some()).count() * 20 >= total * 19)
        .take(MAX_COMPARED_COLUMNS)
        .collect();
    let mut differs = vec![false; total];
    for (n, left) in counts.iter().enumerate() {
        for right in &counts[n + 1..] {
            let is_unequal = |row: &TableRow<'_>| matches!((count(row, *left), count(row, *right)), (Some(left), Some(right)) if left != right);
            let unequal: Vec<usize> = (0..total).filter(|at| is_unequal(&table.rows[*at])).collect();
            if unequal.len() * 20 <= total {
                for at in unequal {
                    differs[at] = true;
                }
            }
        }
    }
    differs
}

/// Returns whether a cell is `1/2` or `0/1`, as of pods that are not ready.
fn is_incomplete(cell: &str) -> bool {
    cell.split_once('/').is_some_and(|(ready, all)| {
        ready != all && matches!((ready.parse::<u32>(), all.parse::<u32>()), (Ok(ready), Ok(all)) if ready < all)
    })
}

fn is_measured(column: &PathStatistics) -> bool {
    column.is_numeric() && column.distinct() > 2 && !column.has_times() && column.weight() > 0.4
}

fn is_dated(column: &PathStatistics) -> bool {
    column.has_times() && column.is_numeric() && column.distinct() > 2
}

/// Returns whether all rows have the same value in a column.
fn is_constant(table: &TableBlock<'_>, at: usize, statistics: &ValueStatistics) -> bool {
    statistics
        .path(table.columns[at])
        .is_some_and(|column| column.distinct() == 1 && !column.has_shapes && column.present == table.rows.len())
}

/// Returns the number of rows and how often the values of the columns occur.
fn describe_columns(
    table: &TableBlock<'_>,
    statistics: &ValueStatistics,
    shown: &[usize],
    budget: OutputBudget,
) -> String {
    let mut lines = BudgetedText::new(budget.share(20));
    let mut summary = format!("{} rows", table.rows.len());
    if table.parts > 1 {
        let _ = write!(summary, " of {} tables", table.parts);
    }
    let constant: Vec<String> = (0..table.columns.len())
        .filter(|at| !shown.contains(at))
        .filter_map(|at| {
            let value = statistics.path(table.columns[at])?.values().first()?.0;
            Some(format!("{}={}", table.columns[at], clip_value(value, 60)))
        })
        .collect();
    if !constant.is_empty() {
        let _ = write!(summary, "; in all of them {}", constant.join(", "));
    }
    lines.push_line(&summary);
    let mut columns: Vec<&PathStatistics> = statistics.paths().iter().collect();
    columns.sort_by(|a, b| b.weight().total_cmp(&a.weight()));
    for column in columns.iter().take(MAX_TOLD_COLUMNS) {
        if column.is_categorical() && (2..=12).contains(&column.distinct()) {
            let values: Vec<String> =
                column.values().iter().map(|(value, count)| format!("{} ×{count}", clip_value(value, 60))).collect();
            lines.push_line(&format!("{}: {}", column.path, values.join(", ")));
        } else if let Some(smallest) = column.smallest.as_ref().filter(|_| is_measured(column) || is_dated(column)) {
            let largest: Vec<&str> = column.largest.iter().map(|extreme| &*extreme.text).collect();
            lines.push_line(&format!("{}: {} to {}", column.path, smallest.text, largest.join(", ")));
        }
    }
    lines.into_text()
}

/// Returns the column that names the rows.
fn name_column(table: &TableBlock<'_>, statistics: &ValueStatistics) -> usize {
    let named = table.columns.iter().position(|column| column.eq_ignore_ascii_case("name"));
    named.unwrap_or_else(|| {
        let distinct = |at: &usize| statistics.path(table.columns[*at]).map_or(0, PathStatistics::distinct);
        (0..table.columns.len().min(3)).max_by_key(distinct).unwrap_or(0)
    })
}

/// Returns the longest cells with which all rows fit; `None` if they do not fit even with short ones.
fn fitting_cell_bytes(table: &TableBlock<'_>, shown: &[usize], budget: OutputBudget) -> Option<usize> {
    CELL_BYTES.iter().copied().find(|max_cell| {
        let cells = |row: &TableRow<'_>| {
            shown.iter().map(|at| row.cells.get(*at).map_or(60, |cell| cell.len().min(*max_cell)) + 2).sum::<usize>()
        };
        let bytes: usize = table.rows.iter().map(cells).sum();
        // Rows are names and numbers, which have few bytes in a token.
        bytes * 10 <= budget.tokens.saturating_mul(24) && bytes <= budget.bytes
    })
}

/// Returns a row on one line. Cells that are unusual are complete.
fn print_row(
    table: &TableBlock<'_>,
    at: usize,
    shown: &[usize],
    max_cell: usize,
    statistics: &ValueStatistics,
) -> String {
    let row = &table.rows[at];
    if row.cells.is_empty() {
        return clip_value(row.text, MAX_ROW_BYTES).into_owned();
    }
    let mut printed = String::new();
    for (n, at) in shown.iter().enumerate() {
        printed.push_str(if n > 0 { "  " } else { "" });
        let cell = row.cells[*at];
        let is_complete = cell.len() <= max_cell || statistics.judge_fact(table.columns[*at], cell).is_some();
        let cell = clip_value(cell, if is_complete { CELL_BYTES[0] } else { max_cell });
        printed.push_str(if cell.is_empty() { "-" } else { &cell });
    }
    // The further lines of a cell with line breaks.
    if let Some((_, rest)) = row.text.split_once('\n') {
        printed.push_str("\\n");
        printed.push_str(&clip_value(rest, MAX_ROW_BYTES));
    }
    printed
}
