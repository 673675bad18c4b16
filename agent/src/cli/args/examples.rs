//! What stands below the options in each help.

pub const AFTER: &str = "\
Exit codes: 0 done; 2 wrong usage or configuration, missing capabilities, or a kernel on which \
nothing can be observed; 1 anything else.";

pub const RUN_EXAMPLES: &str = "\
Examples:
  kernspan run
      Watch everything, print a readable tree per trace
  kernspan run --otlp-endpoint http://localhost:4317
      Send to an OpenTelemetry Collector over gRPC
  kernspan run --include nginx --include '/usr/bin/python3*' --port 8080
      Only these programs, only this port
  kernspan run --output otlp --output json:/var/log/spans.json --listen 127.0.0.1:9464
      Two outputs, and /livez, /readyz, /metrics and /status on port 9464
  kernspan run --name-rule 'exe=java,args=*shop.jar*,name=payments,namespace=shop'
      One's own name for a service
  kernspan run --config /etc/kernspan.yaml --sample 0.1
      Options from a file; flags win

The file has the names of the flags:
  output: [otlp, \"json:/var/log/spans.json\"]
  include: [nginx, /usr/bin/python3*]
  name-rule:
    - {unit: shop@*, name: payments, namespace: shop}
  otlp:
    endpoint: https://collector.example:4318
    protocol: http/protobuf
    headers:
      x-api-key: SECRET

Without --output, spans go to OTLP when an endpoint is set (by flag, file or \
OTEL_EXPORTER_OTLP_ENDPOINT), else to the console.";

pub const RECORD_EXAMPLES: &str = "\
Examples:
  kernspan record /tmp/events.ksr --duration 10s
      Ten seconds of everything
  kernspan record /tmp/events.ksr --include nginx
      One program, until Ctrl-C

The file is created with mode 0600. Bodies, query secrets and the values of unlisted headers are \
replaced by filler of the same length, unless --raw is given.";

pub const REPLAY_EXAMPLES: &str = "\
Examples:
  kernspan replay /tmp/events.ksr
      Print the traces, with the same ids as when they were recorded
  kernspan replay /tmp/events.ksr --output json:/tmp/spans.json

Needs no root and no kernel support.";

pub const FLOWS_EXAMPLES: &str = "\
Examples:
  sudo kernspan flows
  sudo kernspan flows --process nginx --state established --sort rtt
  sudo kernspan flows --json | jq '.flows[] | select(.retransmits > 0)'
  sudo kernspan flows --watch 5s --port 53

Needs no running agent. Bytes of UDP and names from DNS answers are known from when it began to \
watch: with --watch.";

pub const DOCTOR_EXAMPLES: &str = "\
Examples:
  sudo kernspan doctor
  sudo kernspan doctor --for 10s
      Without an agent that runs: watches by itself for a while
  sudo kernspan doctor --agent 127.0.0.1:9464 --all | grep -A9 shop
      Of the agent that listens there; in a pipe no line is wrapped and nothing is narrowed
  sudo kernspan doctor --json | jq '.features[] | select(.hook == null)'";

pub const TOP_EXAMPLES: &str = "\
Examples:
  sudo kernspan top
  sudo kernspan top --every 5s --include nginx
  sudo kernspan top | cat
      One screen below the other
  sudo kernspan top --config /etc/kernspan.yaml
      What is watched there, under its names. All requests count: the file's sample, sample-rate, keep and
      max-request-rate are not taken, nor are listen and log-level";

pub const TRACE_EXAMPLES: &str = "\
Examples:
  sudo kernspan trace --slower 200ms
  sudo kernspan trace --service shop --request /cart --errors
  sudo kernspan trace --port 8080
  sudo kernspan trace --config /etc/kernspan.yaml --errors
      Of what is watched there, under its names. All traces: the file's sample, sample-rate, keep and
      max-request-rate are not taken, nor are listen and log-level";

pub const CONFIG_EXAMPLES: &str = "\
Examples:
  kernspan config check /etc/kernspan.yaml
      Before a running agent takes it up";
