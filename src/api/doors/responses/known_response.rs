//! A response whose text is known: it has no run and no session, and cannot be read again.

use actix_web::HttpResponse;
use k8sops_core::TokenUsage;
use uuid::Uuid;

use super::{
    event_number::TextKind,
    event_writer::EventWriter,
    item_text::OpenText,
    response_item::MessagePhase,
    response_request::ResponseForm,
    response_resource::{ResponseResource, ResponseStatus},
};
use crate::api::doors::turn_stream::sse_response;

/// Returns a response with a text.
pub(super) fn respond_with_text(text: String, form: ResponseForm) -> HttpResponse {
    let id = Uuid::new_v4().simple();
    let mut events = EventWriter::new(ResponseResource::without_run(format!("resp_{id}")), None);
    let mut out = String::new();
    events.resource.status = ResponseStatus::InProgress;
    events.write_response("response.created", &mut out);
    events.write_response("response.in_progress", &mut out);
    let phase = Some(MessagePhase::FinalAnswer);
    OpenText::write_whole(TextKind::Text, format!("msg_{id}"), text, phase, &mut events, &mut out);
    events.resource.complete(TokenUsage::default());
    events.write_response("response.completed", &mut out);
    out.push_str("data: [DONE]\n\n");
    match form {
        ResponseForm::Whole => HttpResponse::Ok().json(events.resource),
        ResponseForm::Events => sse_response().body(out),
    }
}
