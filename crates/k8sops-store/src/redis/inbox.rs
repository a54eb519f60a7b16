//! Commands that wait for a session, and their receipts.

use std::time::Duration;

use async_trait::async_trait;

use super::{
    encoding::{StreamEntry, parse_json, to_json},
    scripts::{SubmitCommand, SubmitReply},
    store::{RedisStore, ReplySize, SMALL_PAGE},
};
use k8sops_core::{
    CommandId, CommandReceipt, INBOX_LIMIT, INBOX_LIMIT_ALL, Inbox, InboxEntry, NotificationTopic, SessionCommand,
    SessionId, StoreError, UserId,
};

/// How many receipts of a session are kept.
const RECEIPT_LIMIT: usize = 1000;
/// When a session with a new command is due to be claimed, in case the process that submits the command ends before an owner
/// is notified.
const COMMAND_DUE_AFTER: Duration = Duration::from_secs(1);

#[async_trait]
impl Inbox for RedisStore {
    async fn submit_command(&self, session: SessionId, command: SessionCommand) -> Result<CommandReceipt, StoreError> {
        // The schedule comes first, so that the command is found even if this process ends right after the script.
        self.registry.schedule_session(session, COMMAND_DUE_AFTER).await?;
        let receipt = CommandReceipt::for_command(&command, 0);
        let submit = SubmitCommand {
            meta_key: self.keys.meta(session),
            inbox_key: self.keys.inbox(session),
            receipts_key: self.keys.receipts(session),
            receipt_order_key: self.keys.receipt_order(session),
            receipt_id: receipt_id(&command.by, &command.command_id),
            command_id: command.command_id.as_str().to_owned(),
            receipt: to_json(&receipt),
            command: to_json(&command),
            is_message: command.is_message(),
            only_if_idle: command.only_if_idle(),
            message_limit: INBOX_LIMIT,
            command_limit: INBOX_LIMIT_ALL,
            receipt_limit: RECEIPT_LIMIT,
            session_ttl_ms: self.session_ttl,
            inbox_channel: self.keys.session_channel(session, NotificationTopic::Inbox),
        };
        // May be sent twice if the reply is lost: the command id makes it idempotent.
        match self.writes.run_script(&submit).await? {
            SubmitReply::Accepted { seq } => Ok(CommandReceipt { seq, ..receipt }),
            SubmitReply::Known { receipt: known } => {
                let first = parse_receipt(&known)?;
                if first.fingerprint != command.fingerprint {
                    return Err(StoreError::CommandIdReused);
                }
                // A run id is generated for each submission: the same one means that only the reply was lost.
                let is_same_submission = command.is_message() && first.run_id == receipt.run_id;
                Ok(CommandReceipt { duplicate: !is_same_submission, ..first })
            }
            SubmitReply::Busy => Err(StoreError::Busy(session)),
            SubmitReply::InboxFull { limit } => Err(StoreError::InboxFull(limit)),
            SubmitReply::NotFound => {
                self.registry.unschedule_session(session).await?;
                Err(StoreError::NotFound(session))
            }
        }
    }

    async fn find_receipt(
        &self,
        session: SessionId,
        by: &UserId,
        command: &CommandId,
    ) -> Result<Option<CommandReceipt>, StoreError> {
        let mut read = redis::pipe();
        read.cmd("EXISTS").arg(self.keys.meta(session));
        // Older versions kept receipts under the command id alone.
        let fields = [receipt_id(by, command), command.as_str().to_owned()];
        read.cmd("HMGET").arg(self.keys.receipts(session)).arg(&fields);
        let (exists, receipts): (bool, [Option<String>; 2]) = self.reads.query(&read).await?;
        if !exists {
            return Err(StoreError::NotFound(session));
        }
        receipts.into_iter().flatten().next().map(|receipt| parse_receipt(&receipt)).transpose()
    }

    async fn list_inbox(&self, session: SessionId) -> Result<Vec<InboxEntry>, StoreError> {
        // Nearly always, this is all.
        let mut entries = self.read_inbox(session, SMALL_PAGE).await?;
        if entries.len() == SMALL_PAGE {
            entries = self.read_inbox(session, INBOX_LIMIT_ALL).await?;
        }
        entries.iter().map(inbox_entry).collect()
    }
}

impl RedisStore {
    /// The oldest commands of a session's inbox.
    async fn read_inbox(&self, session: SessionId, limit: usize) -> Result<Vec<StreamEntry>, StoreError> {
        let mut read = redis::pipe();
        read.cmd("EXISTS").arg(self.keys.meta(session));
        read.cmd("XRANGE").arg(self.keys.inbox(session)).arg("-").arg("+").arg("COUNT").arg(limit);
        let (exists, entries): (bool, Vec<StreamEntry>) = self.read(&read, ReplySize::of_page(limit)).await?;
        if exists { Ok(entries) } else { Err(StoreError::NotFound(session)) }
    }
}

fn inbox_entry(entry: &StreamEntry) -> Result<InboxEntry, StoreError> {
    let accepted_seq = entry.field("seq")?.parse();
    Ok(InboxEntry {
        position: entry.position()?,
        accepted_seq: accepted_seq.map_err(|error| StoreError::corrupt("the seq of a queued command", error))?,
        command: parse_json("a queued command", entry.field("command")?)?,
    })
}

/// The field of a receipt: a command id is unique per sender. A user id has no spaces.
pub(super) fn receipt_id(by: &UserId, command: &CommandId) -> String {
    format!("{by} {}", command.as_str())
}

/// Parses a receipt as `submit_command.lua` writes it: the seq, a space, JSON.
fn parse_receipt(stored: &str) -> Result<CommandReceipt, StoreError> {
    let (seq, receipt) = stored.split_once(' ').unwrap_or(("", stored));
    let seq = seq.parse().map_err(|error| StoreError::corrupt("the seq of a command receipt", error))?;
    Ok(CommandReceipt { seq, ..parse_json("a command receipt", receipt)? })
}
