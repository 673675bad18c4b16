//! A gRPC receiver by tonic.

use super::{Answer, SharedInbox};
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{
    LogsService, LogsServiceServer,
};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use std::net::SocketAddr;
use std::time::Instant;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tonic::codec::CompressionEncoding;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Server, ServerTlsConfig};
use tonic::{Request, Response, Status, async_trait};

#[derive(Clone)]
struct Receiver(SharedInbox);

#[async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let answer = {
            let mut inbox = self.0.lock().unwrap();
            inbox.attempts.push(Instant::now());
            inbox.headers = request
                .metadata()
                .iter()
                .filter_map(|pair| match pair {
                    tonic::metadata::KeyAndValueRef::Ascii(key, value) => {
                        Some((key.to_string(), value.to_str().ok()?.to_string()))
                    }
                    tonic::metadata::KeyAndValueRef::Binary(..) => None,
                })
                .collect();
            inbox.script.pop_front().unwrap_or(Answer::Ok)
        };
        let mut response = ExportTraceServiceResponse::default();
        match answer {
            Answer::Status(status) => return Err(status),
            Answer::Late(time) => tokio::time::sleep(time).await,
            Answer::Partial(rejected_spans, message) => {
                let error_message = message.to_string();
                response.partial_success =
                    Some(ExportTracePartialSuccess { rejected_spans, error_message });
            }
            Answer::Ok | Answer::Http(..) | Answer::Drop => {}
        }
        self.0.lock().unwrap().taken.push(request.into_inner());
        Ok(Response::new(response))
    }
}

#[async_trait]
impl LogsService for Receiver {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        let request = request.into_inner();
        let records: usize = request
            .resource_logs
            .iter()
            .flat_map(|resource| &resource.scope_logs)
            .map(|scope| scope.log_records.len())
            .sum();
        self.0.lock().unwrap().logs += records as u64;
        Ok(Response::new(ExportLogsServiceResponse::default()))
    }
}

/// Listens on `address` (port 0: any) until aborted.
pub async fn serve(
    inbox: SharedInbox,
    address: &str,
    tls: Option<ServerTlsConfig>,
) -> (SocketAddr, AbortHandle) {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let traces = TraceServiceServer::new(Receiver(inbox.clone()))
        .accept_compressed(CompressionEncoding::Gzip);
    let logs = LogsServiceServer::new(Receiver(inbox)).accept_compressed(CompressionEncoding::Gzip);
    let mut server = Server::builder();
    if let Some(tls) = tls {
        server = server.tls_config(tls).unwrap();
    }
    let serving = server
        .add_service(traces)
        .add_service(logs)
        .serve_with_incoming(TcpIncoming::from(listener));
    let task = tokio::spawn(async move {
        serving.await.unwrap();
    });
    (address, task.abort_handle())
}
