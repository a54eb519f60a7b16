//! What is known about the text that a filter prints.

use crate::{
    printed_text::{ObjectFields, PrintedText, kind_of_path},
    shell_variables::kind_of_text,
    shell_word::{ShellWord, TextKind},
};

/// Returns what a filter prints, from what it reads. The filter was found to be harmless.
pub(crate) fn text_of_filter(name: &str, arguments: &[ShellWord], input: PrintedText) -> PrintedText {
    let words: Vec<&str> = arguments.iter().map(|word| word.text.as_str()).collect();
    let are_flags_of = |letters: &str| {
        let mut flags = words.iter().filter(|word| word.starts_with('-'));
        flags.all(|flag| flag.len() > 1 && flag[1..].chars().all(|char| letters.contains(char)))
    };
    match name {
        "true" | ":" | "false" | "sleep" | "set" | "wait" | "test" | "[" | "read" | "exit" | "return" | "break"
        | "continue" | "unset" | "command" => PrintedText::Nothing,
        "head" | "sort" | "tac" | "uniq" | "cat" if are_flags_of("nru0123456789Vhfbk") => match (name, words.first()) {
            ("uniq" | "cat", Some(_)) => PrintedText::UNKNOWN,
            ("cat", None) => input,
            _ => input.some_lines(),
        },
        "tail" if are_flags_of("n0123456789") => input.some_lines(),
        "grep" | "egrep" | "fgrep" if are_flags_of("viEFGPwxqsmehea0123456789") => input.some_lines(),
        "wc" => PrintedText::Words(TextKind::Number),
        "seq" if are_flags_of("w0123456789") => PrintedText::Words(TextKind::Number),
        "grep" | "egrep" | "fgrep" if are_flags_of("vciEFGPwxe") => PrintedText::Words(TextKind::Number),
        "date" => match words.iter().find(|word| word.starts_with('+')) {
            Some(&("+%s" | "+%s%N")) => PrintedText::Words(TextKind::Number),
            Some(format)
                if ["+%Y", "+%F", "+%H", "+%T", "+%d", "+%m"].iter().any(|start| format.starts_with(start)) =>
            {
                let has_space = format.contains("%n") || format.contains("%t");
                let is_plain = !has_space
                    && format[1..].chars().all(|char| char.is_ascii_alphanumeric() || "%:-._/".contains(char));
                PrintedText::Words(if is_plain { TextKind::Name } else { TextKind::Text })
            }
            _ => PrintedText::UNKNOWN,
        },
        "tr" => match words.as_slice() {
            ["-s", " " | "[:space:]"] => input.some_lines(),
            ["\\n" | " " | ",", " " | "\\n"] | ["-s", " " | "[[:space:]]", "\\n"] | ["-d", "\\n" | "\\r"] => {
                PrintedText::Words(input.kind().max(TextKind::Name))
            }
            _ => PrintedText::UNKNOWN,
        },
        "cut" => text_of_cut(&words, input),
        "sed" => text_of_sed(&words, input),
        "awk" | "gawk" => text_of_awk(&words, input),
        "jq" => text_of_jq(&words, input),
        "basename" if arguments.len() == 1 => {
            let kind = arguments.iter().map(|word| word.unknown.map_or(TextKind::Text, |unknown| unknown.kind)).max();
            PrintedText::Words(kind.filter(|kind| *kind <= TextKind::Name).map_or(TextKind::Text, |_| TextKind::Name))
        }
        "echo" | "printf" => text_of_echo(name, arguments),
        _ => PrintedText::UNKNOWN,
    }
}

fn text_of_echo(name: &str, arguments: &[ShellWord]) -> PrintedText {
    let operands = match (name, arguments) {
        ("echo", all) => all,
        (_, [format, others @ ..]) if matches!(format.text.as_str(), "%s\\n" | "%s" | "%s ") => others,
        _ => return PrintedText::UNKNOWN,
    };
    let kind_of_word = |word: &ShellWord| match word.unknown {
        None => kind_of_text(&word.text),
        Some(unknown) if word.text.chars().count() == 1 => unknown.kind,
        Some(_) => TextKind::Text,
    };
    match operands.iter().map(kind_of_word).max().unwrap_or(TextKind::Number) {
        // Of object names, there is one in a line.
        TextKind::ObjectName => PrintedText::Words(TextKind::Name),
        kind => PrintedText::Words(kind),
    }
}

fn text_of_cut(words: &[&str], input: PrintedText) -> PrintedText {
    let mut delimiter = None;
    let mut field = None;
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let (flag, inline) = word.split_at_checked(2).unwrap_or((word, ""));
        let value = if inline.is_empty() { rest.next().copied().unwrap_or_default() } else { inline };
        match flag {
            "-d" => delimiter = Some(value),
            "-f" => field = value.parse::<usize>().ok(),
            _ => return PrintedText::UNKNOWN,
        }
    }
    match (delimiter, field, input) {
        (Some(" "), Some(1), _) => PrintedText::Words(input.kind_of_column(1)),
        (Some("/"), Some(1 | 2), _) => input.single_names().unwrap_or(PrintedText::UNKNOWN),
        _ => PrintedText::UNKNOWN,
    }
}

