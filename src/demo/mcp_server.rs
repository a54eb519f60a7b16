//! A real MCP server for the simulated cluster, connected through a pipe inside the process.

use std::{sync::Arc, time::Duration};

use rmcp::{
    ErrorData, RoleServer, ServerHandler, ServiceExt,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation, ListToolsResult,
        PaginatedRequestParams, ProgressNotificationParam, ProtocolVersion, ServerCapabilities, ServerConfig,
        ToolsCapability,
    },
    service::RequestContext,
};
use tokio::{
    io::DuplexStream,
    time::{Instant, sleep, timeout},
};

use super::{
    cluster::{ContainerInstance, SimulatedCluster},
    tool_arguments::{CallFailure, ToolArguments, missing_argument},
    tool_catalog,
};

/// How often `rollout_status` checks the rollout.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Time limit for a client to complete the MCP handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves the cluster over MCP and returns the client's end of the connection.
///
/// The server runs in a task that ends when the client's end is dropped. Every call opens another connection to the same
/// cluster. It must be called within a tokio runtime.
#[must_use]
pub fn connect_demo_server(cluster: Arc<SimulatedCluster>) -> DuplexStream {
    let (client, server) = tokio::io::duplex(64 * 1024);
    tokio::spawn(async move {
        match timeout(HANDSHAKE_TIMEOUT, DemoServer::new(cluster).serve(server)).await {
            Ok(Ok(running)) => {
                // It ends with the connection. How it ends does not matter.
                let _ = running.waiting().await;
            }
            Ok(Err(error)) => tracing::warn!(%error, "demo MCP handshake failed"),
            Err(_) => tracing::warn!(timeout = ?HANDSHAKE_TIMEOUT, "demo MCP handshake timed out"),
        }
    });
    client
}

/// The MCP server of the simulated cluster.
#[derive(Debug, Clone)]
pub struct DemoServer {
    cluster: Arc<SimulatedCluster>,
}

impl DemoServer {
    /// Creates a server for a cluster.
    #[must_use]
    pub fn new(cluster: Arc<SimulatedCluster>) -> Self {
        Self { cluster }
    }

    /// Executes a call of any tool except `rollout_status`, which waits.
    fn execute_tool(&self, name: &str, args: &ToolArguments) -> Result<String, CallFailure> {
        let cluster = &self.cluster;
        let namespace = || args.required_string("namespace");
        let any_namespace = || args.optional_string("namespace");
        let name_argument = || args.required_string("name");
        Ok(match name {
            "namespaces_list" => cluster.list_namespaces(),
            "nodes_list" => cluster.list_nodes(),
            "pods_list" => cluster.list_pods(any_namespace()?),
            "events_list" => cluster.list_events(any_namespace()?),
            "deployments_list" => cluster.list_deployments(any_namespace()?),
            "services_list" => cluster.list_services(any_namespace()?),
            "configmaps_list" => cluster.list_config_maps(any_namespace()?),
            "pods_get" => cluster.get_pod(namespace()?, name_argument()?)?,
            "deployment_get" => cluster.get_deployment(namespace()?, name_argument()?)?,
            "rollout_history" => cluster.get_rollout_history(namespace()?, name_argument()?)?,
            "configmap_get" => cluster.get_config_map(namespace()?, name_argument()?)?,
            "pods_log" => {
                let tail = usize::try_from(args.optional_integer("tail")?.unwrap_or(50)).unwrap_or(usize::MAX);
                let instance = match args.boolean_flag("previous")? {
                    true => ContainerInstance::Previous,
                    false => ContainerInstance::Current,
                };
                let log = cluster.read_pod_log(namespace()?, name_argument()?, tail, instance)?;
                if log.is_empty() { "(the log is empty)".to_owned() } else { log }
            }
            "resources_describe" => cluster.describe_object(
                args.required_string("kind")?,
                any_namespace()?.unwrap_or("default"),
                name_argument()?,
            )?,
            "configmap_set" => cluster.set_config_map_key(
                namespace()?,
                name_argument()?,
                args.required_string("key")?,
                args.required_string("value")?,
            )?,
            "deployment_restart" => cluster.restart_deployment(namespace()?, name_argument()?)?,
            "deployment_rollback" => cluster.roll_back_deployment(namespace()?, name_argument()?)?,
            "deployment_scale" => {
                let replicas = args.optional_integer("replicas")?.ok_or_else(|| missing_argument("replicas"))?;
                cluster.scale_deployment(namespace()?, name_argument()?, u32::try_from(replicas).unwrap_or(u32::MAX))?
            }
            "deployment_set_image" => {
                cluster.set_deployment_image(namespace()?, name_argument()?, args.required_string("image")?)?
            }
            "deployment_set_resources" => {
                let cpu = args.optional_string("cpu")?;
                let memory = args.optional_string("memory")?;
                if cpu.is_none() && memory.is_none() {
                    return Err(missing_argument("memory"));
                }
                cluster.set_deployment_resources(namespace()?, name_argument()?, cpu, memory)?
            }
            "pod_delete" => cluster.delete_pod(namespace()?, name_argument()?)?,
            _ => return Err(CallFailure::UnknownTool),
        })
    }

