//! Processes the inbox.

use super::SessionActor;
use crate::runtime::commands::next_message;
use k8sops_core::{
    CommandBody, EventAuthor, EventBody, EventDraft, InboxEntry, LostMessages, OnBusy, SessionWarning, SettingsChanged,
    StoreError, TitleChanged,
};

fn message_lost(count: u64) -> EventBody {
    EventBody::Warning(SessionWarning::message_lost(count))
}

impl SessionActor<'_> {
    /// Says in the log which accepted messages the store has lost.
    pub(super) async fn announce_lost_messages(&mut self) -> Result<(), StoreError> {
        let session = self.held.lease.session;
        let LostMessages { count, runs } = self.shared.dependencies.store.find_lost_messages(session).await?;
        if count == 0 {
            return Ok(());
        }
        tracing::error!(%session, count, "store lost accepted messages");
        let unnamed = count.saturating_sub(runs.len() as u64);
        let named = runs.into_iter().map(|run_id| EventDraft::in_run(run_id, message_lost(1)));
        self.writer.queue_events(named.collect::<Vec<_>>());
        self.writer.queue_events((unnamed > 0).then(|| EventDraft::new(message_lost(unnamed))));
        Ok(())
    }

    /// Processes the commands that can take effect now. Messages stay in the inbox while a run is open.
    pub(super) async fn process_inbox(&mut self) -> Result<(), StoreError> {
        let entries = self.shared.dependencies.store.list_inbox(self.held.lease.session).await?;
        let open = self.projection.read(|state| state.summary.open_run);
        let next = if open.is_some() || self.run.is_some() { None } else { next_message(&entries) };
        let mut titled = self.projection.read(|state| !state.summary.title.is_empty());
        let mut settings = self.projection.read(|state| state.summary.settings.clone());
        let mut consumed = 0;
        for InboxEntry { position, command, .. } in &entries {
            let by = || EventAuthor::User(command.by.clone());
            let command_id = Some(command.command_id.clone());
            let done = match &command.body {
                CommandBody::Message { on_busy, .. } => {
                    if *on_busy == OnBusy::Interrupt
                        && let Some(open) = open
                    {
                        self.cancel_run(open);
                    }
                    continue;
                }
                // A cancel stays until its run has ended, so that the next owner finds it.
                CommandBody::Cancel { run_id: Some(run_id) } if entries.iter().any(|e| e.starts_run(*run_id)) => {
                    continue;
                }
                CommandBody::Cancel { run_id: Some(run_id) } if open == Some(*run_id) => {
                    self.cancel_run(*run_id);
                    continue;
                }
                CommandBody::Cancel { .. } => None,
                // The first answer counts; a second one may be in the same batch.
                CommandBody::Resolve { .. } => self.approval_answer_event(command),
                CommandBody::Answer { .. } => self.input_answer_event(command),
                CommandBody::Settings(patch) => {
                    settings = patch.apply_to(&settings);
                    let body = SettingsChanged { settings: settings.clone(), by: by(), command_id };
                    Some(EventDraft::new(EventBody::SettingsChanged(body)))
                }
                CommandBody::Title { title } => {
                    titled = true;
                    let body = TitleChanged { title: title.clone(), by: by(), command_id };
                    Some(EventDraft::new(EventBody::TitleChanged(body)))
                }
            };
            self.writer.queue_events(done);
            self.writer.consume_inbox_entry(*position);
            consumed += 1;
        }
        self.inbox_has_rest = entries.len() > consumed + usize::from(next.is_some());
        if let Some(entry) = next {
            self.start_run_from_message(entry, &settings, titled);
        }
        Ok(())
    }
}