/// `sed` that only omits lines, or that removes what stands before a `/`.
fn text_of_sed(words: &[&str], input: PrintedText) -> PrintedText {
    let script = match words {
        ["-n" | "-E" | "-r", script] | [script] => *script,
        _ => return PrintedText::UNKNOWN,
    };
    let is_selection = script.bytes().all(|byte| byte.is_ascii_digit() || b"$,pdq".contains(&byte));
    let pattern = ["s|", "s#", "s,", "s:", "s@"].iter().find_map(|start| {
        let rest = script.strip_prefix(start)?;
        let delimiter = start.chars().nth(1)?;
        rest.strip_suffix('g').unwrap_or(rest).strip_suffix(delimiter)?.strip_suffix(delimiter)
    });
    let pattern = pattern.or_else(|| script.strip_prefix("s/")?.strip_suffix("//"));
    let removes_directory = pattern.is_some_and(|pattern| {
        let start = pattern.trim_start_matches('^');
        let is_plain = |char: char| char.is_ascii_lowercase() || matches!(char, '.' | '*' | '/' | '\\');
        start.ends_with('/') && start.chars().all(is_plain)
    });
    match (is_selection, removes_directory, input) {
        (true, ..) => input.some_lines(),
        (_, true, _) => input.single_names().unwrap_or(PrintedText::UNKNOWN),
        _ => PrintedText::UNKNOWN,
    }
}

/// `awk` that prints whole columns.
fn text_of_awk(words: &[&str], input: PrintedText) -> PrintedText {
    let (program, splits_at_slash) = match words {
        [program] => (*program, false),
        ["-F/", program] | ["-F", "/", program] => (*program, true),
        _ => return PrintedText::UNKNOWN,
    };
    let kind_of_column = |column: usize| match (splits_at_slash, input) {
        (false, _) if column > 0 => input.kind_of_column(column),
        (false, _) => input.kind(),
        (true, input) if input.kind() <= TextKind::Name => TextKind::Name,
        (true, _) => TextKind::Text,
    };
    let columns = if splits_at_slash { 0 } else { input.columns() };
    match find_printed_columns(program, columns, kind_of_column) {
        Some((kind, names)) if kind <= TextKind::Name && names > 0 => {
            PrintedText::NameTable { names, others: TextKind::Name }
        }
        Some((kind, _)) => PrintedText::Words(kind),
        None => PrintedText::UNKNOWN,
    }
}

/// Returns the kind of what a program prints, and how many words each of its lines has at least, if its input has that many
/// columns.
fn find_printed_columns(
    program: &str,
    columns: usize,
    kind_of_column: impl Fn(usize) -> TextKind,
) -> Option<(TextKind, usize)> {
    let (condition, action) = program.trim().split_once('{')?;
    let action = action.strip_suffix('}')?;
    // A rule without an action prints whole lines.
    if condition.contains([';', '\n', '}']) {
        return None;
    }
    let mut comparisons = condition.to_owned();
    for operator in ["==", "!=", ">=", "<="] {
        comparisons = comparisons.replace(operator, " ");
    }
    if comparisons.contains(['=', '{', '}']) || comparisons.contains("sub") || comparisons.contains("--") {
        return None;
    }
    let mut kind = TextKind::Number;
    // At the start and at the end there may be no line.
    let mut least_words = if condition.contains("BEGIN") || condition.contains("END") { 0 } else { usize::MAX };
    for statement in action.split(';').map(str::trim).filter(|statement| !statement.is_empty()) {
        if matches!(statement, "exit" | "next") {
            continue;
        }
        let mut rest = statement.strip_prefix("print")?.trim_start();
        let mut is_first = true;
        let mut words = 0;
        let mut is_certain = true;
        while !rest.is_empty() {
            if let Some(column) = rest.strip_prefix('$') {
                let digits = column.bytes().take_while(u8::is_ascii_digit).count();
                let number = column.get(..digits)?.parse().ok()?;
                kind = kind.max(kind_of_column(number));
                is_certain &= (1..=columns).contains(&number);
                words += usize::from(is_certain);
                rest = column.get(digits..)?;
            } else if let Some(text) = rest.strip_prefix('"').filter(|_| !is_first) {
                let (separator, behind) = text.split_once('"')?;
                if !matches!(separator, " " | "/" | "\\t" | ":" | "\\n" | "  ") {
                    return None;
                }
                is_certain &= separator == " ";
                rest = behind;
            } else {
                rest = rest.strip_prefix(',').filter(|_| !is_first)?;
            }
            is_first = false;
            rest = rest.trim_start();
        }
        if is_first {
            kind = kind.max(kind_of_column(0));
        }
        least_words = least_words.min(if is_certain { words } else { 0 });
    }
    Some((kind, if least_words == usize::MAX { 0 } else { least_words }))
}

