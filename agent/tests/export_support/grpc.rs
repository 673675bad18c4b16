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
use tokio::runtime::Builder;
use tokio::sync::oneshot;
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

/// A running receiver; dropped, it and its connections are gone.
pub struct Running {
    _stop: oneshot::Sender<()>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Running {
    /// Returns when the last connection is closed.
    pub fn stop(mut self) {
        let thread = self.thread.take();
        drop(self);
        thread.unwrap().join().unwrap();
    }
}

/// Listens on `address` (port 0: any) on a thread of its own, until stopped.
pub async fn serve(
    inbox: SharedInbox,
    address: &str,
    tls: Option<ServerTlsConfig>,
) -> (SocketAddr, Running) {
    let listener = std::net::TcpListener::bind(address).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let thread = std::thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let traces = TraceServiceServer::new(Receiver(inbox.clone()))
                .accept_compressed(CompressionEncoding::Gzip)
                .send_compressed(CompressionEncoding::Gzip);
            let logs = LogsServiceServer::new(Receiver(inbox))
                .accept_compressed(CompressionEncoding::Gzip);
            let mut server = Server::builder();
            if let Some(tls) = tls {
                server = server.tls_config(tls).unwrap();
            }
            let listener = TcpListener::from_std(listener).unwrap();
            let serving = server
                .add_service(traces)
                .add_service(logs)
                .serve_with_incoming(TcpIncoming::from(listener));
            tokio::select! {
                result = serving => result.unwrap(),
                _ = stopped => {}
            }
        });
    });
    (address, Running { _stop: stop, thread: Some(thread) })
}
