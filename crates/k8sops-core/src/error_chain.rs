//! Shows an error together with its causes.

use std::{error::Error, fmt};

/// Displays an error and all its sources, separated by colons.
///
/// Errors of this project keep their cause as `source()` and do not repeat it in their own text. Log lines and texts for
/// people use this wrapper so that the cause is not lost.
#[derive(Debug)]
pub struct ErrorChain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read the file")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn sources_follow_the_error() {
        let error = Outer(std::io::Error::other("disk failure"));
        assert_eq!(ErrorChain(&error).to_string(), "cannot read the file: disk failure");
    }
}
