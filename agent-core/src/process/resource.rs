//! The OpenTelemetry resource of a process (semantic conventions 1.44).

use super::facts::{HostFacts, ProcessFacts, start_tick};
use super::kubernetes::{Workload, is_for_the_server, pod_attributes};
use super::{Identity, NameRules, Place, place};
use sha1::{Digest, Sha1};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The variables of a process's environment that its resource needs. No other one may be read:
/// `OTEL_EXPORTER_OTLP_HEADERS`, for one, holds keys.
pub const KEPT_ENVIRONMENT: [&str; 6] = [
    "OTEL_SERVICE_NAME",
    "OTEL_RESOURCE_ATTRIBUTES",
    "SUPERVISOR_PROCESS_NAME",
    "SUPERVISOR_GROUP_NAME",
    "SPRING_APPLICATION_NAME",
    "npm_package_name",
];

/// Namespace of `service.instance.id` values (semantic conventions, registry, service).
const INSTANCE_NAMESPACE: [u8; 16] = 0x4d63_009a_8d0f_11ee_aad7_4c79_6ed8_e320_u128.to_be_bytes();

/// Most attributes carried over from `OTEL_RESOURCE_ATTRIBUTES`, and longest of their texts:
/// they go out with every batch.
const MAX_CARRIED: usize = 64;
const MAX_CARRIED_TEXT: usize = 1024;

/// Longest `service.name` and `service.namespace`: series and screens are by them.
const MAX_SERVICE_NAME: usize = 255;

/// An interned OpenTelemetry resource.
#[derive(Debug, PartialEq, Eq)]
pub struct Resource {
    /// Small number, unique in one run: what encoders group by.
    pub id: u32,
    /// `service.name`, for people.
    pub service: String,
    /// All attributes, sorted by key.
    pub attributes: Vec<(String, ResourceValue)>,
    /// The service that this process belongs to, itself a resource. `None`: this is one.
    pub part_of: Option<SharedResource>,
}

impl Resource {
    /// What metrics of a service go under: its processes come and go, and are too many to tell apart.
    pub fn of_service(self: &Arc<Self>) -> &SharedResource {
        self.part_of.as_ref().unwrap_or(self)
    }
}

/// Value of a resource attribute.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ResourceValue {
    /// Text.
    Str(String),
    /// Integer.
    Int(i64),
    /// List of texts.
    List(Vec<String>),
}

/// Resource shared between stages.
pub type SharedResource = Arc<Resource>;

/// The attributes of a process's resource, sorted by key, each key once.
///
/// `service.name`: the operator's rules, the process's environment (`OTEL_SERVICE_NAME`, then
/// `OTEL_RESOURCE_ATTRIBUTES`), what is said of its pod, what is found of its [`Identity`], else
/// `unknown_service`. Other attributes in the environment are carried over; what the agent itself
/// sees (`process.*`, `container.id`, `telemetry.*`, `os.type`) is not theirs to say, nor what the pod
/// is or is not, where the API server says it ([`is_for_the_server`]).
///
/// Command line and working directory stay out: they belong to the exec record, and would go out
/// with every batch.
pub fn resource_attributes(
    facts: &ProcessFacts,
    identity: &Identity,
    host: &HostFacts,
    rules: &NameRules,
    workload: Option<&Workload>,
) -> Vec<(String, ResourceValue)> {
    let mut attributes = Attributes(BTreeMap::new());
    attributes.text("service.name", identity.service.as_deref().unwrap_or("unknown_service"));
    attributes.text("service.namespace", identity.namespace.as_deref().unwrap_or_default());
    attributes.text("service.instance.id", &instance_id(facts, host));
    attributes.text("host.name", &host.name);
    attributes.text("host.id", &host.id);
    attributes.text("host.arch", &host.arch);
    attributes.text("os.version", &host.kernel);

    let mut known = Vec::new();
    if let Some(workload) = workload {
        let fact = &mut |key: &str, value| known.push((key.to_owned(), value));
        pod_attributes(workload, |key, value| attributes.claimed(key, value), fact);
    }
    attributes.carried(facts);
    if let Some(workload) = workload {
        let text = |value: &ResourceValue| match value {
            ResourceValue::Str(text) => text.clone(),
            _ => String::new(),
        };
        attributes.0.retain(|key, value| !is_for_the_server(workload, key, &text(value)));
    }
    attributes.0.extend(known);
    if let Some(naming) = rules.naming(facts) {
        attributes.text("service.name", &naming.name);
        attributes.text("service.namespace", naming.namespace.as_deref().unwrap_or_default());
    }

    attributes.text("os.type", "linux");
    attributes.place(&place(&facts.cgroup), workload.is_some());
    attributes.process(facts);
    if let Some(runtime) = &identity.runtime {
        attributes.text("process.runtime.name", runtime.name);
        attributes.text("process.runtime.version", runtime.version.as_deref().unwrap_or_default());
    }
    attributes.text("telemetry.sdk.name", "kernspan");
    attributes.text("telemetry.sdk.version", &host.agent_version);
    attributes.text("telemetry.sdk.language", identity.language.unwrap_or_default());
    attributes.text("telemetry.distro.name", "kernspan");
    attributes.text("telemetry.distro.version", &host.agent_version);
    attributes.0.into_iter().collect()
}

