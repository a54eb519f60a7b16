//! An MCP server over streamable HTTP that counts its calls. It has two tools: `look` is read-only, `change` is
//! mutating. The argument `id` is unique per call, so that a repeated call is detected.

use parking_lot::Mutex;
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use actix_web::{App, HttpResponse, HttpServer, web};
use serde_json::{Value, json};

/// Milliseconds that a call takes.
const CALL_MS: std::ops::Range<u64> = 20..300;

/// Milliseconds that the handshake takes. Real servers are slow to connect too, and a replica may have work before.
const HANDSHAKE_MS: std::ops::Range<u64> = 0..1_500;

/// An execution of a call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ToolExecution {
    /// The index of the replica that sent the call.
    pub replica: usize,
    pub at: Instant,
}

/// The executions of each call, by tool and `id`. A call counts when it arrives, because its effect takes place even if the
/// caller disconnects before the response.
#[derive(Clone, Default)]
pub(crate) struct ToolExecutions(Arc<Mutex<HashMap<ToolCallKey, Vec<ToolExecution>>>>);

/// A tool and its argument `id`.
type ToolCallKey = (String, String);

impl ToolExecutions {
    /// Returns how often a call was executed.
    pub(crate) fn count_of_call(&self, tool: &str, id: &str) -> usize {
        self.0.lock().get(&(tool.to_owned(), id.to_owned())).map_or(0, Vec::len)
    }

    /// Returns the ids of a tool's calls, each with its executions.
    pub(crate) fn calls_of_tool(&self, tool: &str) -> Vec<(String, Vec<ToolExecution>)> {
        let executions = self.0.lock();
        executions
            .iter()
            .filter(|((name, _), _)| name == tool)
            .map(|((_, id), all)| (id.clone(), all.clone()))
            .collect()
    }

    fn record_call(&self, tool: &str, id: &str, replica: usize) {
        let execution = ToolExecution { replica, at: Instant::now() };
        self.0.lock().entry((tool.to_owned(), id.to_owned())).or_default().push(execution);
    }
}

/// Starts the server and returns its URL. Each replica appends `/` and its index.
pub(crate) fn start_tool_server(executions: ToolExecutions) -> String {
    let server = HttpServer::new(move || {
        let mcp =
            web::resource("/mcp/{replica}").route(web::post().to(handle_message)).default_service(web::to(|| async {
                // The server offers no stream of its own and no MCP sessions.
                HttpResponse::MethodNotAllowed().finish()
            }));
        App::new().app_data(web::Data::new(executions.clone())).service(mcp)
    });
    let server = server.workers(1).disable_signals().bind(("127.0.0.1", 0)).expect("a port is free");
    let url = format!("http://{}/mcp", server.addrs()[0]);
    tokio::spawn(server.run());
    url
}

async fn handle_message(
    executions: web::Data<ToolExecutions>,
    replica: web::Path<usize>,
    message: web::Json<Value>,
) -> HttpResponse {
    let params = &message["params"];
    let result = match message["method"].as_str().unwrap_or_default() {
        "initialize" => {
            tokio::time::sleep(Duration::from_millis(fastrand::u64(HANDSHAKE_MS))).await;
            json!({
                "protocolVersion": "2025-11-25",
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "counting", "version": "1"},
            })
        }
        "server/discover" => {
            let error = json!({"code": -32022, "message": "version", "data": {"supported": ["2025-11-25"]}});
            let response = json!({"jsonrpc": "2.0", "id": message["id"], "error": error});
            return HttpResponse::BadRequest().json(response);
        }
        "ping" => json!({}),
        "tools/list" => json!({"tools": [
            describe_tool("look", &json!({"readOnlyHint": true})),
            describe_tool("change", &json!({"readOnlyHint": false, "destructiveHint": true})),
        ]}),
        "tools/call" => {
            let name = params["name"].as_str().unwrap_or_default();
            let id = params["arguments"]["id"].as_str().unwrap_or_default();
            executions.record_call(name, id, *replica);
            tokio::time::sleep(Duration::from_millis(fastrand::u64(CALL_MS))).await;
            json!({"content": [{"type": "text", "text": format!("{name} {id}: done")}]})
        }
        _ => return HttpResponse::Accepted().finish(),
    };
    HttpResponse::Ok().json(json!({"jsonrpc": "2.0", "id": message["id"], "result": result}))
}

fn describe_tool(name: &str, annotations: &Value) -> Value {
    json!({
        "name": name,
        "description": format!("Does {name}."),
        "inputSchema": {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]},
        "annotations": annotations,
    })
}