    /// Waits for a rollout and sends progress to a client that requested it.
    async fn rollout_status(
        &self,
        args: &ToolArguments,
        context: &RequestContext<RoleServer>,
    ) -> Result<String, CallFailure> {
        let namespace = args.required_string("namespace")?;
        let name = args.required_string("name")?;
        let limit = Duration::from_secs(args.optional_integer("timeout_seconds")?.unwrap_or(10).min(60));
        let token = context.meta.get_progress_token();
        let started = Instant::now();
        let mut reported_second = None;
        // Progress must grow with every notification, which a stuck rollout does not: so it counts the elapsed time.
        let mut lines: Vec<String> = Vec::new();
        loop {
            let rollout = self.cluster.rollout_status(namespace, name)?;
            if lines.last() != Some(&rollout.message) {
                lines.push(rollout.message.clone());
            }
            if rollout.done {
                return Ok(lines.join("\n"));
            }
            let waited = started.elapsed();
            if waited >= limit {
                lines.push("error: timed out waiting for the condition".to_owned());
                return Err(CallFailure::Tool(lines.join("\n")));
            }
            if let Some(token) = &token
                && reported_second != Some(waited.as_secs())
            {
                reported_second = Some(waited.as_secs());
                let message = format!("{}/{} new pods ready", rollout.ready, rollout.replicas);
                let progress = ProgressNotificationParam::new(token.clone(), waited.as_secs_f64())
                    .with_total(limit.as_secs_f64())
                    .with_message(message);
                // Progress is optional: a client that cannot receive it still gets its result.
                let _ = context.peer.notify_progress(progress).await;
            }
            tokio::select! {
                () = sleep(POLL_INTERVAL) => {}
                () = context.ct.cancelled() => return Err(CallFailure::Tool("error: cancelled".to_owned())),
            }
        }
    }
}

