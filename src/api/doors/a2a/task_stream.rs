//! The updates of a task as a stream of server-sent events.

use actix_web::HttpResponse;
use k8sops_core::StreamFrame;
use serde_json::{Value, json};

use super::{
    a2a_error::{A2aError, A2aErrorKind},
    task_builder::TaskBuilder,
    task_query::{ArtifactInclusion, HistoryLength},
    task_resource::StreamItem,
};
use crate::api::{
    doors::{
        preceding_run::PrecedingWait,
        run_cursor::{RunInterruption, RunRest},
        turn_stream::TurnEncoder,
    },
    negotiation::SSE,
};

/// The form of what a binding returns.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum BindingForm {
    /// Responses to the JSON-RPC request with this id.
    JsonRpc(Value),
    /// The bare items.
    HttpJson,
}

impl BindingForm {
    /// Returns a result as JSON.
    pub(super) fn express(&self, result: Value) -> Value {
        match self {
            Self::JsonRpc(id) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
            Self::HttpJson => result,
        }
    }

    fn write_item(&self, item: &StreamItem, out: &mut String) {
        let item = self.express(serde_json::to_value(item).unwrap_or_default());
        out.push_str(&format!("data: {item}\n\n"));
    }

    /// Returns a stream that is an item alone.
    pub(super) fn single_item_stream(&self, item: &StreamItem) -> HttpResponse {
        let mut body = String::new();
        self.write_item(item, &mut body);
        HttpResponse::Ok().content_type(SSE).insert_header(("cache-control", "no-store")).body(body)
    }
}

/// Writes the updates of a task.
pub(super) struct TaskEncoder {
    task: TaskBuilder,
    form: BindingForm,
    history: HistoryLength,
    updates: Vec<StreamItem>,
}

impl TaskEncoder {
    pub(super) fn new(task: TaskBuilder, form: BindingForm, history: HistoryLength) -> Self {
        Self { task, form, history, updates: Vec::new() }
    }

    fn write_updates(&mut self, out: &mut String) {
        for item in self.updates.drain(..) {
            self.form.write_item(&item, out);
        }
    }

    /// Writes that the stream ends though the task goes on.
    fn write_interruption(&self, why: &RunInterruption, out: &mut String) {
        let mut message = why.message();
        if why.is_temporary() {
            message.push_str("; subscribe to the task");
        }
        let error = A2aError::new(A2aErrorKind::Internal, message).of_task(self.task.id());
        match &self.form {
            BindingForm::JsonRpc(id) => out.push_str(&format!("data: {}\n\n", error.to_rpc(id))),
            BindingForm::HttpJson => out.push_str(&format!("event: error\ndata: {}\n\n", error.to_status())),
        }
    }
}

impl TurnEncoder for TaskEncoder {
    fn encode_start(&mut self, out: &mut String) {
        let task = self.task.resource(self.history, ArtifactInclusion::Included);
        self.form.write_item(&StreamItem::Task(Box::new(task)), out);
    }

    fn encode_frame(&mut self, frame: &StreamFrame, out: &mut String) {
        self.task.apply_frame(frame, &mut self.updates);
        self.write_updates(out);
    }

    fn encode_blocked(&mut self, wait: &PrecedingWait, out: &mut String) {
        self.task.wait_behind(wait, &mut self.updates);
        self.write_updates(out);
    }

    fn encode_rest(&mut self, rest: &RunRest, out: &mut String) {
        self.task.apply_rest(rest, &mut self.updates);
        self.write_updates(out);
        if let RunRest::Interrupted(why) = rest
            && *why != RunInterruption::MessageLost
        {
            self.write_interruption(why, out);
        }
    }
}
