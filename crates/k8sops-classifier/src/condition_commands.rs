//! `test`, `[ … ]` and `[[ … ]]`: comparisons of texts and numbers. Tests of files, and of variables by their names, are not
//! supported: an index in the name of a variable may run a command.

use crate::{
    ambiguity::would_redirect_program,
    shell_word::{ShellWord, TextKind, WordCount},
};

const TEXT_CHECKS: &[&str] = &["-z", "-n"];
const TEXT_COMPARISONS: &[&str] = &["=", "==", "!="];
const NUMBER_COMPARISONS: &[&str] = &["-eq", "-ne", "-gt", "-lt", "-ge", "-le"];

/// Returns whether the words behind `test`, or between `[` and `]`, only compare.
pub(crate) fn is_plain_test(words: &[ShellWord]) -> bool {
    let words = match words.split_first() {
        Some((negation, others)) if negation.is_known() && negation.text == "!" => others,
        _ => words,
    };
    let is_operand = |word: &ShellWord| {
        let unknown = word.unknown;
        unknown.is_none_or(|unknown| unknown.count != WordCount::Any || unknown.kind <= TextKind::Name)
    };
    let is_one_of = |word: &ShellWord, operators: &[&str]| word.is_known() && operators.contains(&word.text.as_str());
    // A text in the place of an operator, for example because a word before it vanishes, must not be one.
    let may_become_operator = |word: &ShellWord| word.unknown.is_some() && word.may_be_hidden_flag();
    match words {
        [one] => is_operand(one),
        [operator, operand] => is_one_of(operator, TEXT_CHECKS) && is_operand(operand),
        [left, operator, right] => {
            let is_comparison = is_one_of(operator, TEXT_COMPARISONS) || is_one_of(operator, NUMBER_COMPARISONS);
            let are_single = left.is_one_word() && right.is_one_word();
            is_comparison
                && is_operand(left)
                && is_operand(right)
                && (are_single || !(may_become_operator(left) || may_become_operator(right)))
                && (!left.text.starts_with('-') || left.is_one_word())
        }
        _ => false,
    }
}

/// Returns whether the words between `[[` and `]]` only compare. `-eq` and its like evaluate their operands as arithmetic,
/// so that these have to be numbers.
pub(crate) fn is_plain_condition(words: &[ShellWord]) -> bool {
    let mut rest = words;
    let mut depth = 0_usize;
    // A shell that does not know `[[` takes these for operators, and runs what is behind them.
    let has_operator = words.iter().any(|word| word.text.contains(['|', '&', ';', '<', '>', '(', ')']));
    if has_operator || would_redirect_program(words) {
        return false;
    }
    let text =
        |word: Option<&ShellWord>| word.filter(|word| word.is_known()).map_or("", |word| word.text.as_str()).to_owned();
    loop {
        while matches!(text(rest.first()).as_str(), "!" | "(") {
            depth += usize::from(text(rest.first()) == "(");
            rest = rest.get(1..).unwrap_or_default();
        }
        let (first, second) = (text(rest.first()), text(rest.get(1)));
        let is_number = |word: Option<&ShellWord>| {
            word.is_some_and(|word| match word.unknown {
                Some(unknown) => unknown.kind == TextKind::Number && word.text.chars().count() == 1,
                None => !word.text.is_empty() && word.text.bytes().all(|byte| byte.is_ascii_digit()),
            })
        };
        let taken = if TEXT_CHECKS.contains(&first.as_str()) {
            2
        } else if first.starts_with('-') {
            return false;
        } else if TEXT_COMPARISONS.contains(&second.as_str()) || second == "=~" {
            3
        } else if NUMBER_COMPARISONS.contains(&second.as_str()) {
            if !is_number(rest.first()) || !is_number(rest.get(2)) {
                return false;
            }
            3
        } else {
            1
        };
        let Some(behind) = rest.get(taken..).filter(|_| taken > 0) else { return false };
        rest = behind;
        while text(rest.first()) == ")" {
            let Some(outer) = depth.checked_sub(1) else { return false };
            depth = outer;
            rest = rest.get(1..).unwrap_or_default();
        }
        return rest.is_empty() && depth == 0;
    }
}
