//! Shows an error together with its causes.

use std::{
    error::Error,
    fmt::{self, Write as _},
};

/// Displays an error and all its sources, separated by colons.
///
/// Errors keep their cause as `source()`. Log lines and texts for people use this wrapper, so that the cause is not lost. A
/// cause that the text already contains is not repeated: some libraries and errors include it in their own text.
#[derive(Debug)]
pub struct ErrorChain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.0.to_string();
        let mut source = self.0.source();
        while let Some(error) = source {
            let cause = error.to_string();
            if !text.contains(&cause) {
                write!(text, ": {cause}")?;
            }
            source = error.source();
        }
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read the file")]
    struct WithoutCause(#[source] std::io::Error);

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read the file: {0}")]
    struct WithCause(#[source] std::io::Error);

    #[test]
    fn each_cause_is_shown_once() {
        let cause = || std::io::Error::other("disk failure");
        assert_eq!(ErrorChain(&WithoutCause(cause())).to_string(), "cannot read the file: disk failure");
        assert_eq!(ErrorChain(&WithCause(cause())).to_string(), "cannot read the file: disk failure");
    }
}
