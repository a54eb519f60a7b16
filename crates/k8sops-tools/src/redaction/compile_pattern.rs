//! Compilation of constant patterns.

use regex::Regex;

/// Compiles a constant pattern. Its `\b` are those of ASCII, because the ones of Unicode are slow in texts with other letters.
pub(super) fn compile_pattern(pattern: &str) -> Regex {
    Regex::new(&pattern.replace(r"\b", r"(?-u:\b)")).expect("a constant pattern")
}
