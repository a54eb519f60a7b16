//! Whether an awk program only prints: awk starts programs and opens files by a few words and operators, which this reader
//! finds outside of strings and regular expressions.
//!
//! The dialects (gawk, mawk, the one true awk, busybox) disagree in some corners. Where they do, the program is rejected.

use std::{iter::Peekable, str::Chars};

/// Names that run a program, open a file, or reach the environment or the arguments of awk.
const FORBIDDEN_NAMES: &[&str] =
    &["system", "getline", "close", "fflush", "ENVIRON", "ARGV", "ARGC", "ARGIND", "SYMTAB", "FUNCTAB", "PROCINFO"];

/// Words behind which a `/` starts a regular expression, although they look like names.
const KEYWORDS: &[&str] =
    &["print", "printf", "return", "in", "do", "else", "if", "while", "for", "delete", "exit", "case", "BEGIN", "END"];

/// Returns whether the program starts no other program, writes no file, and reads neither a file nor the environment.
pub(crate) fn is_harmless_awk_program(program: &str) -> bool {
    let mut reader = AwkReader::new(program);
    reader.read_program().is_some()
}

/// Returns whether an assignment of `-v` sets a plain variable.
pub(crate) fn is_harmless_awk_assignment(assignment: &str) -> bool {
    let Some((name, _)) = assignment.split_once('=') else { return false };
    let is_lower_case = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    matches!(name, "FS" | "OFS" | "RS" | "ORS" | "IGNORECASE" | "SUBSEP") || (!name.is_empty() && is_lower_case)
}

/// What a `/` means at a place of the program.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SlashMeaning {
    Regex,
    Division,
    /// The dialects disagree.
    Unclear,
}

/// What an opening parenthesis belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ParenOwner {
    /// `if`, `while` or `for`, behind whose condition a statement begins.
    Condition,
    Other,
}

struct AwkReader<'a> {
    chars: Peekable<Chars<'a>>,
    slash: SlashMeaning,
    parens: Vec<ParenOwner>,
    next_paren: ParenOwner,
    /// A `print` was read, so that a `>` outside of parentheses writes a file.
    in_print: bool,
}

impl<'a> AwkReader<'a> {
    fn new(program: &'a str) -> Self {
        Self {
            chars: program.chars().peekable(),
            slash: SlashMeaning::Regex,
            parens: Vec::new(),
            next_paren: ParenOwner::Other,
            in_print: false,
        }
    }

    /// Reads to the end; `None` as soon as something is not certain to be harmless.
    fn read_program(&mut self) -> Option<()> {
        while let Some(char) = self.chars.next() {
            let owner = std::mem::replace(&mut self.next_paren, ParenOwner::Other);
            match char {
                ' ' | '\t' => self.next_paren = owner,
                '"' => {
                    self.skip_string()?;
                    self.slash = SlashMeaning::Division;
                }
                '/' => match self.slash {
                    SlashMeaning::Regex => {
                        self.skip_regex()?;
                        self.slash = SlashMeaning::Division;
                    }
                    SlashMeaning::Division => self.slash = SlashMeaning::Regex,
                    SlashMeaning::Unclear => return None,
                },
                '(' | '[' => {
                    self.parens.push(if char == '(' { owner } else { ParenOwner::Other });
                    self.slash = SlashMeaning::Regex;
                }
                ')' | ']' => {
                    self.slash = match self.parens.pop()? {
                        ParenOwner::Condition => SlashMeaning::Unclear,
                        ParenOwner::Other => SlashMeaning::Division,
                    };
                }
                '|' => {
                    self.chars.next_if_eq(&'|')?;
                    self.slash = SlashMeaning::Regex;
                }
                '>' => {
                    if self.chars.peek() == Some(&'>') || (self.in_print && self.parens.is_empty()) {
                        return None;
                    }
                    self.slash = SlashMeaning::Regex;
                }
                '+' | '-' => {
                    let is_doubled = self.chars.next_if_eq(&char).is_some();
                    self.slash = if is_doubled { SlashMeaning::Unclear } else { SlashMeaning::Regex };
                }
                ';' | '}' => {
                    self.slash = SlashMeaning::Regex;
                    if self.parens.is_empty() {
                        self.in_print = false;
                    }
                }
                // A newline ends a statement, but not behind a comma, so `in_print` stays.
                '\n' if self.parens.is_empty() => self.slash = SlashMeaning::Regex,
                '=' | '!' | '<' | '&' | '~' | ',' | '?' | ':' | '*' | '%' | '^' | '{' | '$' => {
                    self.slash = SlashMeaning::Regex;
                }
                _ if char.is_ascii_digit() || char == '.' => {
                    while self.chars.next_if(|next| next.is_ascii_alphanumeric() || *next == '.').is_some() {}
                    self.slash = SlashMeaning::Division;
                }
                _ if char.is_ascii_alphabetic() || char == '_' => self.read_name(char)?,
                _ => return None,
            }
        }
        Some(())
    }

