//! Commands that wait for a session, and their receipts.

use std::time::Duration;

use async_trait::async_trait;

use super::{
    encoding::{StreamEntry, parse_json, to_json},
    lost_keys::name_foreign_key,
    scripts::{RestoreReceipts, RestoredReceipt, SubmitCommand, SubmitReply},
    store::{RedisStore, ReplySize},
};
use k8sops_core::{
    CommandId, CommandReceipt, INBOX_LIMIT, INBOX_LIMIT_ALL, Inbox, InboxEntry, LostMessages, NotificationTopic,
    REPLAY_PAGE_SIZE, SMALL_PAGE_SIZE, SessionCommand, SessionId, SessionLog as _, StoreError, UserId,
};

/// How many receipts of a session are kept.
pub(super) const RECEIPT_LIMIT: usize = 1000;
/// When a session with a new command is due to be claimed, in case the process that submits the command ends before an owner
/// is notified.
pub(super) const COMMAND_DUE_AFTER: Duration = Duration::from_secs(1);

#[async_trait]
impl Inbox for RedisStore {
    async fn submit_command(&self, session: SessionId, command: SessionCommand) -> Result<CommandReceipt, StoreError> {
        // The schedule comes first, so that the command is found even if this process ends right after the script.
        self.registry.schedule_session(session, COMMAND_DUE_AFTER).await?;
        let receipt = CommandReceipt::for_command(&command, 0);
        let submit = SubmitCommand {
            meta_key: self.keys.meta(session),
            log_key: self.keys.log(session),
            checkpoint_key: self.keys.checkpoint(session),
            inbox_key: self.keys.inbox(session),
            receipts_key: self.keys.receipts(session),
            receipt_order_key: self.keys.receipt_order(session),
            outputs_key: self.keys.outputs(session),
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
            publish_command: self.keys.publish_command(),
            log_channel: self.keys.session_channel(session, NotificationTopic::Log),
        };
        // May be sent twice if the reply is lost: the command id makes it idempotent.
        let mut reply = self.writes.run_script(&submit).await?;
        if reply == SubmitReply::ReceiptsMissing {
            self.restore_receipts(session).await?;
            reply = self.writes.run_script(&submit).await?;
        }
        match reply {
            SubmitReply::Accepted { seq } => Ok(CommandReceipt { seq, ..receipt }),
            SubmitReply::Known { receipt: known } => {
                let first = parse_receipt(&known)?;
                if !first.is_of_request(&command.fingerprint) {
                    return Err(StoreError::CommandIdReused);
                }
                Ok(first.for_known_command(&command))
            }
            SubmitReply::Busy => Err(StoreError::Busy(session)),
            SubmitReply::InboxFull { limit } => Err(StoreError::InboxFull(limit)),
            SubmitReply::ReceiptsMissing => Err(StoreError::Unavailable(
                format!("receipts of session {session} are removed again and again").into(),
            )),
            SubmitReply::NotFound => {
                self.registry.unschedule_session(session).await?;
                Err(self.registry.missing_session(session).await)
            }
            SubmitReply::Damaged { last_seq } => Err(self.explain_damage(session, last_seq).await),
        }
    }

    async fn find_receipt(
        &self,
        session: SessionId,
        by: &UserId,
        command: &CommandId,
    ) -> Result<Option<CommandReceipt>, StoreError> {
        let mut read = redis::pipe();
        read.cmd("HGET").arg(self.keys.meta(session)).arg("inbox");
        read.cmd("EXISTS").arg(self.keys.receipts(session));
        // Older versions kept receipts under the command id alone.
        let fields = [receipt_id(by, command), command.as_str().to_owned()];
        read.cmd("HMGET").arg(self.keys.receipts(session)).arg(&fields);
        let (position, has_receipts, receipts): (Option<u64>, bool, [Option<String>; 2]) =
            self.reads.query(&read).await?;
        let Some(position) = position else { return Err(self.registry.missing_session(session).await) };
        if position > 0 && !has_receipts {
            let mut restored = self.restore_receipts(session).await?.into_iter();
            return Ok(restored.find(|receipt| receipt.matches_command(by, command)));
        }
        receipts.into_iter().flatten().next().map(|receipt| parse_receipt(&receipt)).transpose()
    }

    async fn list_inbox(&self, session: SessionId) -> Result<Vec<InboxEntry>, StoreError> {
        // Nearly always, this is all.
        let mut entries = self.read_inbox(session, SMALL_PAGE_SIZE).await?;
        if entries.len() == SMALL_PAGE_SIZE {
            entries = self.read_inbox(session, INBOX_LIMIT_ALL).await?;
        }
        entries.iter().map(inbox_entry).collect()
    }

