//! The calls that a preview makes. Each of them only reads, and none is sent with a placeholder of a secret: what a server makes
//! of a placeholder is not what it would make of the secret.

use serde_json::{Map, Value};

use k8sops_classifier::PreviewCall;
use k8sops_mcp::{CallError, CallOutput};

use crate::{
    ToolRef,
    catalog::PreviewRun,
    preview::{
        LiveObject, ObjectDetail, ObjectList, ObjectRef, ReadCall, is_empty_list, parse_names, parse_objects,
        qualified_resource, unwrap_output,
    },
    redaction::arguments_contain_placeholder,
    session_tools::SessionToolExecutor,
};

/// Why a call of a preview has no output.
#[derive(Debug)]
pub(crate) enum ReadFailure {
    /// There is no such object or release.
    Missing,
    /// The call may not be made, or it failed.
    Unknown,
}

impl SessionToolExecutor {
    /// Reads an object as it is, in the way of the call that changes it: by the same command line tool and for the same cluster,
    /// or by the typed tools of the same server.
    pub(crate) async fn read_current(
        &self,
        tool: &ToolRef,
        arguments: &Map<String, Value>,
        target: &ObjectRef,
        detail: ObjectDetail,
    ) -> LiveObject {
        if detail == ObjectDetail::WithManagers
            && let LiveObject::Found(object) = self.read_with(tool, arguments, target, &["--show-managed-fields"]).await
        {
            return LiveObject::Found(object);
        }
        self.read_with(tool, arguments, target, &[]).await
    }

    /// Reads an object. `flags` are for a server that runs kubectl.
    async fn read_with(
        &self,
        tool: &ToolRef,
        arguments: &Map<String, Value>,
        target: &ObjectRef,
        flags: &[&str],
    ) -> LiveObject {
        let resource = qualified_resource(&target.api_version, &target.kind);
        let namespace = target.namespace.as_ref().map(|namespace| format!("--namespace={namespace}"));
        // The name of a pod may be the name of what has pods: `deploy/web`.
        let mut words = match target.name.contains('/') {
            true => vec!["get", target.name.as_str()],
            false => vec!["get", resource.as_str(), target.name.as_str()],
        };
        words.extend(namespace.as_deref());
        words.extend(["-o", "yaml"]);
        words.extend(flags);
        let catalog = self.catalog();
        let call = match catalog.build_kubectl_read(tool, arguments, &words) {
            Some(call) => catalog.allow_preview(tool.server(), call),
            None => catalog
                .find_object_reader(tool.server())
                .and_then(|reader| self.allow_typed_read(tool, reader.read_object(target, arguments)?)),
        };
        match self.read_output(call).await {
            Ok(text) => match parse_objects(&text).map(<[Value; 1]>::try_from) {
                Some(Ok([object])) => LiveObject::Found(object),
                _ => LiveObject::Unread,
            },
            Err(ReadFailure::Missing) => LiveObject::Missing,
            Err(ReadFailure::Unknown) => LiveObject::Unread,
        }
    }

    /// Lists objects; `None` if the server does not print them as objects.
    pub(crate) async fn list_objects(
        &self,
        tool: &ToolRef,
        arguments: &Map<String, Value>,
        list: &ObjectList<'_>,
    ) -> Option<Vec<Value>> {
        let text = self.read_output(self.build_list(tool, arguments, list)).await.ok()?;
        match is_empty_list(&text) {
            true => Some(Vec::new()),
            false => parse_objects(&text),
        }
    }

    /// Lists the names of objects.
    pub(crate) async fn list_names(
        &self,
        tool: &ToolRef,
        arguments: &Map<String, Value>,
        list: &ObjectList<'_>,
    ) -> Vec<String> {
        self.try_list_names(tool, arguments, list).await.unwrap_or_default()
    }

    /// Lists the names of objects, or says why they cannot be listed.
    pub(crate) async fn try_list_names(
        &self,
        tool: &ToolRef,
        arguments: &Map<String, Value>,
        list: &ObjectList<'_>,
    ) -> Result<Vec<String>, ReadFailure> {
        let text = self.read_output(self.build_list(tool, arguments, list)).await?;
        Ok(parse_names(&text))
    }

    /// Reads the earlier pod templates of an object, if the server has a tool for that.
    pub(crate) async fn read_history(
        &self,
        tool: &ToolRef,
        arguments: &Map<String, Value>,
        target: &ObjectRef,
    ) -> Option<Vec<Value>> {
        let reader = self.catalog().find_object_reader(tool.server())?;
        let call = self.allow_typed_read(tool, reader.read_history(target, arguments)?)?;
        parse_objects(&self.read_output(Some(call)).await.ok()?)
    }

    /// Returns what a call prints that the classifier made to show what another call would do.
    pub(crate) async fn read_text(&self, tool: &ToolRef, call: PreviewCall) -> Result<String, ReadFailure> {
        self.read_output(self.catalog().allow_preview(tool.server(), call)).await
    }

    fn build_list(&self, tool: &ToolRef, arguments: &Map<String, Value>, list: &ObjectList<'_>) -> Option<PreviewRun> {
        let catalog = self.catalog();
        let words = list.kubectl_words();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match catalog.build_kubectl_read(tool, arguments, &words) {
            Some(call) => catalog.allow_preview(tool.server(), call),
            None => catalog
                .find_object_reader(tool.server())
                .and_then(|reader| self.allow_typed_read(tool, reader.list_objects(list, arguments)?)),
        }
    }

    fn allow_typed_read(&self, tool: &ToolRef, read: ReadCall) -> Option<PreviewRun> {
        let ReadCall { tool: name, arguments } = read;
        self.catalog().allow_read(tool.server(), name, arguments)
    }

    async fn read_output(&self, call: Option<PreviewRun>) -> Result<String, ReadFailure> {
        let call = call.filter(|call| !arguments_contain_placeholder(&call.arguments)).ok_or(ReadFailure::Unknown)?;
        let failure = match self.read_unredacted(call).await {
            Ok(CallOutput { text, is_error: false, .. }) => return Ok(unwrap_output(text)),
            Ok(CallOutput { text, .. }) => text,
            // Some servers report a failure of the API server as one of their own.
            Err(CallError::Refused(reason) | CallError::Failed(reason)) => reason.to_string(),
            Err(_) => return Err(ReadFailure::Unknown),
        };
        let failure = failure.to_lowercase();
        // A program that is not found says so in other words: there, nothing is known about the object.
        let is_missing = ["\" not found", "(notfound)", "\"not_found\"", "release: not found"];
        match is_missing.iter().any(|words| failure.contains(words)) {
            true => Err(ReadFailure::Missing),
            false => Err(ReadFailure::Unknown),
        }
    }
}
