//! Programs that start the command behind them: `timeout`, `env`, `watch` and others.

use crate::{
    flag_parser::printable,
    shell_word::{ShellWord, UNKNOWN_TEXT, join_words},
};

/// Variables that only change how a program prints.
const HARMLESS_VARIABLES: &[&str] = &["LANG", "LC_ALL", "LC_CTYPE", "LC_TIME", "TZ", "NO_COLOR", "TERM", "COLUMNS"];

/// Returns whether a word before a command sets such a variable to a plain value.
pub(crate) fn is_harmless_assignment(word: &ShellWord) -> bool {
    let is_plain = |value: &str| value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.@/+".contains(&byte));
    word.unquoted
        && word.is_known()
        && word.text.split_once('=').is_some_and(|(name, value)| {
            // A time zone with a `/` at its start is the name of a file.
            HARMLESS_VARIABLES.contains(&name) && is_plain(value) && !value.starts_with('/') && !value.contains("..")
        })
}

/// Returns the words of the command that launchers like `timeout` start.
pub(crate) fn launched_words(words: &[ShellWord]) -> &[ShellWord] {
    let mut launched = words;
    while let [name, arguments @ ..] = launched
        && let Some(Ok(LaunchedCommand::Words(inner))) = unwrap_launcher(name, arguments)
    {
        launched = inner;
    }
    launched
}

/// What a launcher starts.
pub(crate) enum LaunchedCommand<'a> {
    Words(&'a [ShellWord]),
    /// A line that a shell reads.
    Script(String),
}

/// Returns the command that `time`, `timeout`, `watch` or another launcher starts, or why that command is not certain; `None`
/// for any other program.
pub(crate) fn unwrap_launcher<'a>(
    name: &ShellWord,
    arguments: &'a [ShellWord],
) -> Option<Result<LaunchedCommand<'a>, String>> {
    let mut at = 0;
    let text = |at: usize| arguments.get(at).map_or("", |word| word.text.as_str());
    let flags_with_value: &[&str] = match name.text.as_str() {
        _ if !name.unquoted => return None,
        "time" => {
            let at = usize::from(text(0) == "-p");
            return Some(Ok(LaunchedCommand::Words(arguments.get(at..).unwrap_or_default())));
        }
        "command" if !text(0).starts_with('-') => return Some(Ok(LaunchedCommand::Words(arguments))),
        "nice" => &["-n", "--adjustment"],
        "stdbuf" => &[],
        "env" => {
            let count = arguments.iter().take_while(|word| is_harmless_assignment(word)).count();
            return Some(match arguments.get(count..) {
                Some([first, ..]) if !first.text.contains('=') && !first.text.starts_with('-') => {
                    Ok(LaunchedCommand::Words(arguments.get(count..).unwrap_or_default()))
                }
                _ => Err("`env` with these arguments is not supported".into()),
            });
        }
        "timeout" => &["-k", "-s", "--kill-after", "--signal"],
        "watch" => &["-n", "--interval"],
        _ => return None,
    };
    let program = name.text.as_str();
    while text(at).starts_with('-') {
        let flag = text(at);
        let is_known = match program {
            "timeout" => flag.starts_with("-k") || flag.starts_with("-s") || flag.starts_with("--"),
            "watch" => {
                matches!(flag, "-d" | "-t" | "-g" | "-e" | "-c" | "-b" | "-x" | "--differences" | "--no-title")
                    || flag.starts_with("-n")
                    || flag.starts_with("--interval")
            }
            "nice" => {
                flag.starts_with("-n")
                    || flag.starts_with("--adjustment")
                    || flag[1..].bytes().all(|byte| byte.is_ascii_digit())
            }
            _ => matches!(flag, "-oL" | "-eL" | "-o0" | "-e0" | "-i0" | "-iL"),
        };
        let is_known_word = arguments.get(at).is_some_and(ShellWord::is_known);
        if !is_known || !is_known_word {
            return Some(Err(format!("`{program} {}` is not known to be harmless", printable(flag))));
        }
        at += if flags_with_value.contains(&flag) { 2 } else { 1 };
    }
    if name.text == "timeout" {
        let duration = text(at);
        let number = duration.strip_suffix(['s', 'm', 'h']).unwrap_or(duration);
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
            return Some(Err("`timeout` has no duration".into()));
        }
        at += 1;
    }
    let launched = arguments.get(at..).unwrap_or_default();
    // `watch` gives its arguments to a shell, which reads quotes and operators a second time.
    if name.text == "watch" {
        let are_known = launched.iter().all(|word| word.is_known() && !word.text.contains(UNKNOWN_TEXT));
        return Some(match are_known && !launched.is_empty() {
            true => Ok(LaunchedCommand::Script(join_words(launched))),
            false => Err("`watch` gives its arguments to a second shell".into()),
        });
    }
    Some(Ok(LaunchedCommand::Words(launched)))
}