impl ServerHandler for DemoServer {
    fn get_info(&self) -> ServerConfig {
        let mut capabilities = ServerCapabilities::default();
        capabilities.tools = Some(ToolsCapability::default());
        ServerConfig::new(capabilities)
            .with_protocol_version(ProtocolVersion::LATEST_WITH_INITIALIZE)
            .with_server_info(Implementation::new("k8sops-demo-cluster", env!("CARGO_PKG_VERSION")))
            .with_instructions("A simulated Kubernetes cluster. Nothing in it is real, and nothing can break.")
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(tool_catalog::demo_tools()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let args = ToolArguments(request.arguments.unwrap_or_default());
        let result = if request.name == "rollout_status" {
            self.rollout_status(&args, &context).await
        } else {
            self.execute_tool(&request.name, &args)
        };
        match result {
            Ok(text) => Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into()),
            Err(CallFailure::Tool(text)) => Ok(CallToolResult::error(vec![ContentBlock::text(text)]).into()),
            Err(CallFailure::UnknownTool) => {
                Err(ErrorData::invalid_params(format!("unknown tool \"{}\"", request.name), None))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use rmcp::{
        ClientHandler, RoleClient,
        model::{CallToolRequest, ClientCapabilities, ClientConfig, ClientRequest},
        service::{NotificationContext, PeerRequestOptions, RunningService, ServiceError},
    };
    use serde_json::{Value, json};

    use super::*;

    #[derive(Clone, Default)]
    struct TestClient(Arc<Mutex<Vec<ProgressNotificationParam>>>);

    impl ClientHandler for TestClient {
        fn get_info(&self) -> ClientConfig {
            ClientConfig::new(ClientCapabilities::default(), Implementation::new("test", "0"))
                .with_protocol_version(ProtocolVersion::LATEST_WITH_INITIALIZE)
        }

        async fn on_progress(&self, params: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
            self.0.lock().push(params);
        }
    }

    async fn client() -> RunningService<RoleClient, TestClient> {
        TestClient::default().serve(connect_demo_server(Arc::new(SimulatedCluster::new()))).await.unwrap()
    }

    fn params(name: &'static str, arguments: Value) -> CallToolRequestParams {
        let Value::Object(arguments) = arguments else { unreachable!("an object") };
        CallToolRequestParams::new(name).with_arguments(arguments)
    }

    async fn call(
        client: &RunningService<RoleClient, TestClient>,
        name: &'static str,
        arguments: Value,
    ) -> (bool, String) {
        let result = client.call_tool(params(name, arguments)).await.unwrap();
        let text = result.content[0].as_text().unwrap().text.clone();
        (result.is_error == Some(true), text)
    }

    #[tokio::test]
    async fn tools_are_listed_with_hints() {
        let tools = client().await.list_all_tools().await.unwrap();
        let shown: Vec<String> = tools
            .iter()
            .map(|t| {
                let hints = t.annotations.as_ref().unwrap();
                assert!(hints.title.is_some() && t.input_schema["additionalProperties"] == json!(false));
                let effect = match (hints.read_only_hint, hints.idempotent_hint) {
                    (Some(true), _) => "read",
                    (_, Some(true)) => "idempotent",
                    _ => "mutating",
                };
                format!("{} {effect} {}", t.name, t.input_schema.get("required").unwrap_or(&json!([])))
            })
            .collect();
        insta::assert_snapshot!(shown.join("\n"), @r#"
        configmap_get read ["namespace","name"]
        configmap_set idempotent ["namespace","name","key","value"]
        configmaps_list read []
        deployment_get read ["namespace","name"]
        deployment_restart mutating ["namespace","name"]
        deployment_rollback mutating ["namespace","name"]
        deployment_scale idempotent ["namespace","name","replicas"]
        deployment_set_image idempotent ["namespace","name","image"]
        deployment_set_resources idempotent ["namespace","name"]
        deployments_list read []
        events_list read []
        namespaces_list read []
        nodes_list read []
        pod_delete mutating ["namespace","name"]
        pods_get read ["namespace","name"]
        pods_list read []
        pods_log read ["namespace","name"]
        resources_describe read ["kind","name"]
        rollout_history read ["namespace","name"]
        rollout_status read ["namespace","name"]
        services_list read []
        "#);
        assert!(tools.windows(2).all(|w| w[0].name < w[1].name));
    }

    #[tokio::test]
    async fn only_an_unknown_tool_is_a_protocol_error() {
        let client = client().await;
        let said = call(&client, "pods_get", json!({"namespace": "shop", "name": "x"})).await;
        assert_eq!(said, (true, "Error from server (NotFound): pods \"x\" not found".to_owned()));
        let (failed, text) = call(&client, "pods_get", json!({"namespace": "shop"})).await;
        assert!(failed && text.contains("\"name\" is required"), "{text}");
        let scale = json!({"namespace": "shop", "name": "cart", "replicas": -1});
        let (failed, text) = call(&client, "deployment_scale", scale).await;
        assert!(failed && text.contains("whole number"), "{text}");
        let error = client.call_tool(params("nope", json!({}))).await.unwrap_err();
        assert!(matches!(error, ServiceError::McpError(e) if e.code.0 == -32602));
    }

    #[tokio::test]
    async fn every_list_tool_returns_a_table() {
        let client = client().await;
        for tool in ["namespaces_list", "nodes_list", "pods_list", "events_list", "deployments_list", "services_list"] {
            let (failed, text) = call(&client, tool, json!({})).await;
            assert!(!failed && text.lines().count() > 1, "{tool}: {text}");
        }
        let (_, text) = call(&client, "configmaps_list", json!({"namespace": "payments"})).await;
        assert!(text.contains("ledger-config") && !text.contains("checkout-config"), "{text}");
    }

    #[tokio::test]
    async fn rollout_reports_progress() {
        let client = client().await;
        let (failed, _) =
            call(&client, "deployment_scale", json!({"namespace": "shop", "name": "cart", "replicas": 3})).await;
        assert!(!failed);
        let request = params("rollout_status", json!({"namespace": "shop", "name": "cart"}));
        let request = ClientRequest::CallToolRequest(CallToolRequest::new(request));
        let handle = client.send_cancellable_request(request, PeerRequestOptions::no_options()).await.unwrap();
        let token = handle.progress_token.clone();
        handle.await_response().await.unwrap();
        let told = client.service().0.lock().clone();
        assert!(!told.is_empty() && told.iter().all(|p| p.progress_token == token), "{told:?}");
        assert!(told[0].message.as_deref().unwrap().contains("/3 new pods ready"));
    }

    #[tokio::test]
    async fn connections_share_the_cluster_and_end_their_server() {
        let cluster = Arc::new(SimulatedCluster::new());
        let one = TestClient::default().serve(connect_demo_server(Arc::clone(&cluster))).await.unwrap();
        let two = TestClient::default().serve(connect_demo_server(Arc::clone(&cluster))).await.unwrap();
        call(&one, "deployment_scale", json!({"namespace": "shop", "name": "cart", "replicas": 0})).await;
        let (_, text) = call(&two, "pods_list", json!({"namespace": "shop"})).await;
        assert!(!text.contains("cart-"), "{text}");
        one.cancel().await.unwrap();
        two.cancel().await.unwrap();
        let ended = async {
            while Arc::strong_count(&cluster) > 1 {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(5), ended).await.unwrap();
    }
}
