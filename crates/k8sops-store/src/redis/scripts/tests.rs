//! What holds for every script: rights, positions and tags.

use std::collections::BTreeSet;

use super::*;
use crate::redis::script::Script;

/// What is checked of a script: its text with the declared locals, and the tags of its reply.
struct CheckedScript {
    text: &'static str,
    tags: &'static [&'static str],
}

fn checked<S: Script>() -> CheckedScript {
    CheckedScript { text: S::source().text(), tags: S::Reply::TAGS }
}

fn all_scripts() -> [CheckedScript; 23] {
    [
        checked::<CreateSession>(),
        checked::<CommitEvents>(),
        checked::<ReportLostBranch>(),
        checked::<SubmitCommand>(),
        checked::<MarkWrite>(),
        checked::<RestoreReceipts>(),
        checked::<AcquireLease>(),
        checked::<RenewLease>(),
        checked::<ReleaseLease>(),
        checked::<DeleteSession>(),
        checked::<AppendPreview>(),
        checked::<AnnounceWatcher>(),
        checked::<WriteOutputs>(),
        checked::<ScheduleSession>(),
        checked::<UnscheduleIfUnchanged>(),
        checked::<ClaimDueSessions>(),
        checked::<ReadMemoryVersion>(),
        checked::<WriteMemories>(),
        checked::<DeleteMemories>(),
        checked::<ClaimEmbeddingUpkeep>(),
        checked::<PutRecord>(),
        checked::<TakeRecord>(),
        checked::<ListMissingRights>(),
    ]
}

#[test]
fn rights_are_checked_for_each_command_of_a_script() {
    let mut commands = BTreeSet::new();
    for script in all_scripts() {
        let calls = script.text.split("call('").skip(1).filter_map(|rest| rest.split_once('\''));
        commands.extend(calls.map(|(command, _)| command));
    }
    // Vector sets and `INFO` are used where they can be.
    commands.retain(|command| *command != "INFO" && !command.starts_with('V'));
    assert_eq!(commands, BTreeSet::from(SCRIPT_COMMANDS));
}

#[test]
fn scripts_use_no_position() {
    for script in all_scripts() {
        let body = script.text.split_once("--").expect("a script begins with a comment").1;
        assert!(!body.contains("ARGV") && !body.contains("KEYS["), "{body}");
    }
}

#[test]
fn reply_has_a_variant_for_each_tag() {
    for script in all_scripts() {
        let returned: BTreeSet<&str> = script
            .text
            .split("return {'")
            .skip(1)
            .filter_map(|rest| rest.split_once('\'').map(|(tag, _)| tag))
            .collect();
        let declared: BTreeSet<&str> = script.tags.iter().copied().collect();
        assert_eq!(returned, declared, "{}", script.text);
    }
}

#[test]
fn unknown_tag_is_an_error_that_names_it() {
    let reply = Value::Array(vec![Value::BulkString(b"maybe".to_vec())]);
    let error = RenewReply::from_redis_value(reply).unwrap_err();
    assert!(error.to_string().contains("maybe"), "{error}");
    let fenced = Value::Array(vec![Value::BulkString(b"fenced".to_vec()), Value::Int(7)]);
    assert_eq!(RenewReply::from_redis_value(fenced).unwrap(), RenewReply::Fenced { current_epoch: 7 });
}
