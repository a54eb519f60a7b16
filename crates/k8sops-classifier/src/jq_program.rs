//! Whether a program of jq or yq only works on its input: they read files, modules and the environment only by a few names.

use std::{iter::Peekable, str::Chars};

/// Names that read something else than the input.
const FORBIDDEN_NAMES: &[&str] = &[
    "env",
    "envsubst",
    "strenv",
    "ENV",
    "import",
    "include",
    "input_filename",
    "load",
    "load_str",
    "load_xml",
    "load_props",
    "load_base64",
    "system",
    "eval",
    "modulemeta",
    "get_search_list",
    "filename",
];

/// Files in a home directory that a yq without an input would open by their name, which is also a path of the input.
const DOT_FILES: &[&str] =
    &[".env", ".netrc", ".bashrc", ".bash_history", ".profile", ".npmrc", ".pypirc", ".gitconfig", ".vault-token"];

/// Programs of one word that are no likely name of a file.
const PLAIN_WORDS: &[&str] =
    &["keys", "length", "sort", "unique", "to_entries", "reverse", "type", "tag", "first", "last"];

/// Whose dialect a program is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JqDialect {
    Jq,
    /// Either of the two programs of that name.
    Yq,
}

/// Returns whether the program reads no file, no module and no environment variable.
pub(crate) fn is_harmless_jq_program(program: &str, dialect: JqDialect) -> bool {
    let is_file_name = dialect == JqDialect::Yq && may_be_file_name(program);
    !is_file_name && JqReader { chars: program.chars().peekable(), dialect }.read_code(CodeEnd::Program).is_some()
}

/// Returns whether yq may take the program for the name of a file.
fn may_be_file_name(program: &str) -> bool {
    let is_path_char = |char: char| char.is_ascii_alphanumeric() || matches!(char, '.' | '_' | '/' | '-' | '~');
    let is_path = program.contains('/') || program.starts_with(|char: char| char.is_ascii_alphanumeric());
    (is_path && program.chars().all(is_path_char) && !PLAIN_WORDS.contains(&program)) || DOT_FILES.contains(&program)
}

/// Where a piece of code ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CodeEnd {
    Program,
    /// At the `)` of an interpolation in a string.
    Interpolation,
}

struct JqReader<'a> {
    chars: Peekable<Chars<'a>>,
    dialect: JqDialect,
}

impl JqReader<'_> {
    /// Reads code up to its end; `None` as soon as something is not certain to be harmless.
    fn read_code(&mut self, end: CodeEnd) -> Option<()> {
        let mut parens = 0_usize;
        let mut before_previous = ' ';
        let mut previous = ' ';
        loop {
            let Some(char) = self.chars.next() else { return (end == CodeEnd::Program).then_some(()) };
            match char {
                '"' => self.read_string()?,
                '(' => parens += 1,
                ')' if parens == 0 => return (end == CodeEnd::Interpolation).then_some(()),
                ')' => parens -= 1,
                // Where a comment ends depends on the version. The others are no part of the language.
                '#' | '\'' | '\\' | '`' => return None,
                _ if char.is_ascii_alphanumeric() || char == '_' => {
                    let mut name = String::from(char);
                    while let Some(next) = self.chars.next_if(|next| next.is_ascii_alphanumeric() || *next == '_') {
                        name.push(next);
                    }
                    let is_forbidden =
                        FORBIDDEN_NAMES.contains(&name.as_str()) || (name.starts_with("__") && name != "__loc__");
                    // Behind `..` and behind the dot of a number, a name is not that of a field.
                    let is_field = previous == '.' && before_previous != '.' && !before_previous.is_ascii_digit();
                    if is_forbidden && !is_field && !self.is_before_colon() {
                        return None;
                    }
                }
                _ => {}
            }
            before_previous = previous;
            previous = char;
        }
    }

    /// Returns whether a `:` follows, so that the name is the key of an object. `::` follows the name of a module.
    fn is_before_colon(&self) -> bool {
        let mut rest = self.chars.clone().skip_while(|char| matches!(char, ' ' | '\t' | '\n'));
        rest.next() == Some(':') && rest.next() != Some(':') && self.dialect == JqDialect::Jq
    }

    fn read_string(&mut self) -> Option<()> {
        loop {
            match self.chars.next()? {
                '"' => return Some(()),
                '\\' => match (self.chars.next()?, self.dialect) {
                    ('(', JqDialect::Jq) => self.read_code(CodeEnd::Interpolation)?,
                    ('n' | 't', _) | (_, JqDialect::Jq) => {}
                    // The versions of yq find the end of such a string at different places.
                    (_, JqDialect::Yq) => return None,
                },
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{JqDialect, is_harmless_jq_program};

    #[test]
    fn programs_on_the_input_are_harmless() {
        for program in [
            ".",
            ".items[] | select(.metadata.name==$n) | .status.phase",
            "{env: .spec.env, load: .x}",
            ".spec.containers[].env",
            r#".items[] | "\(.metadata.name) \(.status.phase)""#,
            r#".["env"] | "import this""#,
            "map({name, env : .env})",
            r#"[.[] | {a: "\(.x | "\(.y)")"}]"#,
        ] {
            assert!(is_harmless_jq_program(program, JqDialect::Jq), "{program}");
        }
        for program in [".", ".items[].metadata.name", ".spec.template.spec.containers[0].env", "select(.a == \"b\")"] {
            assert!(is_harmless_jq_program(program, JqDialect::Yq), "{program}");
        }
    }

    #[test]
    fn programs_that_reach_out_are_not_harmless() {
        for program in [
            "env",
            "$ENV.TOKEN",
            "{a: env}",
            r#""\(env.TOKEN)""#,
            r#""\("\($ENV)")""#,
            r#"import "m" as m; m::f"#,
            "env::x",
            "input_filename, $__prog_args",
            ". # \" \n | env",
            r#""\\" | env"#,
        ] {
            assert!(!is_harmless_jq_program(program, JqDialect::Jq), "{program}");
        }
        for program in [
            "env(HOME)",
            "load(\"/etc/passwd\")",
            "with_entries(select(env(HOME)))",
            "/etc/rancher/k3s/k3s.yaml",
            ".kube/config",
            ".env",
            "values.yaml",
            r#""\\" | env(X) | """#,
        ] {
            assert!(!is_harmless_jq_program(program, JqDialect::Yq), "{program}");
        }
    }
}
