//! What is known after a call that returned no output.

use k8sops_core::{ErrorChain, ToolEffect, ToolStatus};
use k8sops_mcp::CallError;

/// Returns the status of a failed call and an explanation for the model and the user.
pub(crate) fn explain_call_error(error: &CallError, effect: ToolEffect) -> (ToolStatus, String) {
    let advice = match effect {
        ToolEffect::Read => "The call changes nothing and can be repeated.",
        ToolEffect::Idempotent => {
            "It is not known whether the call took effect. Check the state; repeating the call is harmless."
        }
        ToolEffect::Mutating => {
            "It is not known whether the call took effect. Check the state before you repeat the call."
        }
    };
    let lost = if effect == ToolEffect::Read { ToolStatus::Error } else { ToolStatus::Unknown };
    match error {
        CallError::NotSent(why) => (
            ToolStatus::Error,
            format!("The tool was not run: {}. Nothing was sent, so nothing has changed.", ErrorChain(why)),
        ),
        CallError::Refused(why) => (ToolStatus::Error, format!("The server rejected the call: {}", ErrorChain(why))),
        CallError::Failed(why) => (lost, format!("The server returned an error: {}. {advice}", ErrorChain(why))),
        CallError::Broken(why) => {
            (lost, format!("The connection broke after the request was sent ({}). {advice}", ErrorChain(why)))
        }
        CallError::Timeout(_) => (ToolStatus::Timeout, format!("{}. {advice}", capitalize(&error.to_string()))),
    }
}

fn capitalize(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use k8sops_mcp::DeadlineExceeded;

    #[test]
    fn broken_connection_leaves_changes_unknown() {
        let broken = CallError::Broken("gone".into());
        assert_eq!(explain_call_error(&broken, ToolEffect::Read).0, ToolStatus::Error);
        assert_eq!(explain_call_error(&broken, ToolEffect::Idempotent).0, ToolStatus::Unknown);
        let (status, text) = explain_call_error(&broken, ToolEffect::Mutating);
        assert_eq!(status, ToolStatus::Unknown);
        assert_eq!(
            text,
            "The connection broke after the request was sent (gone). \
             It is not known whether the call took effect. Check the state before you repeat the call."
        );
    }

    #[test]
    fn server_error_is_unknown_and_rejection_is_not() {
        let failed = CallError::Failed("out of memory".into());
        assert_eq!(explain_call_error(&failed, ToolEffect::Read).0, ToolStatus::Error);
        assert_eq!(explain_call_error(&failed, ToolEffect::Idempotent).0, ToolStatus::Unknown);
        assert_eq!(
            explain_call_error(&failed, ToolEffect::Mutating),
            (
                ToolStatus::Unknown,
                "The server returned an error: out of memory. \
                 It is not known whether the call took effect. Check the state before you repeat the call."
                    .to_owned()
            )
        );
        assert_eq!(explain_call_error(&CallError::Refused("no".into()), ToolEffect::Mutating).0, ToolStatus::Error);
    }

    #[test]
    fn timeout_names_its_limit() {
        let timeout = CallError::Timeout(DeadlineExceeded::Total(Duration::from_mins(1)));
        let (status, text) = explain_call_error(&timeout, ToolEffect::Mutating);
        assert_eq!(status, ToolStatus::Timeout);
        assert!(text.contains("60 s. It is not known whether the call took effect."), "{text}");
    }

    #[test]
    fn unsent_call_changed_nothing() {
        let (status, text) = explain_call_error(&CallError::NotSent("not connected".into()), ToolEffect::Mutating);
        assert_eq!(status, ToolStatus::Error);
        assert!(text.contains("nothing has changed"), "{text}");
    }
}
