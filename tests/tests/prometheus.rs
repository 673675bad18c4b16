//! Prometheus reads `/metrics`.

use kernspan_tests::agent::Agent;
use kernspan_tests::client::curl;
use kernspan_tests::nginx::{Location, Nginx};
use kernspan_tests::process::{free_port, until};
use kernspan_tests::prometheus::{Prometheus, shipped_queries};
use kernspan_tests::scenario::{Scenario, say};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(30);

const SERVED: &str = "http_server_request_duration_seconds_count{service_name=\"nginx\"}";

/// Two clients of one name in two namespaces are two, also in the service graph. Returns what they asked for.
fn namespaces(scenario: &Scenario, prometheus: &Prometheus, url: &str) -> u64 {
    let each = [("bank", 30_u64), ("shop", 20)];
    for (namespace, count) in each {
        let said = format!("OTEL_RESOURCE_ATTRIBUTES=service.namespace={namespace}");
        let wrap = ["env".to_owned(), "OTEL_SERVICE_NAME=api".to_owned(), said];
        let urls: Vec<String> = (0..count).map(|_| url.to_owned()).collect();
        curl(scenario, &wrap, &urls, 2);
    }
    for (namespace, count) in each {
        for series in [
            format!(
                "http_client_request_duration_seconds_count{{service_name=\"api\",\
                 service_namespace=\"{namespace}\"}}"
            ),
            format!(
                "traces_service_graph_request_total{{client=\"api\",\
                 client_service_namespace=\"{namespace}\",server=\"nginx\",\
                 server_service_namespace=\"\"}}"
            ),
        ] {
            until("each namespace has its own count", LIMIT, || {
                let found = prometheus.query(&format!("sum({series})"));
                (found == Some(count as f64)).then_some(())
            });
        }
    }
    each.iter().map(|(_, count)| count).sum()
}

/// It scrapes the page without a complaint, knows the very count, and its rates and quantiles are right.
#[test]
fn prometheus_scrapes_and_answers_a_rate_query() {
    let programs = ["nginx", "curl", "prometheus"];
    let Some(scenario) = Scenario::begin("prometheus", &programs) else { return };
    let port = free_port().to_string();
    let listen = format!("127.0.0.1:{port}");
    std::fs::create_dir_all(scenario.path("www/static")).expect("a directory for files");
    Nginx::page(&scenario, "static/page", 1000);
    let _nginx = Nginx::start(&scenario, &listen, &[("/static/", Location::Static)], &[]);
    let agent = Agent::run(&scenario, &["--request-metrics", "1s", "--port", &port]);
    let prometheus = Prometheus::start(&scenario, agent.address());
    let urls: Vec<String> = (0..20).map(|_| format!("http://{listen}/static/page")).collect();
    let (began, mut asked) = (Instant::now(), 0_u64);
    // Published and scraped once a second, on a machine that does other things as well.
    let (rate, sent) = until("the rate is that of the load", LIMIT, || {
        curl(&scenario, &[], &urls, 4);
        asked += urls.len() as u64;
        std::thread::sleep(Duration::from_millis(200));
        let sent = asked as f64 / began.elapsed().as_secs_f64();
        let rate = prometheus.query(&format!("sum(rate({SERVED}[5s]))"))?;
        (rate / sent - 1.0).abs().lt(&0.2).then_some((rate, sent))
    });
    let query = "histogram_quantile(0.99, sum by (le) (rate(\
                 http_server_request_duration_seconds_bucket{service_name=\"nginx\"}[5s])))";
    let p99 = prometheus.query(query).expect("a quantile");
    assert!(p99 > 0.0 && p99 < 5.0, "{p99}");
    let queries = shipped_queries();
    assert_eq!(queries.len(), 2);
    for query in &queries {
        let found = prometheus.query(query).unwrap_or_default();
        assert!(found > 0.0 && found.is_finite(), "{query}: {found}");
    }
    asked += namespaces(&scenario, &prometheus, &format!("http://{listen}/static/page"));
    until("Prometheus knows every request", LIMIT, || {
        let count = prometheus.query(&format!("sum({SERVED})"));
        (count == Some(asked as f64)).then_some(())
    });
    assert_eq!(prometheus.complaint(), "");
    say(&format!("prometheus: {asked} requests, {rate:.1} a second of {sent:.1}, p99 {p99} s"));
    agent.stop();
}
