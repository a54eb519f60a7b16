//! What `echo` and `printf` print, for a preview.

use crate::shell_word::ShellWord;

/// Returns whether a command only prints its arguments.
pub(crate) fn is_printing(program: &str) -> bool {
    matches!(program, "echo" | "printf")
}

/// Returns what `echo` or `printf` prints; `None` if that depends on the shell.
pub(crate) fn printed_text(words: &[ShellWord]) -> Option<String> {
    if !words.iter().all(ShellWord::is_known) {
        return None;
    }
    let (program, arguments) = words.split_first()?;
    let flags = arguments.iter().take_while(|word| matches!(word.text.as_str(), "-n" | "-e" | "-ne" | "-en")).count();
    let (flags, texts) = arguments.split_at_checked(flags)?;
    let texts: Vec<&str> = texts.iter().map(|word| word.text.as_str()).collect();
    let interprets = program.text == "printf" || flags.iter().any(|flag| flag.text.contains('e'));
    let text = match (program.text.as_str(), texts.as_slice()) {
        ("printf", ["%s" | "%s\\n", text]) => return Some((*text).to_owned()),
        ("printf", [text]) if !text.contains('%') => (*text).to_owned(),
        ("printf", _) => return None,
        _ => texts.join(" "),
    };
    match (text.contains('\\'), interprets) {
        (false, _) => Some(text),
        (true, true) => unescape(&text),
        // Some shells read escapes here, and others do not.
        (true, false) => None,
    }
}

fn unescape(text: &str) -> Option<String> {
    let mut unescaped = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        unescaped.push(match char {
            '\\' => match chars.next()? {
                'n' => '\n',
                't' => '\t',
                escaped @ ('\\' | '"') => escaped,
                _ => return None,
            },
            char => char,
        });
    }
    Some(unescaped)
}
