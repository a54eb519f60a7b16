//! What an owner does with the commands that wait for it.

use super::Owner;
use crate::runtime::commands::next_message;
use k8sops_core::{
    CommandBody, EventAuthor, EventBody, EventDraft, InboxEntry, OnBusy, SettingsChanged, StoreError, TitleChanged,
};

impl Owner<'_> {
    /// Takes out of the inbox what can be done now. A message waits there while a run is in progress.
    pub(super) async fn take_commands(&mut self) -> Result<(), StoreError> {
        let entries = self.shared.parts.store.list_inbox(self.held.lease.session).await?;
        let open = self.projection.read(|state| state.summary.open_run);
        let next = if open.is_some() || self.run.is_some() { None } else { next_message(&entries) };
        let mut titled = self.projection.read(|state| !state.summary.title.is_empty());
        let mut settings = self.projection.read(|state| state.summary.settings.clone());
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
                // It stays until its run has ended: an owner after this one must find it.
                CommandBody::Cancel { run_id: Some(run_id) } if entries.iter().any(|e| e.begins(*run_id)) => continue,
                CommandBody::Cancel { run_id: Some(run_id) } if open == Some(*run_id) => {
                    self.cancel_run(*run_id);
                    continue;
                }
                CommandBody::Cancel { .. } => None,
                // The first answer counts; the next may be in the same look.
                CommandBody::Resolve { .. } => self.resolve(command),
                CommandBody::Answer { .. } => self.answer(command),
                CommandBody::Settings(patch) => {
                    settings = patch.apply(&settings);
                    let body = SettingsChanged { settings: settings.clone(), by: by(), command_id };
                    Some(EventDraft::new(EventBody::SettingsChanged(body)))
                }
                CommandBody::Title { title } => {
                    titled = true;
                    let body = TitleChanged { title: title.clone(), by: by(), command_id };
                    Some(EventDraft::new(EventBody::TitleChanged(body)))
                }
            };
            self.writer.push(done);
            self.writer.consume(*position);
        }
        if let Some(entry) = next {
            self.begin_run(entry, &settings, titled);
        }
        Ok(())
    }
}
