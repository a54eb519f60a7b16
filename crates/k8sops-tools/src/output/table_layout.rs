//! Recognizes tables and reads their cells: columns of kubectl and its relatives, tabs, and `|`.

use super::alarm_words::{AlarmLevel, alarm_level};

/// Fewest rows of a table.
pub(super) const MIN_ROWS: usize = 4;
/// Share of the rows in percent that must have the cells of the headings.
const MIN_FITTING_PERCENT: usize = 70;

/// Rows after which a table that does not fit its headings is given up.
const SAMPLED_ROWS: usize = 40;
/// Most lines of a text that are tried as headings.
const MAX_ATTEMPTS: usize = 200;

/// A table in a text.
#[derive(Debug)]
pub(super) struct TableBlock<'a> {
    /// The line of the headings.
    pub(super) heading: &'a str,
    pub(super) columns: Vec<&'a str>,
    pub(super) rows: Vec<TableRow<'a>>,
    /// Tables of the output whose rows these are.
    pub(super) parts: usize,
}

/// A row with its cells.
#[derive(Debug)]
pub(super) struct TableRow<'a> {
    /// The lines of the row: a cell may have line breaks.
    pub(super) text: &'a str,
    /// As many cells as there are columns; empty if the row could not be read.
    pub(super) cells: Vec<&'a str>,
}

/// A part of a text with tables.
#[derive(Debug)]
pub(super) enum TextBlock<'a> {
    Table(TableBlock<'a>),
    Lines(&'a str),
}

/// How the cells of a line are separated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CellSeparator {
    Pipe,
    Tab,
    Spaces,
    Comma,
}

/// Splits a text into tables and what is between them; `None` if it has no table, or if the tables are less than half of it.
pub(super) fn find_tables(text: &str) -> Option<Vec<TextBlock<'_>>> {
    let mut blocks: Vec<TextBlock<'_>> = Vec::new();
    let mut table_bytes = 0;
    let mut at = 0;
    let mut plain_start = 0;
    let mut attempts = 0;
    while at < text.len() {
        let end = line_end(text, at);
        let line = &text[at..end];
        let table = heading_separator(line.trim_end(), &text[end..]).filter(|_| attempts < MAX_ATTEMPTS).and_then(
            |separator| {
                attempts += 1;
                read_table(text, at, end, line, separator)
            },
        );
        if let Some((table, table_end)) = table {
            if plain_start < at {
                push_plain(&mut blocks, &text[plain_start..at]);
            }
            table_bytes += table_end - at;
            blocks.push(TextBlock::Table(table));
            at = table_end;
            plain_start = at;
        } else {
            at = end;
        }
    }
    if plain_start < text.len() {
        push_plain(&mut blocks, &text[plain_start..]);
    }
    (table_bytes * 2 > text.len()).then_some(blocks)
}

fn push_plain<'a>(blocks: &mut Vec<TextBlock<'a>>, text: &'a str) {
    if !text.trim().is_empty() {
        blocks.push(TextBlock::Lines(text.trim_matches('\n')));
    }
}

fn line_end(text: &str, at: usize) -> usize {
    text[at..].find('\n').map_or(text.len(), |length| at + length + 1)
}

