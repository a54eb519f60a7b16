//! The export of spans over OTLP.

use std::time::Duration;

use k8sops_core::mask_url;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{ExporterBuildError, Protocol, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler as SdkSampler, SdkTracerProvider, Tracer},
};
use secrecy::ExposeSecret as _;
use tracing::Subscriber;
use tracing_opentelemetry::OpenTelemetryLayer;
use tracing_subscriber::{Layer, filter::FilterFn, registry::LookupSpan};

use crate::{
    options::{RootSampler, TelemetryOptions, TraceSampler},
    spans::{SPAN_TARGET, set_content_capture},
};

/// Time limit of one export. An unreachable collector costs spans and nothing else.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time limit of the last export, which delays the end of the process.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

/// Why spans cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum TraceExportError {
    /// The exporter could not be built from the options.
    #[error("cannot export traces to OTEL_EXPORTER_OTLP_ENDPOINT: {0}")]
    Build(String),
    /// The thread that builds the exporter panicked.
    #[error("cannot export traces to OTEL_EXPORTER_OTLP_ENDPOINT: the exporter panicked while it was built")]
    Panicked,
}

/// Exports spans for as long as it lives; does nothing where no collector is configured.
#[derive(Debug, Default)]
pub struct SpanExporterGuard(Option<SdkTracerProvider>);

impl SpanExporterGuard {
    /// Exports the spans that are left and shuts the exporter down, within 3 s.
    pub async fn shutdown(self) {
        let Some(provider) = self.0 else { return };
        // The SDK's shutdown blocks its thread.
        let flushed = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(FLUSH_TIMEOUT)).await;
        if let Ok(Err(error)) = flushed {
            tracing::warn!(%error, "span export failed at shutdown");
        }
    }
}

type ExportLayer<S> = tracing_subscriber::filter::Filtered<OpenTelemetryLayer<S, Tracer>, FilterFn, S>;

/// Builds the layer that exports spans; `None` without an endpoint.
pub(crate) fn export_layer<S>(
    config: Option<&TelemetryOptions>,
) -> Result<(Option<ExportLayer<S>>, SpanExporterGuard), TraceExportError>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let Some((config, endpoint)) = config.and_then(|config| Some((config, config.otlp_endpoint.clone()?))) else {
        return Ok((None, SpanExporterGuard::default()));
    };
    let headers =
        config.otlp_headers.iter().map(|(name, value)| (name.clone(), value.expose_secret().to_owned())).collect();
    let shown_endpoint = endpoint.clone();
    let build = move || {
        opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
            .with_timeout(EXPORT_TIMEOUT)
            .with_headers(headers)
            .build()
    };
    // reqwest's blocking client must not be built on a thread of the async runtime.
    let result = std::thread::spawn(build).join().map_err(|_| TraceExportError::Panicked)?;
    let exporter = result.map_err(|error| describe_failure(&error, &shown_endpoint))?;
    let resource = Resource::builder()
        .with_service_name(config.service_name.clone())
        .with_attribute(opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(sdk_sampler(config.sampler, config.sampler_arg))
        .with_resource(resource)
        .build();
    set_content_capture(config.capture_content);
    let layer = OpenTelemetryLayer::new(provider.tracer("k8sops"))
        .with_location(false)
        .with_threads(false)
        .with_level(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_context_activation(false);
    Ok((Some(layer.with_filter(FilterFn::new(is_exported))), SpanExporterGuard(Some(provider))))
}

/// The error of an exporter that cannot be built. Its text has the endpoint, which may have a password.
fn describe_failure(error: &ExporterBuildError, endpoint: &str) -> TraceExportError {
    let endpoint = endpoint.trim_end_matches('/');
    TraceExportError::Build(error.to_string().replace(endpoint, &mask_url(endpoint)))
}

fn is_exported(metadata: &tracing::Metadata<'_>) -> bool {
    metadata.is_span() && metadata.target() == SPAN_TARGET
}

fn sdk_sampler(TraceSampler { parent_based, root }: TraceSampler, ratio: f64) -> SdkSampler {
    let root = match root {
        RootSampler::AlwaysOn => SdkSampler::AlwaysOn,
        RootSampler::AlwaysOff => SdkSampler::AlwaysOff,
        RootSampler::Ratio => SdkSampler::TraceIdRatioBased(ratio),
    };
    if parent_based { SdkSampler::ParentBased(Box::new(root)) } else { root }
}
