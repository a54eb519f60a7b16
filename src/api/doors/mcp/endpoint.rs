//! `/mcp`.

use actix_web::{
    HttpRequest, HttpResponse, get,
    http::{StatusCode, header},
    post, web,
};
use k8sops_core::SessionId;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::IntoParams;

use super::{
    ask_result::{complete_result, failed_call, rejected_call},
    ask_turn::{AskFailure, AskTurn, json_response},
    client_protocol::{
        ClientProtocol, ClientSession, ElicitationSupport, PER_REQUEST_VERSIONS, ProtocolEra, negotiate_version,
    },
    elicitation::{InteractionKey, read_answer},
    json_rpc::{ClientMessage, JsonRpcMessage, JsonRpcResponse, RpcError, RpcRequest, result_json},
    request_cancel::cancel_request,
    session_report::report_session,
    stream_token::{StreamToken, decode_token},
    tool_definitions::{ASK, GET_SESSION, INSTRUCTIONS, describe_tools, parse_session},
};
use crate::api::{
    caller::Caller,
    doors::{door_body::JsonBody, turn_follower::OnDisconnect, turn_opening::TurnOpener},
    error_responses::document_errors,
    extractors::QueryParameters,
    problem::ProblemDetails,
    problem_code::ProblemCode,
    state::ApiState,
};

document_errors!(
    McpErrors: InvalidJson, InvalidRequest, RoleRequired, ApproverRequired, SessionNotFound, SessionDamaged, DoesNotFit,
    PayloadTooLarge, TooManyStreams, StoreUnavailable, Stopping
);

/// How long clients may keep the list of tools, in milliseconds. It changes only with the version of the service.
const LIST_TTL_MS: u64 = 3_600_000;

/// Options of the endpoint.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct McpQuery {
    /// What happens to the run of `ask` if the client disconnects. By default the protocol decides: the run goes on up to version
    /// 2025-11-25, and is cancelled from 2026-07-28 on.
    #[serde(default)]
    #[param(inline)]
    on_disconnect: Option<OnDisconnect>,
}

/// Answers a message of an MCP client.
///
/// The server has the tools `ask` and `get_session`. A call of `ask` is answered by a stream with progress, elicitations and the
/// result; other requests by one message. Approvals are elicited from the user of the client; there is no tool for them. Versions
/// 2024-11-05 to 2026-07-28 of the protocol are spoken, without state: any replica answers any request.
#[utoipa::path(
    operation_id = "send_mcp_message", tag = "door: mcp",
    params(
        McpQuery,
        ("mcp-protocol-version" = Option<String>, Header, description = "The version of the protocol"),
        ("mcp-session-id" = Option<String>, Header, description = "The id that `initialize` returned"),
    ),
    request_body = JsonRpcMessage,
    responses(
        (status = 200, description = "The response to a request, or a stream that ends with it", content(
            (JsonRpcResponse = "application/json"), (String = "text/event-stream"),
        )),
        (status = 202, description = "A notification or a response was accepted"),
        McpErrors
    )
)]
#[post("/mcp")]
pub(in crate::api) async fn send_mcp_message(
    request: HttpRequest,
    state: web::Data<ApiState>,
    caller: Caller,
    QueryParameters(query): QueryParameters<McpQuery>,
    body: JsonBody,
) -> Result<HttpResponse, ProblemDetails> {
    let id = request_id(&body.0);
    let message = match JsonRpcMessage::from_json(body.0).and_then(JsonRpcMessage::classify) {
        Ok(message) => message,
        Err(error) => return Ok(error.response(id)),
    };
    let rpc_request = match &message {
        ClientMessage::Request(request) => Some(request),
        _ => None,
    };
    let protocol = match ClientProtocol::negotiate(request.headers(), rpc_request) {
        Ok(protocol) => protocol,
        Err(error) => return Ok(error.response(rpc_request.map(|request| request.id.clone()))),
    };
    let exchange = McpExchange { state, caller, protocol, on_disconnect: query.on_disconnect };
    match message {
        ClientMessage::Request(request) => Ok(match exchange.answer(&request).await {
            Ok(response) => response,
            Err(error) => error.response(Some(request.id)),
        }),
        ClientMessage::Notification { method, params } => {
            if method == "notifications/cancelled" {
                let (state, caller) = (&exchange.state, &exchange.caller);
                cancel_request(state, caller, &exchange.protocol, &params["requestId"]).await?;
            }
            Ok(HttpResponse::Accepted().finish())
        }
        ClientMessage::Response { id, result } => exchange.take_response(&id, result).await,
    }
}