    async fn find_lost_messages(&self, session: SessionId) -> Result<LostMessages, StoreError> {
        // Before the inbox: a message that arrives in between is in the inbox only.
        let waiting: Option<i64> =
            self.reads.query(redis::cmd("HGET").arg(self.keys.meta(session)).arg("waiting")).await?;
        let waiting = waiting.and_then(|messages| u64::try_from(messages).ok()).unwrap_or(0);
        if waiting == 0 {
            return Ok(LostMessages::default());
        }
        let entries = self.list_inbox(session).await?;
        let queued = entries.iter().filter(|entry| entry.command.is_message()).count() as u64;
        let count = waiting.saturating_sub(queued);
        if count == 0 {
            return Ok(LostMessages::default());
        }
        let receipts: Vec<String> = self.bulk_reads.query(redis::cmd("HVALS").arg(self.keys.receipts(session))).await?;
        let receipts = receipts.iter().filter(|receipt| !receipt.is_empty()).map(|receipt| parse_receipt(receipt));
        let mut accepted: Vec<CommandReceipt> = receipts.collect::<Result<_, StoreError>>()?;
        accepted.retain(|receipt| receipt.message_id.is_some());
        let known = self.commands_of_session(session).await?;
        accepted.retain(|receipt| !known.iter().any(|known| known.message_id == receipt.message_id));
        accepted.sort_by_key(|receipt| receipt.seq);
        // Receipts of older messages may be of a part of the log that is not kept.
        let newest = accepted.len().saturating_sub(usize::try_from(count).unwrap_or(usize::MAX));
        Ok(LostMessages { count, runs: accepted[newest..].iter().filter_map(|receipt| receipt.run_id).collect() })
    }
}

impl RedisStore {
    /// Makes the receipts of a session again whose key is gone, as far as the log and the inbox know the commands.
    async fn restore_receipts(&self, session: SessionId) -> Result<Vec<CommandReceipt>, StoreError> {
        let mut known = self.commands_of_session(session).await?;
        known.drain(..known.len().saturating_sub(RECEIPT_LIMIT));
        let fields = known.iter().filter_map(|receipt| {
            let value = format!("{} ", receipt.seq).into_bytes();
            let id = receipt_id(receipt.by.as_ref()?, &receipt.command_id);
            Some(RestoredReceipt { id, value: [value, to_json(receipt)].concat() })
        });
        let restore = RestoreReceipts {
            meta_key: self.keys.meta(session),
            receipts_key: self.keys.receipts(session),
            receipt_order_key: self.keys.receipt_order(session),
            session_ttl_ms: self.session_ttl,
            receipts: fields.collect(),
        };
        self.writes.run_script(&restore).await?;
        tracing::warn!(%session, restored = known.len(), "receipts of a session are gone or older ones, made again from its log");
        Ok(known)
    }

    /// The receipts of the commands that the log and the inbox of a session have, the oldest first.
    async fn commands_of_session(&self, session: SessionId) -> Result<Vec<CommandReceipt>, StoreError> {
        let Some(owner) = self.registry.session_user(session).await? else {
            return Err(self.registry.missing_session(session).await);
        };
        // Before the log: a command that is consumed in between is in both.
        let mut queued = self.list_inbox(session).await?;
        let mut known = Vec::new();
        let mut after = 0;
        loop {
            let page = self.read_events(session, after, REPLAY_PAGE_SIZE).await?;
            known.extend(page.events.iter().filter_map(|event| CommandReceipt::from_event(event, &owner)));
            match page.events.last() {
                Some(last) if last.seq < page.last_seq => after = last.seq,
                _ => break,
            }
        }
        queued.retain(|InboxEntry { command, .. }| {
            !known.iter().any(|known: &CommandReceipt| known.matches_command(&command.by, &command.command_id))
        });
        known.extend(queued.iter().map(|entry| CommandReceipt::for_command(&entry.command, entry.accepted_seq)));
        Ok(known)
    }
}

impl RedisStore {
    /// The oldest commands of a session's inbox.
    async fn read_inbox(&self, session: SessionId, limit: usize) -> Result<Vec<StreamEntry>, StoreError> {
        let mut read = redis::pipe();
        read.cmd("EXISTS").arg(self.keys.log(session)).cmd("EXISTS").arg(self.keys.meta(session));
        read.cmd("XRANGE").arg(self.keys.inbox(session)).arg("-").arg("+").arg("COUNT").arg(limit);
        let found = self.read(&read, ReplySize::of_page(limit)).await;
        let (has_log, exists, entries): (bool, bool, Vec<StreamEntry>) = match found {
            Ok(found) => found,
            Err(error) => return Err(name_foreign_key(&self.reads, &self.keys, session, error).await),
        };
        if exists && has_log { Ok(entries) } else { Err(self.registry.missing_session(session).await) }
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