/// `jq` that prints names or numbers of objects.
fn text_of_jq(words: &[&str], input: PrintedText) -> PrintedText {
    let mut operands = words.iter().filter(|word| !matches!(**word, "-r" | "-c" | "-e" | "--raw-output"));
    let (Some(program), None) = (operands.next(), operands.next()) else { return PrintedText::UNKNOWN };
    let is_raw = words.iter().any(|word| matches!(*word, "-r" | "--raw-output"));
    let stages = split_stages(program);
    let last = stages.last().copied().unwrap_or_default();
    if last == "length" {
        return PrintedText::Words(TextKind::Number);
    }
    if input == PrintedText::ReleaseJson {
        return PrintedText::Words(kind_of_release_field(program, is_raw).unwrap_or(TextKind::Text));
    }
    let PrintedText::ObjectJson(fields) = input else { return PrintedText::UNKNOWN };
    let (path, selections) = match stages.as_slice() {
        [path] => (*path, &[] as &[&str]),
        [".items[]", selections @ .., path] => (*path, selections),
        [first, selections @ ..] if first.starts_with(".items[].") => (*first, selections),
        _ => return PrintedText::UNKNOWN,
    };
    let are_selections = selections.iter().all(|stage| is_selection(stage));
    let found = match path.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        None => kind_of_path(path, fields).map(|kind| (kind, 1)),
        Some(text) => kind_of_interpolation(text, fields),
    };
    match found {
        Some((TextKind::Number, 1)) if are_selections => PrintedText::Words(TextKind::Number),
        // The value of a label may be empty.
        Some((kind, _)) if are_selections && is_raw && path.contains("labels") => {
            PrintedText::Words(kind.max(TextKind::Name))
        }
        Some((kind, names)) if are_selections && is_raw => {
            PrintedText::NameTable { names, others: kind.max(TextKind::Name) }
        }
        _ => PrintedText::UNKNOWN,
    }
}

/// Returns the kind of a field of a release: `.[-1].revision`.
fn kind_of_release_field(program: &str, is_raw: bool) -> Option<TextKind> {
    let (index, field) = program.strip_prefix(".[")?.split_once("].")?;
    let is_index = index.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    match field {
        "revision" if is_index => Some(TextKind::Number),
        "name" | "namespace" if is_index && is_raw => Some(TextKind::Name),
        _ => None,
    }
}

/// Returns whether a stage is a `select(…)` and nothing else.
fn is_selection(stage: &str) -> bool {
    let Some(condition) = stage.strip_prefix("select(").and_then(|rest| rest.strip_suffix(')')) else { return false };
    let mut depth = 0_usize;
    let mut is_string = false;
    !condition.contains('\\')
        && condition.chars().all(|char| {
            is_string ^= char == '"';
            match char {
                '(' if !is_string => depth += 1,
                ')' if !is_string && depth == 0 => return false,
                ')' if !is_string => depth -= 1,
                _ => {}
            }
            true
        })
        && depth == 0
        && !is_string
}

/// Splits a program of `jq` at its pipes outside of strings and parentheses.
fn split_stages(program: &str) -> Vec<&str> {
    let mut stages = Vec::new();
    let mut depth = 0_usize;
    let mut is_string = false;
    let mut start = 0;
    for (at, char) in program.char_indices() {
        match char {
            '"' => is_string = !is_string,
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            '|' if depth == 0 && !is_string => {
                stages.push(program.get(start..at).unwrap_or_default().trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    stages.push(program.get(start..).unwrap_or_default().trim());
    stages
}

/// Returns the kind of the words of a string of `jq`, and their number: `\(.metadata.namespace)/\(.metadata.name)`.
fn kind_of_interpolation(text: &str, fields: ObjectFields) -> Option<(TextKind, usize)> {
    let mut rest = text;
    let mut kind = TextKind::Number;
    let mut is_first = true;
    let mut words = 1;
    while !rest.is_empty() {
        if let Some(expression) = rest.strip_prefix("\\(") {
            let (path, behind) = expression.split_once(')')?;
            kind = kind.max(kind_of_path(path, fields)?);
            rest = behind;
        } else {
            let separator = [" ", "/", "\\t", ":"].into_iter().find(|separator| rest.starts_with(separator))?;
            rest = rest.get(separator.len()..).filter(|_| !is_first)?;
            words += usize::from(matches!(separator, " " | "\\t"));
        }
        is_first = false;
    }
    Some((kind, words))
}
