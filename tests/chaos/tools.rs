//! An MCP server over streamable HTTP with two tools, `look` (reads) and `change` (changes something), that counts what
//! it was made to do. Every call has an argument `id` of its own, so that one that is run twice is seen.

use parking_lot::Mutex;
use std::{collections::HashMap, sync::Arc, time::Duration};

use actix_web::{App, HttpResponse, HttpServer, web};
use serde_json::{Value, json};

/// How long a call takes, from and to, in milliseconds.
const TAKES: std::ops::Range<u64> = 20..300;

/// How long a replica waits for the handshake after its start, from and to, in milliseconds: real servers are not there at
/// once either, and a replica may have work before.
const CONNECTS: std::ops::Range<u64> = 0..1_500;

/// How often each tool ran for each id. A call counts when it arrives: that is when the world changes, even if the caller
/// is gone before the response.
#[derive(Clone, Default)]
pub(crate) struct Ran(Arc<Mutex<HashMap<(String, String), u32>>>);

impl Ran {
    /// How often the call of this id was run.
    pub(crate) fn times(&self, tool: &str, id: &str) -> u32 {
        self.0.lock().get(&(tool.to_owned(), id.to_owned())).copied().unwrap_or_default()
    }

    /// The ids of a tool's calls, each with how often it was run.
    pub(crate) fn all(&self, tool: &str) -> Vec<(String, u32)> {
        let ran = self.0.lock();
        ran.iter().filter(|((name, _), _)| name == tool).map(|((_, id), times)| (id.clone(), *times)).collect()
    }

    fn count(&self, tool: &str, id: &str) {
        *self.0.lock().entry((tool.to_owned(), id.to_owned())).or_default() += 1;
    }
}

/// Starts the server; its URL.
pub(crate) fn start(ran: Ran) -> String {
    let server = HttpServer::new(move || {
        let mcp = web::resource("/mcp").route(web::post().to(handle)).default_service(web::to(|| async {
            // No stream from the server, and no sessions to end.
            HttpResponse::MethodNotAllowed().finish()
        }));
        App::new().app_data(web::Data::new(ran.clone())).service(mcp)
    });
    let server = server.workers(1).disable_signals().bind(("127.0.0.1", 0)).expect("a free port");
    let url = format!("http://{}/mcp", server.addrs()[0]);
    tokio::spawn(server.run());
    url
}

async fn handle(ran: web::Data<Ran>, message: web::Json<Value>) -> HttpResponse {
    let params = &message["params"];
    let result = match message["method"].as_str().unwrap_or_default() {
        "initialize" => {
            tokio::time::sleep(Duration::from_millis(fastrand::u64(CONNECTS))).await;
            json!({
                "protocolVersion": "2025-11-25",
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "counting", "version": "1"},
            })
        }
        "server/discover" => {
            let error = json!({"code": -32022, "message": "version", "data": {"supported": ["2025-11-25"]}});
            let answer = json!({"jsonrpc": "2.0", "id": message["id"], "error": error});
            return HttpResponse::BadRequest().json(answer);
        }
        "ping" => json!({}),
        "tools/list" => json!({"tools": [
            tool("look", &json!({"readOnlyHint": true})),
            tool("change", &json!({"readOnlyHint": false, "destructiveHint": true})),
        ]}),
        "tools/call" => {
            let name = params["name"].as_str().unwrap_or_default();
            let id = params["arguments"]["id"].as_str().unwrap_or_default();
            ran.count(name, id);
            tokio::time::sleep(Duration::from_millis(fastrand::u64(TAKES))).await;
            json!({"content": [{"type": "text", "text": format!("{name} {id}: done")}]})
        }
        _ => return HttpResponse::Accepted().finish(),
    };
    HttpResponse::Ok().json(json!({"jsonrpc": "2.0", "id": message["id"], "result": result}))
}

fn tool(name: &str, annotations: &Value) -> Value {
    json!({
        "name": name,
        "description": format!("Does {name}."),
        "inputSchema": {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]},
        "annotations": annotations,
    })
}
