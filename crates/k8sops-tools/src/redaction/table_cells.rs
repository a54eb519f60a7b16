//! Secrets in tables: a column whose heading sounds like a secret, and rows of a name and a value.

use std::ops::Range;

use super::{
    found_secret::{FoundSecret, SecretReach},
    secret_names::{SecretNameLevel, rate_secret_name},
    secret_values::{PairContext, is_secret_value, looks_random},
    text_lines::lines_from,
};

/// Most columns of a table that is read.
const MAX_COLUMNS: usize = 64;

/// How the cells of a line are separated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CellSeparator {
    /// Two blanks or more.
    Blanks,
    Tab,
    /// `|`, as in tables of SQL and Markdown.
    Bar,
    /// `│`, as in boxes of terminals.
    BoxLine,
    Comma,
}

/// A column with secrets.
struct SecretColumn<'a> {
    index: usize,
    /// Position of the heading in its line, by which the cells of aligned columns are found.
    offset: usize,
    name: &'a str,
    level: SecretNameLevel,
}

/// Adds the secrets in tables to `found`.
pub(super) fn find_table_secrets(text: &str, found: &mut Vec<FoundSecret>) {
    let mut heading: Option<(CellSeparator, Vec<SecretColumn<'_>>)> = None;
    let mut in_vault_data = false;
    for line in lines_from(text, 0) {
        let content = &text[line.clone()];
        if content.trim().is_empty() {
            heading = None;
            in_vault_data = false;
            continue;
        }
        // Vault prints the data of a secret in a table below this title.
        in_vault_data |= content.contains("= Data =");
        let Some(separator) = separator_of(content) else { continue };
        let cells = split_cells(text, line.clone(), separator);
        if let Some((of_heading, columns)) = &heading
            && *of_heading == separator
        {
            for column in columns {
                let by_place = cells.iter().find(|cell| cell.start - line.start == column.offset);
                let by_index = cells.get(column.index);
                let cell = if separator == CellSeparator::Blanks { by_place.or(by_index) } else { by_index };
                if let Some(cell) = cell {
                    push_cell(text, cell.clone(), column.name, column.level, found);
                }
            }
        }
        let columns = secret_columns(text, &line, &cells, separator);
        if !columns.is_empty() && is_heading(text, &cells) {
            heading = Some((separator, columns));
        } else if let [name, value] | [name, value, _] = &cells[..]
            && !text[name.clone()].contains([':', '=', '{', '(', '$'])
            && (separator != CellSeparator::Comma || (cells.len() == 2 && looks_random(&text[value.clone()])))
        {
            let name = &text[name.clone()];
            // The parameters of AWS have their type between name and value.
            let value = match &cells[..] {
                [_, kind, value] if text[kind.clone()].ends_with("String") => value,
                _ => value,
            };
            let is_heading = matches!(name, "Key" | "---");
            let level = if in_vault_data && !is_heading { SecretNameLevel::Certain } else { rate_secret_name(name) };
            push_cell(text, value.clone(), name, level, found);
        }
    }
}

fn separator_of(line: &str) -> Option<CellSeparator> {
    if line.contains('\t') {
        Some(CellSeparator::Tab)
    } else if line.contains('\u{2502}') {
        Some(CellSeparator::BoxLine)
    } else if line.contains(" | ") || line.starts_with('|') {
        Some(CellSeparator::Bar)
    } else if line.trim_start().contains("  ") {
        Some(CellSeparator::Blanks)
    } else {
        (line.contains(',') && !line.contains(['{', '"', ':', ';', '('])).then_some(CellSeparator::Comma)
    }
}

/// Returns the cells of a line, without blanks around them.
fn split_cells(text: &str, line: Range<usize>, separator: CellSeparator) -> Vec<Range<usize>> {
    let pattern = match separator {
        CellSeparator::Blanks => "  ",
        CellSeparator::Tab => "\t",
        CellSeparator::Bar => "|",
        CellSeparator::BoxLine => "\u{2502}",
        CellSeparator::Comma => ",",
    };
    let mut at = line.start;
    let cells = text[line].split(pattern).map(|part| {
        let start = at + (part.len() - part.trim_start().len());
        at += part.len() + pattern.len();
        start..start + part.trim().len()
    });
    cells.filter(|cell| !cell.is_empty() || separator == CellSeparator::Comma).take(MAX_COLUMNS).collect()
}

/// Returns the columns whose cell sounds like a secret.
fn secret_columns<'a>(
    text: &'a str,
    line: &Range<usize>,
    cells: &[Range<usize>],
    separator: CellSeparator,
) -> Vec<SecretColumn<'a>> {
    // A file with commas has no other sign that it is a table.
    let least = if separator == CellSeparator::Comma { 2 } else { 1 };
    if cells.len() < least {
        return Vec::new();
    }
    let columns = cells.iter().enumerate().filter_map(|(index, cell)| {
        let name = &text[cell.clone()];
        let level = rate_secret_name(name);
        (level > SecretNameLevel::Possible && !name.contains(' ')).then_some(SecretColumn {
            index,
            offset: cell.start - line.start,
            name,
            level,
        })
    });
    columns.collect()
}

/// Returns whether all cells of a line are words, as headings are.
fn is_heading(text: &str, cells: &[Range<usize>]) -> bool {
    let is_heading_cell = |cell: &Range<usize>| {
        let cell = &text[cell.clone()];
        !cell.is_empty()
            && cell.len() <= 40
            && cell.bytes().all(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'-' | b' ' | b'(' | b')'))
            && (cell.bytes().any(|byte| byte.is_ascii_uppercase()) || cells.len() >= 2)
    };
    let has_case =
        |accepts: fn(&u8) -> bool| cells.iter().all(|cell| !text[cell.clone()].bytes().any(|byte| accepts(&byte)));
    // Headings are written alike: all in capitals or none, or each with one.
    let is_alike = has_case(u8::is_ascii_lowercase)
        || has_case(u8::is_ascii_uppercase)
        || cells.iter().all(|cell| text[cell.clone()].starts_with(|char: char| char.is_ascii_uppercase()));
    cells.iter().all(is_heading_cell) && is_alike
}

fn push_cell(text: &str, cell: Range<usize>, name: &str, level: SecretNameLevel, found: &mut Vec<FoundSecret>) {
    let value = &text[cell.clone()];
    if !cell.is_empty() && is_secret_value(level, value, PairContext::Assignment) && !value.contains(' ') {
        let reach = if looks_random(value) { SecretReach::Session } else { SecretReach::InPlace };
        found.push(FoundSecret::plain(cell, name, reach));
    }
}
