//! Command lines that different readers split into different words.
//!
//! Some servers give a line to a shell, some split it at spaces, some split it in the manner of `shlex`. A line is harmless
//! only if all of these readers run something harmless.

use crate::{flag_parser::is_identity_or_file_flag, shell_word::ShellWord};

/// Returns whether a part of the word behind a space would be a flag, if the word were split at its spaces.
pub(crate) fn contains_embedded_flag(word: &str) -> bool {
    word.split(char::is_whitespace).skip(1).any(|piece| {
        let mut chars = piece.chars();
        chars.next() == Some('-') && chars.next().is_some_and(|char| char == '-' || char.is_ascii_alphabetic())
    })
}

/// Returns whether another reader could find other flags in the words: a flag inside of a word, in quotes that are part of
/// the word, or behind `--`.
pub(crate) fn has_ambiguous_flags(words: &[ShellWord]) -> bool {
    let quotes = ['\'', '"', '\\'];
    if words
        .iter()
        .any(|word| word.text.strip_prefix(quotes).is_some_and(|text| text.trim_start_matches(quotes).starts_with('-')))
    {
        return true;
    }
    let behind_separator = words.iter().skip_while(|word| word.text != "--").skip(1);
    words.iter().any(|word| contains_embedded_flag(&word.text))
        || behind_separator.into_iter().any(|word| word.text.starts_with('-'))
}

/// Returns whether a reader that knows no quotes, pipes and separators would find the same `--dry-run` flags. Servers that
/// split a line at its spaces read it like this.
pub(crate) fn is_dry_run_for_every_reader<'a>(words: impl IntoIterator<Item = &'a ShellWord>) -> bool {
    words.into_iter().all(|word| {
        let lower = word.text.to_ascii_lowercase();
        let mentions_dry_run = lower.contains("dry-run") || lower.contains("dry_run");
        let is_dry_run_flag =
            word.unquoted && matches!(word.text.as_str(), "--dry-run" | "--dry-run=server" | "--dry-run=client");
        (!mentions_dry_run || is_dry_run_flag) && !contains_embedded_flag(&word.text)
    })
}

/// Returns whether the arguments of a filter would change the identity, the cluster or the files of the program before the
/// pipe, if a reader without pipes took them for arguments of that program.
pub(crate) fn would_redirect_program(words: &[ShellWord]) -> bool {
    let is_redirecting = |piece: &str| {
        let name = piece.strip_prefix("--").unwrap_or_default();
        is_identity_or_file_flag(name.split('=').next().unwrap_or_default())
    };
    let is_followed_by_value = |at: usize| {
        let next = words.get(at + 1).and_then(|word| word.text.chars().next());
        next.is_some_and(char::is_alphanumeric)
    };
    words.iter().enumerate().any(|(at, word)| {
        // `-s` is kubectl's `--server`.
        let has_server_letter = word.text.starts_with('-') && !word.text.starts_with("--") && word.text.contains('s');
        let has_server_value = word.text.split_once('s').is_some_and(|(_, rest)| rest.contains([':', '.', '=', '/']));
        word.text.split(char::is_whitespace).any(is_redirecting)
            || (has_server_letter && (has_server_value || is_followed_by_value(at)))
    })
}