/// Reads the table whose headings are a line; `None` if the lines below are no rows of it.
fn read_table<'a>(
    text: &'a str,
    at: usize,
    end: usize,
    line: &'a str,
    separator: CellSeparator,
) -> Option<(TableBlock<'a>, usize)> {
    let heading = line.trim_end();
    let columns = heading_columns(heading, separator);
    let starts: Vec<usize> =
        columns.iter().map(|column| column.as_ptr() as usize - heading.as_ptr() as usize).collect();
    let mut rows: Vec<TableRow<'_>> = Vec::new();
    let mut fitting = 0;
    let mut next = end;
    // Long headings have a second line.
    if separator == CellSeparator::Spaces {
        let second_end = line_end(text, next);
        if is_heading_continued(text[next..second_end].trim_end(), &starts) {
            next = second_end;
        }
    }
    while next < text.len() {
        let row_end = line_end(text, next);
        let line = text[next..row_end].trim_end();
        if line.is_empty() {
            break;
        }
        if is_rule(line) {
            next = row_end;
            continue;
        }
        // The headings of the next table of `kubectl get all`, without a blank line before them.
        if separator == CellSeparator::Spaces && is_capital_heading(line) && line.starts_with(columns[0]) {
            break;
        }
        let cells = row_cells(line, separator, &starts, columns.len());
        // What sounds wrong may be an error below the table, and is a row of its own then.
        let is_continued = cells.len() < 2 && columns.len() > 2 && alarm_level(line) != AlarmLevel::Fault;
        if let Some(row) = rows.last_mut().filter(|_| is_continued) {
            let start = row.text.as_ptr() as usize - text.as_ptr() as usize;
            row.text = text[start..row_end].trim_end();
        } else {
            let fits = cells.len() == columns.len();
            fitting += usize::from(fits);
            rows.push(TableRow { text: line, cells: if fits { cells } else { Vec::new() } });
        }
        next = row_end;
        if rows.len() == SAMPLED_ROWS && fitting * 100 < rows.len() * MIN_FITTING_PERCENT {
            return None;
        }
    }
    // Words in capitals are headings also of few rows.
    let min_rows = if columns.len() > 2 && is_capital_heading(heading) { 1 } else { MIN_ROWS };
    let is_table = rows.len() >= min_rows && fitting * 100 >= rows.len() * MIN_FITTING_PERCENT;
    is_table.then(|| (TableBlock { heading, columns, rows, parts: 1 }, next.max(at + 1)))
}

/// Returns how the cells of a table are separated, if a line can be its headings.
fn heading_separator(heading: &str, after: &str) -> Option<CellSeparator> {
    if heading.trim().is_empty() || heading.len() > 2_000 || is_rule(heading) {
        return None;
    }
    if heading.matches('|').count() >= 2 || (heading.contains(" | ") && after.lines().next().is_some_and(is_rule)) {
        return Some(CellSeparator::Pipe);
    }
    if heading.matches('\t').count() >= 2 {
        return Some(CellSeparator::Tab);
    }
    let is_underlined = after.lines().next().is_some_and(is_rule);
    let looks_like_heading = || {
        let columns = heading_columns(heading, CellSeparator::Spaces);
        columns.len() >= 3
            && !heading.bytes().any(|byte| byte.is_ascii_digit() || matches!(byte, b'=' | b'"' | b'{'))
            && columns.iter().all(|column| {
                column.len() <= 30 && column.starts_with(|char: char| char.is_alphabetic() || char == '%')
            })
    };
    if is_capital_heading(heading) || is_underlined || looks_like_heading() || is_mostly_capital(heading) {
        return (heading_columns(heading, CellSeparator::Spaces).len() >= 2).then_some(CellSeparator::Spaces);
    }
    let commas = heading.matches(',').count();
    let is_csv = commas >= 2
        && !heading.contains(": ")
        && !heading.contains(' ')
        && after.lines().take(MIN_ROWS).all(|line| line.matches(',').count() >= commas);
    is_csv.then_some(CellSeparator::Comma)
}

/// Returns whether a line consists of words in capitals.
fn is_capital_heading(line: &str) -> bool {
    let mut words = 0;
    for word in line.split_whitespace() {
        let has_letter = word.bytes().any(|byte| byte.is_ascii_uppercase());
        let is_heading = word.bytes().all(|byte| {
            byte.is_ascii_uppercase()
                || byte.is_ascii_digit()
                || matches!(byte, b'-' | b'(' | b')' | b'%' | b'/' | b'_' | b'+' | b'#')
        }) || matches!(word, "CPU(cores)" | "MEMORY(bytes)");
        if !is_heading || !(has_letter || word.starts_with('%')) {
            return false;
        }
        words += 1;
    }
    words >= 2
}

