//! What clients ask of tasks.

use k8sops_core::Timestamp;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{
    a2a_error::A2aError,
    proto_json::{read_bool, read_int32},
    task_resource::TaskState,
};

/// How many tasks a page has, if the client does not say it.
const DEFAULT_PAGE_SIZE: usize = 50;
/// How many tasks a page has at most.
const MAX_PAGE_SIZE: usize = 100;

/// How much history a task is returned with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HistoryLength {
    All,
    /// At most this many messages, the newest.
    AtMost(usize),
}

impl HistoryLength {
    /// Reads `historyLength`.
    ///
    /// # Errors
    /// The number is negative.
    pub(super) fn new(wanted: Option<i32>) -> Result<Self, A2aError> {
        let Some(wanted) = wanted else { return Ok(Self::All) };
        let length = usize::try_from(wanted);
        length
            .map(Self::AtMost)
            .map_err(|_| A2aError::invalid_field("historyLength", "historyLength must be 0 or more"))
    }

    /// Returns how many of the oldest messages are left out.
    pub(super) fn skipped(self, length: usize) -> usize {
        match self {
            Self::All => 0,
            Self::AtMost(limit) => length.saturating_sub(limit),
        }
    }
}

/// Which task a method is about.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TaskRequest {
    #[serde(default)]
    id: Option<String>,
    #[serde(default, alias = "history_length", deserialize_with = "read_int32")]
    history_length: Option<i32>,
}

impl TaskRequest {
    /// Returns the id of the task.
    ///
    /// # Errors
    /// It is missing.
    pub(super) fn task_id(&self) -> Result<&str, A2aError> {
        let id = self.id.as_deref().filter(|id| !id.is_empty());
        id.ok_or_else(|| A2aError::invalid_field("id", "id is missing"))
    }

    /// Returns how much history the task is returned with.
    ///
    /// # Errors
    /// The number is negative.
    pub(super) fn history_length(&self) -> Result<HistoryLength, A2aError> {
        HistoryLength::new(self.history_length)
    }
}

/// How a task is returned.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(super) struct TaskParameters {
    /// How many messages the history of the task has at most; absent: all.
    #[serde(default, alias = "history_length", deserialize_with = "read_int32")]
    #[param(value_type = Option<u32>, required = false)]
    history_length: Option<i32>,
}

impl TaskParameters {
    /// Returns how much history the task is returned with.
    ///
    /// # Errors
    /// The number is negative.
    pub(super) fn history_length(&self) -> Result<HistoryLength, A2aError> {
        HistoryLength::new(self.history_length)
    }
}

/// Which tasks are listed.
#[derive(Debug, Default, Deserialize, IntoParams, ToSchema)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(super) struct TaskListRequest {
    /// Only tasks of this context.
    #[serde(default, alias = "context_id")]
    pub(super) context_id: Option<String>,
    /// Only tasks in this state, such as `TASK_STATE_WORKING`.
    #[serde(default)]
    status: Option<String>,
    /// How many tasks a page has at most: 1 to 100, 50 if it is absent.
    #[serde(default, alias = "page_size", deserialize_with = "read_int32")]
    #[param(value_type = Option<u32>, required = false)]
    page_size: Option<i32>,
    /// `nextPageToken` of the page before.
    #[serde(default, alias = "page_token")]
    pub(super) page_token: Option<String>,
    /// How many messages the history of each task has at most; absent: all.
    #[serde(default, alias = "history_length", deserialize_with = "read_int32")]
    #[param(value_type = Option<u32>, required = false)]
    history_length: Option<i32>,
    /// Only tasks whose status is of this time or later, in RFC 3339.
    #[serde(default, alias = "status_timestamp_after")]
    status_timestamp_after: Option<String>,
    /// Whether the tasks have their artifacts.
    #[serde(default, alias = "include_artifacts", deserialize_with = "read_bool")]
    #[param(required = false)]
    include_artifacts: Option<bool>,
}

/// Whether tasks have their artifacts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ArtifactInclusion {
    Included,
    Omitted,
}

/// Which tasks are listed, as valid values.
#[derive(Debug)]
pub(super) struct TaskFilter {
    pub(super) state: Option<TaskState>,
    pub(super) since: Option<Timestamp>,
    pub(super) page_size: usize,
    pub(super) history: HistoryLength,
    pub(super) artifacts: ArtifactInclusion,
}

impl TaskListRequest {
    /// Checks the values.
    ///
    /// # Errors
    /// A value is not allowed.
    pub(super) fn to_filter(&self) -> Result<TaskFilter, A2aError> {
        let page_size = match self.page_size {
            None => DEFAULT_PAGE_SIZE,
            Some(size) => {
                usize::try_from(size).ok().filter(|size| (1..=MAX_PAGE_SIZE).contains(size)).ok_or_else(|| {
                    A2aError::invalid_field("pageSize", format!("pageSize must be between 1 and {MAX_PAGE_SIZE}"))
                })?
            }
        };
        let state = match self.status.as_deref() {
            None | Some("" | "TASK_STATE_UNSPECIFIED") => None,
            Some(name) => Some(
                serde_json::from_value(name.into())
                    .map_err(|_| A2aError::invalid_field("status", format!("status {name:?} is no state of a task")))?,
            ),
        };
        let since = self.status_timestamp_after.as_deref().filter(|text| !text.is_empty());
        let since = since.map(str::parse).transpose().map_err(|_| {
            A2aError::invalid_field("statusTimestampAfter", "statusTimestampAfter must be a time in RFC 3339")
        })?;
        let history = HistoryLength::new(self.history_length)?;
        let artifacts = match self.include_artifacts {
            Some(true) => ArtifactInclusion::Included,
            _ => ArtifactInclusion::Omitted,
        };
        Ok(TaskFilter { state, since, page_size, history, artifacts })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn filters_have_valid_values() {
        let read = |request| serde_json::from_value::<TaskListRequest>(request).unwrap().to_filter();
        let filter = read(json!({"pageSize": "7", "status": "TASK_STATE_WORKING", "include_artifacts": true,
            "statusTimestampAfter": "2026-01-01T00:00:00Z", "historyLength": 0}))
        .unwrap();
        assert_eq!((filter.page_size, filter.state), (7, Some(TaskState::Working)));
        assert_eq!((filter.artifacts, filter.history.skipped(3)), (ArtifactInclusion::Included, 3));
        assert!(filter.since.is_some());
        let filter = read(json!({"status": "TASK_STATE_UNSPECIFIED"})).unwrap();
        assert_eq!((filter.page_size, filter.state, filter.history.skipped(3)), (50, None, 0));
        for wrong in [
            json!({"pageSize": 0}),
            json!({"pageSize": 101}),
            json!({"status": "working"}),
            json!({"statusTimestampAfter": "yesterday"}),
            json!({"historyLength": -1}),
        ] {
            assert!(read(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
