//! The words by which servers say why a reply ended.

use k8sops_core::StopReason;

/// What the reason of a reply's end means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReplyEnd {
    /// The reply is complete, or was cut as intended.
    Complete(StopReason),
    /// The server failed, and what arrived is not an answer.
    Broken,
}

/// Returns the meaning of a stop reason in any of the protocols. An unknown reason ends the reply, since new ones appear.
pub(crate) fn parse_stop_reason(reason: &str) -> ReplyEnd {
    let reason = reason.to_ascii_lowercase();
    // Gemini's compatible endpoint: `content_filter: SAFETY`, `function_call_filter: MALFORMED_FUNCTION_CALL`.
    let meanings = reason.split(':').map(|part| parse_stop_word(part.trim()));
    meanings
        .rev()
        .find(|end| *end != ReplyEnd::Complete(StopReason::Other))
        .unwrap_or(ReplyEnd::Complete(StopReason::Other))
}

fn parse_stop_word(word: &str) -> ReplyEnd {
    ReplyEnd::Complete(match word {
        "" | "stop" | "end_turn" | "end" | "eos" | "eos_token" | "stop_sequence" | "tool_calls" | "tool_call"
        | "tool_use" | "function_call" | "complete" | "completed" | "finished" | "done" | "load" | "unload" => {
            StopReason::EndTurn
        }
        "length"
        | "max_tokens"
        | "max_output_tokens"
        | "max_completion_tokens"
        | "model_length"
        | "context_length"
        | "model_context_window_exceeded"
        | "max_length" => StopReason::MaxTokens,
        "content_filter"
        | "content_filtered"
        | "content-filter"
        | "refusal"
        | "safety"
        | "sensitive"
        | "recitation"
        | "blocklist"
        | "prohibited_content"
        | "spii"
        | "guardrail_intervened" => StopReason::Refusal,
        "pause_turn" => StopReason::Paused,
        // `unknown`: gateways whose upstream named no reason. `malformed_function_call`: Gemini. `network_error`: GLM.
        // `insufficient_system_resource`: DeepSeek.
        "error"
        | "errored"
        | "abort"
        | "aborted"
        | "cancel"
        | "cancelled"
        | "canceled"
        | "failed"
        | "failure"
        | "interrupted"
        | "timeout"
        | "timed_out"
        | "network_error"
        | "server_error"
        | "internal_error"
        | "insufficient_system_resource"
        | "malformed_function_call"
        | "unexpected_tool_call"
        | "malformed_response"
        | "too_many_tool_calls"
        | "unknown"
        | "finish_reason_unspecified" => return ReplyEnd::Broken,
        _ => StopReason::Other,
    })
}

/// Returns a stop reason, or `None` if its value only says that the reply goes on.
pub(crate) fn known_stop_reason(reason: Option<String>) -> Option<String> {
    reason.filter(|reason| !matches!(reason.trim().to_ascii_lowercase().as_str(), "" | "null" | "none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_from_ends() {
        for reason in [
            "error",
            "abort",
            "MALFORMED_FUNCTION_CALL",
            " cancelled",
            "network_error",
            "unknown",
            "function_call_filter: MALFORMED_FUNCTION_CALL",
        ] {
            assert_eq!(parse_stop_reason(reason), ReplyEnd::Broken, "{reason}");
        }
        for (reason, means) in [
            ("STOP", StopReason::EndTurn),
            ("tool_calls", StopReason::EndTurn),
            ("model_length", StopReason::MaxTokens),
            ("SAFETY", StopReason::Refusal),
            ("something_new", StopReason::Other),
            ("content_filter: SAFETY", StopReason::Refusal),
            ("content_filter: NEW_WORD", StopReason::Refusal),
        ] {
            assert_eq!(parse_stop_reason(reason), ReplyEnd::Complete(means), "{reason}");
        }
        let known = |reason: &str| known_stop_reason(Some(reason.to_owned()));
        assert_eq!((known(""), known("null"), known("stop")), (None, None, Some("stop".to_owned())));
    }
}
