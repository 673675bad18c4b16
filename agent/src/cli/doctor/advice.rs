//! What can be done about what is not seen.

use super::HookReport;
use super::group::Group;
use super::programs::{Coverage, Programs, Source};
use agent_core::traffic::Class;
use serde_json::{Value, json};

/// Shares below this are no reason for advice, in hundredths.
const LITTLE: f64 = 5.0;

/// So are fewer bytes than these.
const FEW: u64 = 1000;

/// Services named in one piece of advice; the rest are counted.
const MOST_NAMED: usize = 5;

/// One piece of advice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// For programs: what it is about, never changed.
    pub code: &'static str,
    /// Services that it concerns; none: all.
    pub services: Vec<String>,
    /// What to do, and what for.
    pub text: String,
}

impl Advice {
    fn new(code: &'static str, text: impl Into<String>) -> Advice {
        Advice { code, services: Vec::new(), text: text.into() }
    }

    /// The services, and what to do.
    pub fn to_text(&self) -> String {
        let named = self.services.iter().take(MOST_NAMED).map(String::as_str);
        let mut who = named.collect::<Vec<_>>().join(", ");
        if self.services.len() > MOST_NAMED {
            who.push_str(&format!(" and {} more", self.services.len() - MOST_NAMED));
        }
        if who.is_empty() { self.text.clone() } else { format!("{who}: {}", self.text) }
    }

    /// For programs.
    pub fn to_json(&self) -> Value {
        json!({"code": self.code, "services": self.services, "text": self.text})
    }
}

/// All there is to say. `lacking`: capabilities that doctor itself has not, with what they cost.
pub fn advice(programs: &Programs, hooks: &[HookReport], lacking: &[(&str, &str)]) -> Vec<Advice> {
    let mut all = All::default();
    if programs.source == Source::Nobody {
        all.add(None, Advice::new("no_agent", "start an agent with `kernspan run --listen \
        127.0.0.1:9464`, or watch for a while with `kernspan doctor --for 10s`, to know what becomes of their bytes"));
    }
    for (name, without) in lacking {
        let text = format!("run it with {name}: without it {without}");
        all.add(None, Advice::new("capability", text));
    }
    of_agent(programs, &mut all);
    // What is left out is meant to be.
    for group in programs.groups().iter().filter(|group| group.alike.left_out.is_empty()) {
        of_tls(group, &mut all);
        of_goroutines(group, &mut all);
        of_bytes(group, programs, hooks, &mut all);
    }
    all.0
}

/// Advice, each text once with all services that it concerns.
#[derive(Default)]
struct All(Vec<Advice>);

impl All {
    fn add(&mut self, service: Option<&str>, advice: Advice) {
        let same = |known: &&mut Advice| (known.code, &known.text) == (advice.code, &advice.text);
        let place = match self.0.iter_mut().find(same) {
            Some(known) => known,
            None => {
                self.0.push(advice);
                let Some(last) = self.0.last_mut() else { return };
                last
            }
        };
        if let Some(service) = service
            && !place.services.iter().any(|known| known == service)
        {
            place.services.push(service.to_owned());
        }
    }
}

/// What the agent had no room for.
fn of_agent(programs: &Programs, all: &mut All) {
    if programs.records_lost > 0 {
        let text = format!(
            "the agent has lost {} records for want of room: start it with a larger --ring-size",
            programs.records_lost
        );
        all.add(None, Advice::new("ring_size", text));
    }
    if programs.tls_sockets_without_room > 0 {
        let text = format!(
            "the plaintext of {} sockets was not read for want of room: start the agent with a \
             larger --max-memory",
            programs.tls_sockets_without_room
        );
        all.add(None, Advice::new("max_memory", text));
    }
}

/// Libraries that are used and not read.
fn of_tls(group: &Group, all: &mut All) {
    for tls in &group.alike.tls {
        let Some(why) = &tls.blind else { continue };
        let advice = match tls.library.as_str() {
            _ if why.contains("too many files") => Advice::new(
                "tls_too_many_files",
                "more files with TLS libraries are in use than carry probes: watch fewer programs \
                 (--include), or let containers share an image's layers",
            ),
            _ if why.contains("refused by the kernel") => Advice::new(
                "tls_refused",
                format!(
                    "the kernel refuses probes on {} ({why}): where it asks for CAP_SYS_ADMIN, \
                     run the agent with it",
                    tls.library
                ),
            ),
            "JSSE (Java)" => Advice::new(
                "tls_java",
                "TLS of the JVM is not read: end TLS in a proxy before it (nginx, Envoy), use a \
                 native provider (netty-tcnative), or report its requests by OpenTelemetry's Java agent",
            ),
            "rustls (no symbols)" => Advice::new(
                "tls_stripped",
                "its rustls is found by symbols: build it with `strip = \"debuginfo\"` (or none) \
                 in `[profile.release]`",
            ),
            library if library.starts_with("BoringSSL") => Advice::new(
                "tls_stripped",
                "its BoringSSL was not recognised: build it with symbols, or with exported \
                 SSL_read and SSL_write",
            ),
            library => Advice::new(
                "tls_unknown",
                format!(
                    "{library} is not read ({why}): use OpenSSL, GnuTLS, NSS, rustls or BoringSSL \
                     with it, or end TLS in a proxy before it"
                ),
            ),
        };
        all.add(Some(&group.alike.service), advice);
    }
}

