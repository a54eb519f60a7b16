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
    // A shell that does not know `[[` takes these for operators, and runs what is behind them.
    let has_operator = words.iter().any(|word| word.text.contains(['|', '&', ';', '<', '>', '(', ')']));
    if has_operator || would_redirect_program(words) {
        return false;
    }
    let text = |word: &ShellWord| if word.is_known() { word.text.clone() } else { String::new() };
    let negations = words.iter().take_while(|word| text(word) == "!").count();
    let is_number = |word: &ShellWord| match word.unknown {
        Some(unknown) => unknown.kind == TextKind::Number && word.text.chars().count() == 1,
        None => !word.text.is_empty() && word.text.bytes().all(|byte| byte.is_ascii_digit()),
    };
    match words.get(negations..).unwrap_or_default() {
        [one] => !text(one).starts_with('-'),
        [check, _] => TEXT_CHECKS.contains(&text(check).as_str()),
        [left, operator, right] if !text(left).starts_with('-') => {
            let operator = text(operator);
            TEXT_COMPARISONS.contains(&operator.as_str())
                || operator == "=~"
                || (NUMBER_COMPARISONS.contains(&operator.as_str()) && is_number(left) && is_number(right))
        }
        _ => false,
    }
}
