//! Whether a sed script only prints, omits or replaces: it is a list of commands that are known to do nothing else.
//!
//! GNU and BSD sed find the end of a pattern with brackets in different ways. Where they differ, the script is rejected.

use std::{iter::Peekable, str::Chars};

/// Returns whether no command of the script runs a program, or reads or writes a file.
pub(crate) fn is_harmless_sed_script(script: &str) -> bool {
    SedReader { chars: script.chars().peekable(), depth: 0 }.read_script().is_some()
}

struct SedReader<'a> {
    chars: Peekable<Chars<'a>>,
    /// Open `{`.
    depth: usize,
}

impl SedReader<'_> {
    /// Reads to the end; `None` as soon as something is not certain to be harmless.
    fn read_script(&mut self) -> Option<()> {
        loop {
            while self.chars.next_if(|char| matches!(char, ' ' | '\t' | ';' | '\n')).is_some() {}
            if self.chars.peek().is_none() {
                return (self.depth == 0).then_some(());
            }
            if self.chars.next_if_eq(&'}').is_some() {
                self.depth = self.depth.checked_sub(1)?;
                continue;
            }
            self.skip_addresses()?;
            match self.chars.next()? {
                '{' => {
                    self.depth += 1;
                    continue;
                }
                'p' | 'd' | 'D' | 'P' | 'n' | 'N' | 'g' | 'G' | 'h' | 'H' | 'x' | '=' => {}
                'q' | 'Q' => {
                    self.skip_spaces();
                    self.skip_digits();
                }
                's' => {
                    self.skip_pattern_and_replacement()?;
                    while self.chars.next_if(|c| matches!(c, 'g' | 'p' | 'i' | 'I') || c.is_ascii_digit()).is_some() {}
                }
                'y' => self.skip_pattern_and_replacement()?,
                _ => return None,
            }
            self.skip_spaces();
            if !matches!(self.chars.peek(), None | Some(';' | '\n' | '}')) {
                return None;
            }
        }
    }

    fn skip_spaces(&mut self) {
        while self.chars.next_if(|char| matches!(char, ' ' | '\t')).is_some() {}
    }

    fn skip_digits(&mut self) -> usize {
        let mut count = 0;
        while self.chars.next_if(char::is_ascii_digit).is_some() {
            count += 1;
        }
        count
    }

    /// Skips no, one or two addresses, and the `!` behind them.
    fn skip_addresses(&mut self) -> Option<()> {
        if self.skip_address()? {
            self.skip_spaces();
            if self.chars.next_if_eq(&',').is_some() {
                self.skip_spaces();
                let is_relative = self.chars.next_if(|char| matches!(char, '+' | '~')).is_some();
                let is_address = if is_relative { self.skip_digits() > 0 } else { self.skip_address()? };
                is_address.then_some(())?;
            }
        }
        self.skip_spaces();
        while self.chars.next_if_eq(&'!').is_some() {
            self.skip_spaces();
        }
        Some(())
    }

    /// Skips an address: a line number, a step, `$` or a pattern. Returns whether there is one.
    fn skip_address(&mut self) -> Option<bool> {
        match self.chars.peek() {
            Some('$') => {
                self.chars.next();
                Some(true)
            }
            Some('/') => {
                self.chars.next();
                self.skip_delimited('/', HasBrackets::Yes)?;
                self.chars.next_if_eq(&'I');
                Some(true)
            }
            Some(char) if char.is_ascii_digit() => {
                self.skip_digits();
                if self.chars.next_if_eq(&'~').is_some() && self.skip_digits() == 0 {
                    return None;
                }
                Some(true)
            }
            _ => Some(false),
        }
    }

    fn skip_pattern_and_replacement(&mut self) -> Option<()> {
        let delimiter = self.chars.next().filter(char::is_ascii_punctuation)?;
        if matches!(delimiter, '\\' | '[' | ']') {
            return None;
        }
        self.skip_delimited(delimiter, HasBrackets::Yes)?;
        self.skip_delimited(delimiter, HasBrackets::No)
    }

    /// Skips a text up to and with the delimiter.
    fn skip_delimited(&mut self, delimiter: char, brackets: HasBrackets) -> Option<()> {
        let mut in_brackets = false;
        loop {
            match self.chars.next()? {
                char if char == delimiter => return (!in_brackets).then_some(()),
                '\n' => return None,
                '\\' => {
                    let escaped = self.chars.next()?;
                    if escaped == '\n' || (in_brackets && !escaped.is_ascii_alphanumeric()) {
                        return None;
                    }
                }
                '[' if brackets == HasBrackets::Yes && !in_brackets => {
                    in_brackets = true;
                    self.chars.next_if_eq(&'^');
                    self.chars.next_if(|char| *char == ']' && *char != delimiter);
                }
                '[' if in_brackets && matches!(self.chars.peek(), Some(':' | '.' | '=')) => {
                    let kind = self.chars.next()?;
                    loop {
                        match self.chars.next()? {
                            char if char == kind && self.chars.peek() == Some(&']') => break,
                            char if char == delimiter || !char.is_ascii_alphanumeric() => return None,
                            _ => {}
                        }
                    }
                    self.chars.next();
                }
                ']' if in_brackets => in_brackets = false,
                _ => {}
            }
        }
    }
}

/// Whether `[` starts a bracket expression.
#[derive(Clone, Copy, PartialEq, Eq)]
enum HasBrackets {
    Yes,
    No,
}

#[cfg(test)]
mod tests {
    use super::is_harmless_sed_script;

    #[test]
    fn printing_scripts_are_harmless() {
        for script in [
            "/Events:/,$p",
            "2,5p",
            "$d",
            "1d",
            "10q",
            "/^$/d",
            "/a/!d",
            "/Name:/,/Labels:/p",
            "/x/,+3p",
            "0~2p",
            "s/web/api/g",
            "s|/var/log|LOG|",
            r"s/[[:space:]]\+/ /g",
            r"s/\x1b\[[0-9;]*m//g",
            "s/^/  /;s/a/b/2p",
            "/Conditions:/,/Volumes:/{/Volumes:/!p;}",
            "s/[^]]*x/y/",
            "y/abc/xyz/",
            "1,3{p;d}",
        ] {
            assert!(is_harmless_sed_script(script), "{script}");
        }
    }

    #[test]
    fn scripts_that_reach_out_are_not_harmless() {
        for script in [
            "w /tmp/x",
            "1e id",
            "e",
            "s/a/id/e",
            "s/a/id/ge",
            "s#x#y#w /tmp/o",
            "s/a/b/w out",
            "r /etc/passwd",
            "R /etc/passwd",
            "/x/W f",
            "$!e id",
            "1{e id\n}",
            "s/[/]/x/e id/",
            "s/a/b/;w f",
            "p;1r x",
            r"s/[\]/]/e/",
            "a hello",
            "s/a/b/m;e",
            "}",
            "{p",
            "F",
        ] {
            assert!(!is_harmless_sed_script(script), "{script}");
        }
    }
}