/// Opens the stream of an earlier call of `ask` again.
///
/// `Last-Event-ID` names the stream. The run is followed to its result on any replica, also if it has ended meanwhile. There is
/// no stream without it.
#[utoipa::path(
    operation_id = "resume_mcp_stream", tag = "door: mcp",
    params(
        McpQuery,
        ("last-event-id" = Option<String>, Header, description = "The id with which the stream began"),
        ("mcp-protocol-version" = Option<String>, Header, description = "The version of the protocol"),
        ("mcp-session-id" = Option<String>, Header, description = "The id that `initialize` returned"),
    ),
    responses(
        (status = 200, description = "The rest of the stream", body = String, content_type = "text/event-stream"),
        (status = 405, description = "There is no stream without `Last-Event-ID`"),
        McpErrors
    )
)]
#[get("/mcp")]
pub(in crate::api) async fn resume_mcp_stream(
    request: HttpRequest,
    state: web::Data<ApiState>,
    caller: Caller,
    QueryParameters(query): QueryParameters<McpQuery>,
) -> Result<HttpResponse, ProblemDetails> {
    let protocol = match ClientProtocol::negotiate(request.headers(), None) {
        Ok(protocol) => protocol,
        Err(error) => return Ok(error.response(None)),
    };
    let last_event_id = request.headers().get("last-event-id").and_then(|value| value.to_str().ok());
    let Some(id) = last_event_id.filter(|_| protocol.era == ProtocolEra::Handshake) else {
        let detail =
            "there is no stream without Last-Event-ID, and none to open again from version 2026-07-28 on; use POST";
        let mut response = HttpResponse::from_error(ProblemDetails::new(ProblemCode::MethodNotAllowed, detail));
        response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("POST"));
        return Ok(response);
    };
    let Some(token) = decode_token::<StreamToken>(id) else {
        return Err(ProblemDetails::invalid("Last-Event-ID is not the id of a stream of this server"));
    };
    let exchange = McpExchange { state, caller, protocol, on_disconnect: query.on_disconnect };
    exchange.ask_turn().resume(&token).await
}

/// A client, and what it speaks.
struct McpExchange {
    state: web::Data<ApiState>,
    caller: Caller,
    protocol: ClientProtocol,
    on_disconnect: Option<OnDisconnect>,
}

impl McpExchange {
    async fn answer(&self, request: &RpcRequest) -> Result<HttpResponse, RpcError> {
        let is_handshake = self.protocol.era == ProtocolEra::Handshake;
        let result = match request.method.as_str() {
            "initialize" if is_handshake => return Ok(initialize(request)),
            "ping" if is_handshake => json!({}),
            "server/discover" if !is_handshake => with_cache_hints(describe_server()),
            "tools/list" if is_handshake => json!({"tools": describe_tools()}),
            "tools/list" => with_cache_hints(json!({"tools": describe_tools()})),
            "tools/call" => return self.call_tool(request).await,
            method => {
                // Clients up to 2025-11-25 take another status for a broken connection.
                let status = if is_handshake { StatusCode::OK } else { StatusCode::NOT_FOUND };
                return Err(RpcError::method_not_found(method, status));
            }
        };
        Ok(json_response(result_json(&request.id, complete_result(result, self.protocol.era))))
    }

    async fn call_tool(&self, request: &RpcRequest) -> Result<HttpResponse, RpcError> {
        let era = self.protocol.era;
        let result = match request.params["name"].as_str() {
            Some(ASK) => match self.ask_turn().respond(request).await {
                Ok(response) => return Ok(response),
                Err(AskFailure::Protocol(error)) => return Err(error),
                Err(AskFailure::Rejected(problem)) => rejected_call(&problem, era),
            },
            Some(GET_SESSION) => match parse_session(&request.params["arguments"]) {
                Ok(Some(session)) => match report_session(&self.state, &self.caller, session, era).await {
                    Ok(report) => report,
                    Err(problem) => rejected_call(&problem, era),
                },
                Ok(None) => failed_call("`session_id` is missing", era),
                Err(why) => failed_call(&why, era),
            },
            Some(name) => return Err(RpcError::invalid_params(format!("there is no tool {name:?}"))),
            None => return Err(RpcError::invalid_params("`name` is missing")),
        };
        Ok(json_response(result_json(&request.id, result)))
    }