/// Returns whether most columns of a line begin with a word in capitals: `POLICY (ingress)   IDENTITY   IPv6`.
fn is_mostly_capital(line: &str) -> bool {
    let columns = split_by_spaces(line, 2);
    let is_capital = |column: &&&str| {
        let word = column.split_whitespace().next().unwrap_or_default();
        word.len() >= 2 && !word.bytes().any(|byte| byte.is_ascii_lowercase()) && word.starts_with(char::is_alphabetic)
    };
    columns.len() >= 4
        && columns.iter().filter(is_capital).count() * 4 >= columns.len() * 3
        && columns.iter().all(|column| column.len() <= 40 && column.starts_with(char::is_alphabetic))
}

/// Returns whether a line continues headings: words in capitals below some of them, and nothing below the first one.
fn is_heading_continued(line: &str, starts: &[usize]) -> bool {
    let words = split_by_spaces(line, 2);
    let is_below = |word: &&str| {
        let at = word.as_ptr() as usize - line.as_ptr() as usize;
        starts.contains(&at)
            && word.bytes().all(|byte| byte.is_ascii_uppercase() || matches!(byte, b' ' | b'-' | b'(' | b')'))
    };
    line.starts_with(' ') && !words.is_empty() && words.iter().all(is_below)
}

/// Returns whether a line only separates, as below headings.
fn is_rule(line: &str) -> bool {
    line.contains("--") && line.chars().all(|char| matches!(char, '-' | '+' | '|' | ' ' | '\t' | ':' | '='))
}

fn heading_columns(heading: &str, separator: CellSeparator) -> Vec<&str> {
    match separator {
        CellSeparator::Pipe => split_pipes(heading),
        CellSeparator::Tab => heading.split('\t').map(str::trim).collect(),
        CellSeparator::Comma => heading.split(',').map(str::trim).collect(),
        CellSeparator::Spaces => {
            let columns = split_by_spaces(heading, 2);
            // Some tools separate headings by one space.
            if columns.len() < 3 && is_capital_heading(heading) { split_by_spaces(heading, 1) } else { columns }
        }
    }
}

fn row_cells<'a>(line: &'a str, separator: CellSeparator, starts: &[usize], columns: usize) -> Vec<&'a str> {
    match separator {
        CellSeparator::Pipe => split_pipes(line),
        CellSeparator::Tab => line.split('\t').map(str::trim).collect(),
        CellSeparator::Comma => line.split(',').map(str::trim).collect(),
        CellSeparator::Spaces => {
            // A column begins below its heading, unless a cell before it is too long.
            let is_aligned = starts.iter().all(|start| {
                line.len() <= *start
                    || *start == 0
                    || (line.is_char_boundary(*start) && line.as_bytes()[start - 1] == b' ')
            });
            let spaced = split_by_spaces(line, 2);
            if spaced.len() == columns || !is_aligned {
                let words = split_by_spaces(line, 1);
                return if spaced.len() != columns && words.len() == columns { words } else { spaced };
            }
            let cell = |n: usize| {
                let from = starts[n].min(line.len());
                let to = starts.get(n + 1).map_or(line.len(), |end| (*end).min(line.len()));
                line.get(from..to).unwrap_or_default().trim()
            };
            let cells: Vec<&str> = (0..columns).map(cell).collect();
            // Text that only happens to be below headings.
            if cells.iter().filter(|cell| !cell.is_empty()).count() < 2 { spaced } else { cells }
        }
    }
}

fn split_pipes(line: &str) -> Vec<&str> {
    line.trim().trim_start_matches('|').trim_end_matches('|').split('|').map(str::trim).collect()
}

/// Splits a line where at least `spaces` spaces are.
fn split_by_spaces(line: &str, spaces: usize) -> Vec<&str> {
    let mut cells = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() {
        let mut end = rest.len();
        let mut run = 0;
        for (at, byte) in rest.bytes().enumerate() {
            if byte == b' ' || byte == b'\t' {
                run += 1;
                if run >= spaces {
                    end = at + 1 - run;
                    break;
                }
            } else {
                run = 0;
            }
        }
        cells.push(&rest[..end]);
        rest = rest[end..].trim_start();
    }
    cells
}
