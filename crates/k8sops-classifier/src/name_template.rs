//! Templates and `jq` programs that print the names of objects and nothing of their content.
//!
//! What is not known to be harmless counts as content: the check errs on the side of a redacted name.

/// Fields of `metadata` that identify an object.
const NAME_FIELDS: &[&str] = &["name", "namespace", "creationTimestamp", "uid", "resourceVersion"];
/// Fields beside `metadata` that say what an object is.
const KIND_FIELDS: &[&str] = &["kind", "type", "apiVersion"];
/// Words of templates that print nothing by themselves.
const HARMLESS_WORDS: &[&str] = &["range", "end"];

/// Returns whether a value of `-o` prints only the names of objects: `jsonpath={.items[*].metadata.name}`.
pub(crate) fn output_prints_only_names(output: &str) -> bool {
    let Some((format, template)) = output.split_once('=') else { return false };
    match format {
        "jsonpath" | "go-template" => prints_only_names(template),
        "custom-columns" => template.split(',').all(|column| {
            column
                .split_once(':')
                .is_some_and(|(_, path)| path.starts_with('.') && !path.contains(['{', ' ']) && prints_only_names(path))
        }),
        _ => false,
    }
}

/// Returns whether a template of kubectl or a program of `jq` prints only the names of objects.
pub(crate) fn prints_only_names(template: &str) -> bool {
    if template.contains(['@', '$', '#', '`', '\'', '?', '=', ';']) || template.contains("..") {
        return false;
    }
    let chars: Vec<char> = template.chars().collect();
    let mut has_name = false;
    let mut at = 0;
    // In a string of `jq`, `\(` begins an expression, which ends with the parenthesis that closes it.
    let mut is_string = false;
    let mut open_expressions: Vec<usize> = Vec::new();
    let mut depth = 0;
    while let Some(char) = chars.get(at).copied() {
        at += 1;
        if is_string {
            match (char, chars.get(at)) {
                ('\\', Some('(')) => {
                    open_expressions.push(depth);
                    is_string = false;
                    at += 1;
                }
                ('\\', _) => at += 1,
                ('"', _) => is_string = false,
                _ => {}
            }
            continue;
        }
        match char {
            '"' => is_string = true,
            '(' => depth += 1,
            ')' if open_expressions.last() == Some(&depth) => {
                open_expressions.pop();
                is_string = true;
            }
            ')' => depth -= usize::from(depth > 0),
            '[' if matches!(chars.get(at), Some('"')) => return false,
            '.' => {
                let before: String = chars[..at - 1].iter().collect();
                let Some((path, end)) = read_path(&chars, at) else { return false };
                let rest: String = chars[end..].iter().collect();
                let is_iterated = before.trim_end().ends_with("range") || rest.trim_start().starts_with('|');
                match path.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                    ["items"] if is_iterated => {}
                    ["metadata", field] | ["items", "metadata", field] if NAME_FIELDS.contains(&field) => {
                        has_name = true;
                    }
                    [field] | ["items", field] if KIND_FIELDS.contains(&field) => {}
                    _ => return false,
                }
                at = end;
            }
            char if char.is_ascii_alphabetic() => {
                let start = at - 1;
                at += chars[at..].iter().take_while(|char| char.is_ascii_alphanumeric() || **char == '_').count();
                let word: String = chars[start..at].iter().collect();
                // The name of a field of a new object prints only itself.
                if !HARMLESS_WORDS.contains(&word.as_str()) && chars.get(at) != Some(&':') {
                    return false;
                }
            }
            '{' | '}' | '[' | ']' | '|' | ',' | '+' | ':' | '/' | '-' | '\\' => {}
            char if char.is_whitespace() || char.is_ascii_digit() => {}
            _ => return false,
        }
    }
    has_name && !is_string && open_expressions.is_empty()
}

/// Reads a path behind its first `.`: its fields, without the indexes of lists, and where it ends. `None` if it has an index
/// that is a name.
fn read_path(chars: &[char], start: usize) -> Option<(Vec<String>, usize)> {
    let mut fields = Vec::new();
    let mut at = start;
    loop {
        let length = chars[at..].iter().take_while(|char| char.is_ascii_alphanumeric() || **char == '_').count();
        if length > 0 {
            fields.push(chars[at..at + length].iter().collect());
        }
        at += length;
        while chars.get(at) == Some(&'[') {
            let index = chars[at + 1..].iter().take_while(|char| **char != ']').count();
            let is_number = chars[at + 1..at + 1 + index].iter().all(|char| char.is_ascii_digit() || *char == '*');
            if !is_number || chars.get(at + 1 + index) != Some(&']') {
                return None;
            }
            at += index + 2;
        }
        if chars.get(at) != Some(&'.') {
            return Some((fields, at));
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_content() {
        for template in [
            "{.items[*].metadata.name}",
            "{range .items[*]}{.metadata.namespace}{\"/\"}{.metadata.name}{\"\\n\"}{end}",
            "{{range .items}}{{.metadata.name}}{{\"\\n\"}}{{end}}",
            "{.metadata.name}",
            ".items[].metadata.name",
            ".items[] | .metadata.namespace + \"/\" + .metadata.name",
            ".items[] | \"\\(.metadata.namespace)/\\(.metadata.name)\"",
            "[.items[] | {name: .metadata.name, type: .type}]",
        ] {
            assert!(prints_only_names(template), "{template}");
        }
        for template in [
            "{.data}",
            "{.items[*].data.password}",
            "{.items}",
            "{.items[0]}",
            "{range .items[*]}{.metadata.name}{.data}{end}",
            "{['data']['password']}",
            "{[\"data\"]}{.metadata.name}",
            "{.items[*]['data']}{.metadata.name}",
            "{..password}{.metadata.name}",
            "{@}{.metadata.name}",
            "{{range $k, $v := .data}}{{$v}}{{end}}{{.metadata.name}}",
            "{{.}}{{.metadata.name}}",
            ".items[]",
            ".items[] | .",
            ".items[] | select(.metadata.name)",
            ".items[] | .metadata.name, .data",
            ".items[] | .metadata.name, to_entries",
            ".items[] | \"\\(.metadata.name) \\(.data)\"",
            ".items[] | .metadata",
            ".items[].metadata.annotations, .metadata.name",
            ".metadata.name, input",
            "{{.items | println}}{{.metadata.name}}",
            "{.metadata.name}{.items[*].metadata.annotations}",
        ] {
            assert!(!prints_only_names(template), "{template}");
        }
        assert!(output_prints_only_names("custom-columns=NS:.metadata.namespace,NAME:.metadata.name"));
        assert!(!output_prints_only_names("custom-columns=NAME:.metadata.name,V:.data.password"));
        assert!(!output_prints_only_names("custom-columns=NAME:.metadata.name,V:.data"));
        assert!(!output_prints_only_names("jsonpath-file=/x"));
    }
}