/// Goroutines that are not read.
fn of_goroutines(group: &Group, all: &mut All) {
    if let Some(Coverage { read: false, why }) = &group.alike.goroutines {
        let why = why.as_deref().unwrap_or("no reason is given");
        let hint = if why.contains("is not known") {
            "; a newer agent knows newer versions of Go"
        } else {
            ""
        };
        let text = format!(
            "which goroutine calls is not read ({why}): its calls are linked by the headers that \
             it passes on, or not at all{hint}"
        );
        all.add(Some(&group.alike.service), Advice::new("goroutines", text));
    }
}

/// What became of what it moved.
fn of_bytes(group: &Group, programs: &Programs, hooks: &[HookReport], all: &mut All) {
    let seen = &group.seen;
    let service = Some(group.alike.service.as_str());
    let much = |class| seen.percent(class) >= LITTLE && seen.bytes.of(class) >= FEW;
    if much(Class::Encrypted) && group.alike.tls.iter().all(|tls| tls.blind.is_none()) {
        let text = match group.alike.tls.is_empty() {
            true => {
                "it moves TLS, and no library is found in it that is known: it may only pass TLS \
                 on (a tunnel or proxy), which is as it should be"
            }
            false => {
                "it moves TLS that its library did not show: connections that are older than the \
                 agent show themselves when they are made anew; else it passes on TLS of others"
            }
        };
        all.add(service, Advice::new("tls_not_shown", text));
    }
    if much(Class::Unknown) {
        all.add(service, unknown(&seen.unparsed()));
    }
    if much(Class::Unreachable) {
        unreachable(group, programs, hooks, all);
    }
    if seen.bytes.of(Class::Shed) > 0 {
        all.add(
            service,
            Advice::new(
                "shed",
                "requests are left out to keep to a budget: raise \
        --max-cpu or --max-request-rate, or --ring-size",
            ),
        );
    }
    if seen.bytes.of(Class::Datagrams) > seen.streams() {
        all.add(
            service,
            Advice::new(
                "datagrams",
                "it speaks UDP mostly, whose messages are \
        counted and not read (QUIC with HTTP/3, DNS): `kernspan flows` shows them",
            ),
        );
    }
}

fn unknown(protocols: &[&str]) -> Advice {
    match protocols {
        [] => Advice::new(
            "protocol_unknown",
            "its protocol is not known: bytes are counted only, and `kernspan flows` shows its \
             conversations",
        ),
        ["HTTP/2"] => Advice::new(
            "protocol_not_parsed",
            "HTTP/2 is not parsed: bytes are counted only; where HTTP/1.1 will do, its requests \
             are seen",
        ),
        names => Advice::new(
            "protocol_not_parsed",
            format!(
                "{} is not parsed: bytes are counted only, and `kernspan flows` shows its \
                 conversations",
                names.join(", ")
            ),
        ),
    }
}

fn unreachable(group: &Group, programs: &Programs, hooks: &[HookReport], all: &mut All) {
    let service = Some(group.alike.service.as_str());
    let off = |feature: &str| {
        let own = hooks.iter().find(|hook| hook.feature == feature && hook.hooks.is_empty());
        let agents = programs.off.iter().find(|(name, _)| name == feature);
        agents.map(|(_, why)| why.clone()).or_else(|| own.map(|hook| hook.why.clone()))
    };
    if group.alike.io_uring {
        match off("received packets") {
            Some(why) => all.add(service, Advice::new("io_uring_received", format!("what it \
            receives by io_uring is not read here ({why}): use another kernel, or let it work without io_uring"))),
            None => all.add(service, Advice::new("io_uring_unix", "what io_uring sends over unix \
            sockets is not read: let it send by ordinary calls, or over TCP")),
        }
        return;
    }
    if let Some(why) = off("sent pages") {
        all.add(
            service,
            Advice::new(
                "sent_pages",
                format!("what it sends from files (sendfile, splice) is not read here: {why}"),
            ),
        );
        return;
    }
    all.add(service, Advice::new("unreachable", "the kernel did not show these bytes, or records \
    were lost: `payload_unreachable` and `sequence_gap` in the agent's /status say which; for lost records raise --ring-size"));
}

#[cfg(test)]
#[path = "advice_tests.rs"]
mod tests;
