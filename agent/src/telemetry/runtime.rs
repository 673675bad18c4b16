//! The SDK's periodic reader runs exporters on a thread of its own, without the timers and
//! sockets that they need: this lends them the agent's runtime.

use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;
use tokio::runtime::Handle;

/// An exporter that is polled within a runtime.
#[derive(Debug)]
pub struct OnRuntime<Exporter> {
    exporter: Exporter,
    handle: Handle,
}

impl<Exporter> OnRuntime<Exporter> {
    /// `exporter` within the runtime of `handle`, which must have threads of its own.
    pub fn new(exporter: Exporter, handle: Handle) -> OnRuntime<Exporter> {
        OnRuntime { exporter, handle }
    }
}

impl<Exporter: PushMetricExporter> PushMetricExporter for OnRuntime<Exporter> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let mut export = pin!(self.exporter.export(metrics));
        poll_fn(|context| {
            let _runtime = self.handle.enter();
            export.as_mut().poll(context)
        })
        .await
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}