    /// Takes the response to an elicitation. The run that waits for it may be followed by another replica.
    async fn take_response(&self, id: &Value, result: Result<Value, Value>) -> Result<HttpResponse, ProblemDetails> {
        let Some((session, key)) = InteractionKey::parse_request_id(id) else {
            return Ok(RpcError::invalid_request("this server has sent no request with this id").response(None));
        };
        // A client that cannot show the form turns away from it, as its user can.
        let response = result.unwrap_or_else(|_| turned_away());
        self.give_answer(session, key, &response).await?;
        Ok(HttpResponse::Accepted().finish())
    }

    async fn give_answer(
        &self,
        session: SessionId,
        key: InteractionKey,
        response: &Value,
    ) -> Result<(), ProblemDetails> {
        let opener = TurnOpener { state: &self.state, identity: &self.caller.identity, session };
        let waiting = opener.find_waiting().await?;
        let Some(answer) = read_answer(key, response, &waiting) else { return Ok(()) };
        let mut sent = opener.send_answers(vec![answer]).await;
        if sent.as_ref().is_err_and(|problem| problem.code == ProblemCode::DoesNotFit)
            && let Some(cancel) = read_answer(key, &turned_away(), &waiting)
        {
            // The form is shown once, so that the run would wait for the whole time that it may.
            sent = opener.send_answers(vec![cancel]).await;
        }
        match sent {
            // Someone else was faster.
            Err(problem) if matches!(problem.code, ProblemCode::ApprovalClosed | ProblemCode::InputClosed) => Ok(()),
            sent => sent.map(drop),
        }
    }

    fn ask_turn(&self) -> AskTurn<'_> {
        let by_era = match self.protocol.era {
            ProtocolEra::Handshake => OnDisconnect::Continue,
            ProtocolEra::PerRequest => OnDisconnect::Cancel,
        };
        let (state, caller, protocol) = (&self.state, &self.caller, &self.protocol);
        AskTurn { state, caller, protocol, on_disconnect: self.on_disconnect.unwrap_or(by_era) }
    }
}

/// Returns the id of a request that may be invalid otherwise.
fn request_id(body: &Value) -> Option<Value> {
    let id = body.get("id").filter(|id| id.is_string() || id.is_i64() || id.is_u64())?;
    body.get("method").is_some().then(|| id.clone())
}

/// The answer of a user who does not answer.
fn turned_away() -> Value {
    json!({"action": "cancel"})
}

fn server_info() -> Value {
    json!({"name": env!("CARGO_PKG_NAME"), "title": "k8sops", "version": env!("CARGO_PKG_VERSION")})
}

fn initialize(request: &RpcRequest) -> HttpResponse {
    let requested = request.params["protocolVersion"].as_str().unwrap_or_default();
    let result = json!({
        "protocolVersion": negotiate_version(requested),
        "capabilities": {"tools": {}},
        "serverInfo": server_info(),
        "instructions": INSTRUCTIONS,
    });
    let session = ClientSession::new(ElicitationSupport::from_capabilities(&request.params["capabilities"]));
    let mut response = json_response(result_json(&request.id, result));
    let (name, value) = session.header();
    if let Ok(value) = value.parse() {
        response.headers_mut().insert(header::HeaderName::from_static(name), value);
    }
    response
}

fn describe_server() -> Value {
    json!({
        "supportedVersions": PER_REQUEST_VERSIONS,
        "capabilities": {"tools": {}},
        "instructions": INSTRUCTIONS,
        "_meta": {"io.modelcontextprotocol/serverInfo": server_info()},
    })
}

fn with_cache_hints(mut result: Value) -> Value {
    result["ttlMs"] = LIST_TTL_MS.into();
    result["cacheScope"] = "public".into();
    result
}
