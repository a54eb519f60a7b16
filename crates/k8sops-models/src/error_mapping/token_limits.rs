//! The context window that a rejection names, and the size of the prompt that it was compared with.

use std::sync::LazyLock;

use regex::Regex;

/// What a server says of a request that does not fit into its limits, in tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct NamedTokenLimits {
    /// The context window: prompt and reply together.
    pub(super) window: Option<u32>,
    /// The size of the prompt.
    pub(super) prompt: Option<u32>,
    /// The largest reply.
    pub(super) reply: Option<u32>,
}

/// The window in the texts of vLLM, OpenAI, OpenRouter, SGLang, llama.cpp, LM Studio, TGI, Mistral, Gemini and Anthropic.
static WINDOW: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    compile(&[
        r"\d+ \+ \d+ > (\d+)",
        r"tokens > (\d+)",
        r"(\d+) maximum context",
        r"context[ _](?:length|size|window|limit)\D{0,40}?(\d+)",
        r"must be <= (\d+)",
        r"maximum number of tokens allowed \(?(\d+)",
        r"maximum prompt length is (\d+)",
    ])
});

/// The size of the prompt in those texts.
static PROMPT: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    compile(&[
        r"(\d+) \+ \d+ > \d+",
        r"(\d+) tokens > \d+",
        r"(\d+) in the (?:messages|prompt|input)",
        r"(\d+) of text input",
        r"(\d+) (?:tokens )?(?:from|in) the (?:input|prompt)",
        r"(\d+) (?:input|prompt|`inputs`) tokens",
        r"prompt (?:has|contains) (?:at least )?(\d+)",
        r"messages resulted in (\d+)",
        r"request \((\d+) tokens\)",
        r"input token count \(?(\d+)",
    ])
});

/// A comma between digits, as in `131,072`.
static GROUPED: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(\d),(\d{3})\b").expect("a valid pattern"));

/// The largest reply limit in the texts of OpenAI, Anthropic, Groq, Bedrock and DeepSeek.
static REPLY: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    compile(&[
        r"at most (\d+) (?:completion|output) tokens",
        r"> (\d+), which is the maximum allowed number of output tokens",
        r"> (\d+), which is the maximum",
        r"max[a-z_]*tokens\D{0,40}(?:less than or equal to|at most|must not exceed|cannot exceed|no more than)\D{0,8}(\d+)",
        r"exceeds the model(?:'s)? limit of (\d+)",
        r"valid range of max_tokens is \[\d+ ?, ?(\d+)\]",
        r"max[a-z_]*tokens\D{0,20}range of \[\d+ ?, ?(\d+)\]",
    ])
});

fn compile(patterns: &[&str]) -> Vec<Regex> {
    patterns.iter().map(|pattern| Regex::new(pattern).expect("a valid pattern")).collect()
}

/// Finds both sizes in a provider's text in lower case.
pub(super) fn find_token_limits(text: &str) -> NamedTokenLimits {
    // Some group thousands.
    let text = GROUPED.replace_all(text, "$1$2");
    let find = |patterns: &[Regex]| {
        let mut found = patterns.iter().filter_map(|pattern| pattern.captures(&text)?.get(1)?.as_str().parse().ok());
        found.next()
    };
    NamedTokenLimits { window: find(&WINDOW), prompt: find(&PROMPT), reply: find(&REPLY) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_found_in_the_texts_of_servers() {
        for (text, window, prompt) in [
            (
                "This model's maximum context length is 8192 tokens. However, 8000 output tokens were requested and the prompt has 26 input tokens, 8026 in all.",
                8192,
                Some(26),
            ),
            (
                "'max_tokens' is too large: 8000. This model's maximum context length is 8192 tokens and your request has 500 input tokens (8000 > 8192 - 500).",
                8192,
                Some(500),
            ),
            (
                "This model's maximum context length is 65536 tokens. However, you requested 70000 tokens (62000 in the messages, 8000 in the completion).",
                65536,
                Some(62000),
            ),
            (
                "This endpoint's maximum context length is 131,072 tokens. However, you requested about 140000 tokens (10000 of text input, 130000 in the output).",
                131_072,
                Some(10000),
            ),
            (
                "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000, decrease input length",
                200_000,
                Some(190_000),
            ),
            ("prompt is too long: 210000 tokens > 200000 maximum", 200_000, Some(210_000)),
            (
                "request (9000 tokens) exceeds the available context size (4096 tokens), try increasing it",
                4096,
                Some(9000),
            ),
            (
                "Requested token count exceeds the model's maximum context length of 8192 tokens. You requested a total of 9000 tokens: 1000 tokens from the input messages and 8000 tokens for the completion.",
                8192,
                Some(1000),
            ),
            (
                "`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 1000 `inputs` tokens and 8000 `max_new_tokens`",
                4096,
                Some(1000),
            ),
            (
                "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length",
                32768,
                Some(40000),
            ),
            (
                "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
                1_048_576,
                Some(1_200_000),
            ),
            ("the model is loaded with context length of only 4096 tokens, which is not enough", 4096, None),
        ] {
            let found = find_token_limits(&text.to_lowercase());
            assert_eq!(found, NamedTokenLimits { window: Some(window), prompt, reply: None }, "{text}");
        }
        for (text, reply) in [
            (
                "max_tokens is too large: 100000. This model supports at most 16384 completion tokens, whereas you provided 100000.",
                16384,
            ),
            ("max_tokens: 100000 > 64000, which is the maximum allowed number of output tokens for claude-x", 64000),
            (
                "`max_tokens` must be less than or equal to `8192`, the maximum value for `max_tokens` is less than the `context_window`",
                8192,
            ),
            (
                "The maximum tokens you requested exceeds the model limit of 4096. Try again with a maximum tokens value that is lower",
                4096,
            ),
            ("Invalid max_tokens value, the valid range of max_tokens is [1, 8192]", 8192),
        ] {
            assert_eq!(find_token_limits(&text.to_lowercase()).reply, Some(reply), "{text}");
        }
        assert_eq!(find_token_limits("prompt is too long"), NamedTokenLimits::default());
    }
}