/// The attributes of the service that a process with the resource `of` belongs to: those that all its
/// processes on this host have, within one container. Its `service.instance.id` is made of these, unless the
/// process's environment has given one.
pub fn service_attributes(
    of: &[(String, ResourceValue)],
    facts: &ProcessFacts,
    host: &HostFacts,
) -> Vec<(String, ResourceValue)> {
    let text = |wanted: &str| {
        of.iter().find_map(|(key, value)| match value {
            ResourceValue::Str(text) if key == wanted => Some(text.as_str()),
            _ => None,
        })
    };
    let kept = of.iter().filter(|(key, _)| !key.starts_with("process."));
    let mut attributes = Attributes(kept.cloned().collect());
    if text("service.instance.id") == Some(&instance_id(facts, host)) {
        // Of all of it: what differs in anything is another instance.
        attributes.0.remove("service.instance.id");
        let name = format!("{:?}", attributes.0);
        attributes.text("service.instance.id", &uuid_of(&name));
    }
    attributes.0.into_iter().collect()
}

struct Attributes(BTreeMap<String, ResourceValue>);

impl Attributes {
    /// Sets a text, unless it is empty.
    fn text(&mut self, key: &str, value: &str) {
        let most = match key {
            "service.name" | "service.namespace" => MAX_SERVICE_NAME,
            _ => value.len(),
        };
        let value = value.get(..value.floor_char_boundary(most)).unwrap_or_default();
        if !value.is_empty() {
            self.0.insert(key.to_owned(), ResourceValue::Str(value.to_owned()));
        }
    }

    fn int(&mut self, key: &str, value: u32) {
        self.0.insert(key.to_owned(), ResourceValue::Int(i64::from(value)));
    }

    /// What somebody says of the process, unless it is for the agent to say.
    fn claimed(&mut self, key: &str, value: &str) {
        let own = ["process.", "telemetry."].iter().any(|prefix| key.starts_with(prefix))
            || matches!(key, "container.id" | "os.type");
        if !own {
            self.text(key, value);
        }
    }

    /// What the process's environment says.
    fn carried(&mut self, facts: &ProcessFacts) {
        let declared = variable(facts, "OTEL_RESOURCE_ATTRIBUTES").and_then(declared_attributes);
        for (key, value) in declared.unwrap_or_default() {
            self.claimed(&key, &value);
        }
        let name = variable(facts, "OTEL_SERVICE_NAME").unwrap_or_default();
        self.text("service.name", name);
    }

    /// The innermost container and pod. What the API server says of its uid stands, then what the cgroup says;
    /// the process's own word where that has a hash, as of a pod from a file.
    fn place(&mut self, place: &Place<'_>, is_known: bool) {
        self.text("container.id", place.containers.first().copied().unwrap_or_default());
        if let Some(pod) = place.pods.first()
            && (!self.0.contains_key("k8s.pod.uid") || (pod.is_uuid && !is_known))
        {
            self.text("k8s.pod.uid", &pod.to_string());
        }
    }

    fn process(&mut self, facts: &ProcessFacts) {
        self.int("process.pid", facts.key.tgid);
        let known = !facts.executable.is_empty() || !facts.comm.is_empty();
        if !known {
            return;
        }
        self.int("process.parent_pid", facts.parent_tgid);
        if facts.vpid != 0 {
            self.int("process.vpid", facts.vpid);
        }
        let path = facts.executable.as_str();
        let name = path.rsplit('/').next().filter(|name| !name.is_empty());
        self.text("process.executable.path", path);
        self.text("process.executable.name", name.unwrap_or(&facts.comm));
        self.text("process.command", facts.args.first().map_or("", String::as_str));
        self.text("process.owner", &facts.user_name);
        self.int("process.user.id", facts.user_id);
        self.text("process.user.name", &facts.user_name);
    }
}

/// The value of one of [`KEPT_ENVIRONMENT`], unless it is blank.
pub(super) fn variable<'a>(facts: &'a ProcessFacts, name: &str) -> Option<&'a str> {
    let found = facts.environment.iter().find(|(key, _)| key == name);
    found.map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
}

/// `key=value,key=value`, percent-decoded. `None` when any of it is wrong: then all of it is
/// dropped (resource SDK specification). Empty members are no error.
fn declared_attributes(text: &str) -> Option<Vec<(String, String)>> {
    let members = text.split(',').map(str::trim).filter(|member| !member.is_empty());
    let mut attributes = Vec::new();
    for member in members {
        let (key, value) = member.split_once('=')?;
        let (key, value) = (percent_decoded(key.trim())?, percent_decoded(value.trim())?);
        let fits = key.len() <= MAX_CARRIED_TEXT && value.len() <= MAX_CARRIED_TEXT;
        if key.is_empty() || !fits || attributes.len() == MAX_CARRIED {
            return None;
        }
        attributes.push((key, value));
    }
    Some(attributes)
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let mut digit = || char::from(rest.next()?).to_digit(16);
        bytes.push(match byte {
            b'%' => u8::try_from(digit()? << 4 | digit()?).ok()?,
            _ => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// Of boot id, process number and start: one process has one id for every
/// agent that sees it, and across restarts of the agent.
fn instance_id(facts: &ProcessFacts, host: &HostFacts) -> String {
    uuid_of(&format!("{}/{}/{}", host.boot_id, facts.key.tgid, start_tick(facts.key)))
}

/// UUIDv5 (RFC 9562) of a name among instances.
fn uuid_of(name: &str) -> String {
    let digest = Sha1::new().chain_update(INSTANCE_NAMESPACE).chain_update(name).finalize();
    let mut uuid = [0; 16];
    uuid.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    let mut value = u128::from_be_bytes(uuid);
    value = value & !(0xf << 76) | 5 << 76; // version 5
    value = value & !(0b11 << 62) | 0b10 << 62; // variant 10
    let hex = format!("{value:032x}");
    let part = |range| hex.get(range).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0..8), part(8..12), part(12..16), part(16..20), part(20..32))
}

#[cfg(test)]
#[path = "resource_tests.rs"]
mod tests;
