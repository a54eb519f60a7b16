//! What commands cause.

use k8sops_core::{
    CommandBody, EventAuthor, EventBody, EventDraft, InboxEntry, MessageFeedback, OnBusy, RunId, RunStarted,
    SessionCommand, SessionSettings, SettingsChanged, TitleChanged, UserMessageEvent, derive_title,
};

use super::{
    effects::{ActorEffect, MemoryQuery, RunStart},
    inputs::ActorTime,
    state::{OwnedSession, SessionActivity},
};
use crate::runtime::commands::next_message;

impl OwnedSession {
    /// Processes the commands that can take effect now. Messages stay in the inbox while a run is open.
    pub(super) fn process_inbox(&mut self, entries: &[InboxEntry], now: ActorTime, effects: &mut Vec<ActorEffect>) {
        let open = self.facts.open_run;
        let is_running = open.is_some() || matches!(self.activity, SessionActivity::Running { .. });
        let next = if is_running { None } else { next_message(entries) };
        let mut titled = self.facts.is_titled;
        let mut settings = self.facts.settings.clone();
        for InboxEntry { position, command, .. } in entries {
            let by = || EventAuthor::User(command.by.clone());
            let command_id = Some(command.command_id.clone());
            let event = match &command.body {
                CommandBody::Message { .. } => continue,
                // A cancel stays until its run has ended, so that the next owner finds it.
                CommandBody::Cancel { run_id: Some(run_id) }
                    if open == Some(*run_id) || entries.iter().any(|e| e.starts_run(*run_id)) =>
                {
                    continue;
                }
                CommandBody::Cancel { .. } => None,
                // The first answer counts; a second one may be in the same batch.
                CommandBody::Resolve { .. } => self.approval_answer_event(command, now),
                CommandBody::Answer { .. } => self.input_answer_event(command, now),
                CommandBody::Feedback { message_id, rating, comment } => {
                    let (message_id, rating, comment) = (*message_id, *rating, comment.clone());
                    let body = MessageFeedback { message_id, rating, comment, by: by(), command_id };
                    Some(EventDraft { ts: now.wall, run_id: None, body: EventBody::MessageFeedback(body) })
                }
                CommandBody::Settings(patch) => {
                    settings = patch.apply_to(&settings);
                    let body = SettingsChanged { settings: settings.clone(), by: by(), command_id };
                    Some(EventDraft { ts: now.wall, run_id: None, body: EventBody::SettingsChanged(body) })
                }
                CommandBody::Title { title } => {
                    titled = true;
                    let body = TitleChanged { title: title.clone(), by: by(), command_id };
                    Some(EventDraft { ts: now.wall, run_id: None, body: EventBody::TitleChanged(body) })
                }
            };
            self.queue.drafts.extend(event);
            self.queue.consumed.push(*position);
        }
        if let Some(entry) = next {
            self.start_run_from_message(entry, &settings, titled, now, effects);
        }
        if self.active_run().is_some_and(|run| entries.iter().any(|entry| cancels_run(entry, run))) {
            effects.push(ActorEffect::CancelRun);
        }
    }

    /// Queues a message and the start of its run, and starts the run.
    fn start_run_from_message(
        &mut self,
        entry: &InboxEntry,
        settings: &SessionSettings,
        titled: bool,
        now: ActorTime,
        effects: &mut Vec<ActorEffect>,
    ) {
        if let Some((drafts, start)) = self.message_start(&entry.command, settings, titled, now) {
            self.queue.drafts.extend(drafts);
            self.queue.consumed.push(entry.position);
            self.start_run(start, effects);
        }
    }

    /// Returns the events of a message and of the start of its run, and the run; `None` if the command is not a message.
    pub(super) fn message_start(
        &self,
        command: &SessionCommand,
        settings: &SessionSettings,
        titled: bool,
        now: ActorTime,
    ) -> Option<(Vec<EventDraft>, RunStart)> {
        let CommandBody::Message { message_id, run_id, content, attachments, cause, .. } = &command.body else {
            return None;
        };
        let title = derive_title(content);
        let titled = (!titled && !title.is_empty()).then(|| {
            let body = TitleChanged { title, by: EventAuthor::System, command_id: None };
            EventDraft { ts: now.wall, run_id: None, body: EventBody::TitleChanged(body) }
        });
        let message = UserMessageEvent {
            message_id: *message_id,
            content: content.clone(),
            attachments: attachments.iter().map(|sent| sent.attachment.clone()).collect(),
            command_id: Some(command.command_id.clone()),
        };
        let memory = self.policy.has_memory && settings.memory;
        let started = RunStarted {
            provider: settings.provider.clone(),
            model: settings.model.clone(),
            attempt: 1,
            cause: cause.clone(),
            memory,
        };
        let of_run = [EventBody::UserMessage(message), EventBody::RunStarted(started)];
        let of_run = of_run.map(|body| EventDraft { ts: now.wall, run_id: Some(*run_id), body });
        let start = RunStart {
            run_id: *run_id,
            provider: settings.provider.clone(),
            model: settings.model.clone(),
            cause: cause.clone(),
            attempt: 1,
            attachments: attachments.iter().filter(|sent| sent.whole.is_some()).cloned().collect(),
            recall: memory.then(|| MemoryQuery { user: command.by.clone(), message: content.clone() }),
        };
        Some((titled.into_iter().chain(of_run).collect(), start))
    }
}

/// Returns whether a command cancels a run: a cancel, or another message that interrupts.
fn cancels_run(entry: &InboxEntry, run: RunId) -> bool {
    match &entry.command.body {
        CommandBody::Cancel { run_id } => *run_id == Some(run),
        CommandBody::Message { on_busy, .. } => *on_busy == OnBusy::Interrupt && !entry.starts_run(run),
        _ => false,
    }
}