    fn read_name(&mut self, first: char) -> Option<()> {
        let mut name = String::from(first);
        while let Some(next) = self.chars.next_if(|next| next.is_ascii_alphanumeric() || *next == '_') {
            name.push(next);
        }
        if FORBIDDEN_NAMES.contains(&name.as_str()) {
            return None;
        }
        self.in_print |= matches!(name.as_str(), "print" | "printf");
        self.slash = match name.as_str() {
            // A function that may stand without parentheses.
            "length" => SlashMeaning::Unclear,
            name if KEYWORDS.contains(&name) => SlashMeaning::Regex,
            _ => SlashMeaning::Division,
        };
        if matches!(name.as_str(), "if" | "while" | "for") {
            self.next_paren = ParenOwner::Condition;
        }
        Some(())
    }

    fn skip_string(&mut self) -> Option<()> {
        loop {
            match self.chars.next()? {
                '"' => return Some(()),
                '\\' => _ = self.chars.next().filter(|escaped| *escaped != '\n')?,
                '\n' => return None,
                _ => {}
            }
        }
    }

    /// Skips a regular expression. A `/` in brackets ends it in some dialects only.
    fn skip_regex(&mut self) -> Option<()> {
        let mut in_brackets = false;
        loop {
            match self.chars.next()? {
                '/' if in_brackets => return None,
                '/' => return Some(()),
                '\\' => {
                    let escaped = self.chars.next()?;
                    if escaped == '\n' || (in_brackets && matches!(escaped, '/' | ']' | '\\')) {
                        return None;
                    }
                }
                '\n' => return None,
                '[' if !in_brackets => {
                    in_brackets = true;
                    self.chars.next_if_eq(&'^');
                    if self.chars.peek() == Some(&']') {
                        return None;
                    }
                }
                // The end of a class like `[:space:]` is not the end of the brackets.
                '[' if self.chars.peek() == Some(&':') => {
                    while self.chars.next()? != ':' || self.chars.peek() != Some(&']') {
                        if matches!(self.chars.peek(), Some('/' | '\\' | '\n') | None) {
                            return None;
                        }
                    }
                    self.chars.next();
                }
                ']' => in_brackets = false,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_harmless_awk_program;

    #[test]
    fn printing_programs_are_harmless() {
        for program in [
            "{print $1}",
            "NR>1 && $5>3 {print $2,$5}",
            r#"{print $1"\t"$2}"#,
            r#"$3 != "Running" {print $1, $3}"#,
            "/Error|Warn/ || $4 >= 5",
            "{sum+=$3} END {print sum/NR}",
            r#"{ if ($3 > 5) print $1; else print "ok > fine | yes" }"#,
            r#"{ printf "%s %s\n", $1, ($2 > 3 ? "high" : "low") }"#,
            r#"BEGIN{FS="|"} /a[^x]b/ {n++} END{print n}"#,
            "$0 ~ /file[[:space:]]system/",
            "{ print length($1) }",
            "!seen[$1]++",
            "/Events:/{found=1} found",
            "{a[$1]=$2}\nEND{for (k in a) print k, a[k]}",
        ] {
            assert!(is_harmless_awk_program(program), "{program}");
        }
    }

    #[test]
    fn programs_that_reach_out_are_not_harmless() {
        for program in [
            r#"{print $1 > "x"}"#,
            r#"{print($1) > "x"}"#,
            r#"{print $1 >> "x"}"#,
            r#"{print | "sh"}"#,
            r#"{"id" | getline x; print x}"#,
            r#"{system("id")}"#,
            r#"BEGIN{while((getline l < "/etc/passwd")>0) print l}"#,
            r#"{print ENVIRON["HOME"]}"#,
            r#"BEGIN{ARGV[1]="/etc/passwd"; ARGC=2}"#,
            "@include \"x\"",
            "{f=\"system\"; @f(\"id\")}",
            r#"{print a,
b > "x"}"#,
            r#"{x = a / b; print "y" > "f" / 2}"#,
            r#"{if(x) /"/; print "a" > "f" #"/}"#,
            r#"{x++ /"/; print "a" > "f" #"/}"#,
            r#"/[/]"/ {print > "f"}"#,
            r#"{print length /"/ > "f" #"/}"#,
            "{print \\\n> \"x\"}",
            "{print (1,2) > \"x\"}",
            "{for(;;) print i > \"x\"}",
        ] {
            assert!(!is_harmless_awk_program(program), "{program}");
        }
    }
}
