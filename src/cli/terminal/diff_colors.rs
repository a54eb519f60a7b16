//! The colors of a unified diff.

/// Returns a line of a diff in its color.
pub(in crate::cli) fn color_diff(line: &str) -> String {
    let code = match line.as_bytes() {
        [b'+', b'+', b'+', b' ', ..] | [b'-', b'-', b'-', b' ', ..] => "1",
        [b'@', b'@', ..] => "36",
        [b'+', ..] => "32",
        [b'-', ..] => "31",
        _ => return line.to_owned(),
    };
    format!("\x1b[{code}m{line}\x1b[0m")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_the_color_of_their_mark() {
        assert_eq!(color_diff("+  replicas: 3"), "\x1b[32m+  replicas: 3\x1b[0m");
        assert_eq!(color_diff("-  replicas: 2"), "\x1b[31m-  replicas: 2\x1b[0m");
        assert_eq!(color_diff("--- Deployment shop/checkout"), "\x1b[1m--- Deployment shop/checkout\x1b[0m");
        assert_eq!(color_diff(" spec:"), " spec:");
    }
}
