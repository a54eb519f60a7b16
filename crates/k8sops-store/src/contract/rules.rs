//! The list of all rules.

use std::{future::Future, pin::Pin, sync::Arc};

use super::{inbox, memories, outputs, records, session_index, session_log, usage};
use k8sops_core::SessionStore;

/// A running check of a rule.
type RuleCheck = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A rule that every store follows.
pub struct ContractRule {
    /// The name of the rule: what holds, in words.
    pub name: &'static str,
    /// Checks the rule with an empty store; panics if the store breaks it.
    pub check: fn(Arc<dyn SessionStore>) -> RuleCheck,
}

macro_rules! rules {
    ($($module:ident::$name:ident),+ $(,)?) => {
        /// All rules.
        pub const RULES: &[ContractRule] =
            &[$(ContractRule { name: stringify!($name), check: |store| Box::pin($module::$name(store)) }),+];
    };
}

rules![
    session_log::committed_events_are_read_from_any_seq,
    session_log::old_epoch_is_fenced,
    session_log::released_lease_is_fenced,
    session_log::wrong_expected_seq_is_rejected,
    session_log::events_with_gaps_are_rejected,
    session_log::one_of_two_concurrent_writers_wins,
    session_log::lease_is_held_until_it_expires,
    session_log::checkpoint_and_later_events_equal_the_fold,
    session_log::chain_value_is_read_at_any_seq,
    session_log::commit_after_a_lost_branch_is_rejected,
    session_log::seqs_of_a_lost_branch_are_left_out,
    session_log::writes_are_confirmed,
    inbox::commands_are_consumed_with_the_commit,
    inbox::duplicate_command_returns_its_first_receipt,
    inbox::message_that_its_sender_submits_again_is_no_duplicate,
    inbox::summary_tells_whether_a_message_waits,
    inbox::busy_session_rejects_message_on_request,
    inbox::full_inbox_rejects_commands,
    inbox::new_command_is_committed_with_its_events,
    inbox::command_that_is_not_alone_is_declined,
    session_index::deleted_session_is_not_found_anywhere,
    session_index::busy_session_is_not_deleted_as_idle,
    session_index::session_id_is_unique,
    session_index::list_is_sorted_by_newest_activity,
    session_index::only_unfinished_sessions_are_claimed,
    session_index::unknown_session_is_not_found,
    memories::memories_outlive_their_session,
    memories::concurrent_memory_writes_conflict,
    memories::only_valid_memories_are_found,
    memories::embedding_spaces_are_separate,
    memories::embedding_upkeep_is_claimed_and_released,
    records::record_is_inserted_once_and_replaced,
    records::record_is_taken_by_one,
    records::expired_record_does_not_exist,
    usage::usage_is_kept_by_user_and_day,
    outputs::outputs_are_read_in_parts_and_deleted_with_their_session,
    outputs::oldest_outputs_are_dropped_at_the_limit,
    outputs::deployment_key_is_stable,
];
