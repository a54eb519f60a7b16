//! `.env` files: `NAME=value` lines, comments, quotes, an optional `export`. Nothing is expanded: a `$` in a key stays a `$`.

use std::collections::BTreeMap;

/// Reads a `.env` file. Returns the variables, and a problem for each line that is not one; a problem does not contain the
/// text of its line, which may be a secret.
pub(crate) fn parse_dotenv(text: &str) -> (BTreeMap<String, String>, Vec<String>) {
    let mut variables = BTreeMap::new();
    let mut problems = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_start_matches('\u{feff}').trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").map_or(line, str::trim_start);
        let parsed = line.split_once('=').and_then(|(name, value)| {
            let name = name.trim_end();
            let value = is_variable_name(name).then(|| parse_value(value.trim_start())).flatten()?;
            Some((name.to_owned(), value))
        });
        match parsed {
            Some((name, value)) => {
                variables.insert(name, value);
            }
            None => problems.push(format!(
                ".env line {}: not a variable; allowed: NAME=value, NAME=\"value\", NAME='value', # comment",
                index + 1
            )),
        }
    }
    (variables, problems)
}

fn is_variable_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn parse_value(raw: &str) -> Option<String> {
    let mut chars = raw.chars();
    let Some(quote @ ('"' | '\'')) = chars.next() else {
        // Without quotes, a `#` begins a comment only after white space.
        let end = raw.match_indices('#').find(|(at, _)| *at == 0 || raw[..*at].ends_with([' ', '\t']));
        return Some(end.map_or(raw, |(at, _)| &raw[..at]).trim_end().to_owned());
    };
    let mut value = String::new();
    loop {
        match chars.next()? {
            c if c == quote => break,
            '\\' if quote == '"' => match chars.next()? {
                'n' => value.push('\n'),
                't' => value.push('\t'),
                c @ ('"' | '\\' | '$') => value.push(c),
                other => value.extend(['\\', other]),
            },
            c => value.push(c),
        }
    }
    let rest = chars.as_str().trim_start();
    (rest.is_empty() || rest.starts_with('#')).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_unquoted_and_not_expanded() {
        let text = "\u{feff}# head\n\nA=1\nexport B = two words # said\nC=\"a\\n\\\"b\\\" #no\" # yes\nD='$x \\n'\nE=\nF=a#b\nG=#c\n";
        let (vars, problems) = parse_dotenv(text);
        assert_eq!(problems, Vec::<String>::new());
        let got: Vec<_> = vars.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(
            got,
            [
                ("A", "1"),
                ("B", "two words"),
                ("C", "a\n\"b\" #no"),
                ("D", "$x \\n"),
                ("E", ""),
                ("F", "a#b"),
                ("G", "")
            ]
        );
    }

    #[test]
    fn malformed_line_is_named_and_not_shown() {
        let (vars, problems) = parse_dotenv("A=1\nsk-secret\n2B=x\nC=\"open\nD='x' y\n");
        assert_eq!(vars.len(), 1);
        assert_eq!(problems.len(), 4, "{problems:?}");
        assert!(problems[0].starts_with(".env line 2:") && !problems.concat().contains("secret"), "{problems:?}");
    }
}
