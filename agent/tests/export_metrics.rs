//! The agent's own metrics, as a receiver gets them.

#![expect(clippy::unwrap_used, reason = "a test panics")]

mod export_support;

use agent::export::Protocol;
use agent::telemetry::start_metrics;
use agent_core::ledger::{Entry, Side};
use export_support::{config, signal_config};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::metrics::v1::{metric::Data, number_data_point};
use prost::Message;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, async_trait};

type Requests = Arc<Mutex<Vec<ExportMetricsServiceRequest>>>;

struct Receiver(Requests);

#[async_trait]
impl MetricsService for Receiver {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.0.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

fn ledger() -> Vec<Entry> {
    let sides = [
        (Side::In, 10),
        (Side::Held, 3),
        (Side::Out, 5),
        (Side::Lost("queue_full"), 2),
        (Side::Info("queued"), 7),
    ];
    sides.map(|(side, count)| Entry { stage: "export", unit: "spans", side, count }).into()
}

/// (metric, third attribute, value)
fn figures(request: &ExportMetricsServiceRequest) -> Vec<(String, String, i64)> {
    let mut figures = Vec::new();
    for metric in &request.resource_metrics[0].scope_metrics[0].metrics {
        let points = match metric.data.as_ref().unwrap() {
            Data::Sum(sum) => &sum.data_points,
            Data::Gauge(gauge) => &gauge.data_points,
            other => panic!("{other:?}"),
        };
        for point in points {
            let mut labels: Vec<String> = point
                .attributes
                .iter()
                .map(|attribute| match attribute.value.as_ref().unwrap().value.as_ref().unwrap() {
                    Value::StringValue(text) => format!("{}={text}", attribute.key),
                    other => panic!("{other:?}"),
                })
                .collect();
            labels.sort();
            let Some(number_data_point::Value::AsInt(value)) = point.value else { panic!() };
            figures.push((metric.name.clone(), labels.join(" "), value));
        }
    }
    figures.sort();
    figures
}

fn assert_ledger(requests: &Requests) {
    let requests = requests.lock().unwrap();
    let expected: Vec<(String, String, i64)> = [
        ("held", "", 3),
        ("info", "kernspan.name=queued ", 7),
        ("items", "kernspan.side=in ", 10),
        ("items", "kernspan.side=out ", 5),
        ("lost", "kernspan.cause=queue_full ", 2),
    ]
    .map(|(metric, label, value)| {
        let label = format!("{label}kernspan.stage=export kernspan.unit=spans");
        (format!("kernspan.stage.{metric}"), label, value)
    })
    .into();
    assert_eq!(figures(&requests[0]), expected);
}

#[test]
fn the_ledger_arrives_over_grpc() {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let requests = Requests::default();
    let receiver = Receiver(requests.clone());
    let address = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::builder().add_service(MetricsServiceServer::new(receiver));
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        address
    });
    let mut config = config(signal_config(&format!("http://{address}/"), Protocol::Grpc));
    config.metrics = config.traces.take();
    let guard = start_metrics(&config, runtime.handle(), Arc::new(ledger)).unwrap().unwrap();
    guard.shutdown(Duration::from_secs(5)).unwrap();
    assert_ledger(&requests);
}

#[test]
fn the_ledger_arrives_over_http() {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let requests = Requests::default();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let taken = requests.clone();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        assert!(head.starts_with("post /in/v1/metrics "), "{head}");
        assert!(head.contains("x-tenant: blue"), "{head}");
        let len = head.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap();
        let mut body = vec![0; len.parse().unwrap()];
        stream.read_exact(&mut body).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
        taken.lock().unwrap().push(ExportMetricsServiceRequest::decode(&body[..]).unwrap());
    });
    let endpoint = format!("http://{address}/in/v1/metrics");
    let mut config = config(signal_config(&endpoint, Protocol::HttpProtobuf));
    config.metrics = config.traces.take();
    let guard = start_metrics(&config, runtime.handle(), Arc::new(ledger)).unwrap().unwrap();
    guard.shutdown(Duration::from_secs(5)).unwrap();
    server.join().unwrap();
    assert_ledger(&requests);
}

#[test]
fn without_a_place_to_send_metrics_there_are_none() {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let config = config(signal_config("http://127.0.0.1:1/", Protocol::Grpc));
    assert!(start_metrics(&config, runtime.handle(), Arc::new(ledger)).unwrap().is_none());
}
