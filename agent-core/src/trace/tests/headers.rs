//! Evidence that programs send themselves.

use super::script::*;
use crate::id::{SpanId, TraceId};
use crate::message::{Name, Published};
use crate::trace::AssemblerConfig;

const TRACE: TraceId = TraceId([0x4b; 16]);
const PARENT: &str = "00-4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b-0101010101010101-01";
const REWRITTEN: &str = "00-4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b-0202020202020202-01";
const B3: &str = "4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b-0101010101010101-1";

/// 101 receives `received` and calls 102 from another thread with `sent`.
fn passing(received: &[(Name, &str)], sent: &[(Name, &str)]) -> (Seen, Call, Call) {
    let mut script = Script::default();
    let (mut front, mut back) = (script.tcp(), script.tcp());
    let outer = script.call_with(&mut front, 100, thread(100, 1), thread(101, 2), received);
    let inner = script.call_with(&mut back, 200, thread(101, 8), thread(102, 3), sent);
    script.reply(inner, 300);
    script.reply(outer, 400);
    (script.run(), outer, inner)
}

#[test]
fn headers_link_as_the_contract_says() {
    let w3c = Name::Traceparent;
    type Row<'a> = (&'a str, &'a [(Name, &'a str)], &'a [(Name, &'a str)], &'a str);
    let rows: [Row<'_>; 7] = [
        ("sent on unchanged", &[(w3c, PARENT)], &[(w3c, PARENT)], "server"),
        ("made by an SDK inside", &[(w3c, PARENT)], &[(w3c, REWRITTEN)], "header"),
        ("only sent", &[], &[(w3c, REWRITTEN)], "header"),
        ("b3 sent on", &[(Name::B3, B3)], &[(Name::B3, B3)], "server"),
        ("request id", &[(Name::RequestId, "r1")], &[(Name::RequestId, "r1")], "server"),
        ("another request id", &[(Name::RequestId, "r1")], &[(Name::RequestId, "r2")], "none"),
        ("only received", &[(w3c, PARENT)], &[], "none"),
    ];
    for (why, received, sent, expected) in rows {
        let (seen, outer, inner) = passing(received, sent);
        let call = seen.span(inner.client);
        let parent = match expected {
            "server" => Some(outer.server),
            "header" => Some(SpanId([2; 8])),
            _ => None,
        };
        assert_eq!(call.parent, parent, "{why}");
        assert!(!call.remote, "{why}: whatever made it is in this process");
        assert_eq!(seen.span(inner.server).parent, Some(inner.client), "{why}");
        assert_eq!(seen.span(inner.server).trace, call.trace, "{why}");
    }
}

#[test]
fn a_declared_trace_id_is_kept_from_end_to_end() {
    let (seen, outer, _) = passing(&[(Name::Traceparent, PARENT)], &[(Name::Traceparent, PARENT)]);
    assert!(seen.spans.iter().all(|span| span.trace == TRACE), "{:?}", seen.spans);
    assert_eq!(seen.span(outer.client).parent, Some(SpanId([1; 8])));
    assert_eq!(seen.span(outer.client).flags, 1);
    assert_eq!(seen.span(outer.server).method(), "connection");
}

#[test]
fn a_server_whose_client_is_elsewhere_has_the_headers_parent() {
    let mut script = Script::default();
    let mut link = script.tcp();
    let headers = [(Name::Traceparent, PARENT)];
    let call = script.call_with(&mut link, 100, thread(100, 1), thread(101, 2), &headers);
    script.steps.retain(|step| !matches!(&step.what, What::Started(s) if s.span == call.client));
    script.server_end(call, 200, 200);
    let seen = script.run();
    let server = seen.span(call.server);
    assert_eq!((server.parent, server.trace), (Some(SpanId([1; 8])), TRACE));
    assert_eq!((server.method(), server.remote), ("traceparent", true));
    assert_eq!(seen.spans.len(), 1);
}

#[test]
fn what_several_open_requests_carry_links_to_none_of_them() {
    for (why, name, text, parent) in [
        ("request id", Name::RequestId, "same", None),
        ("traceparent", Name::Traceparent, PARENT, Some(SpanId([1; 8]))),
    ] {
        let mut script = Script::default();
        let (mut one, mut two, mut back) = (script.tcp(), script.tcp(), script.tcp());
        let headers = [(name, text)];
        let a = script.call_with(&mut one, 100, thread(100, 1), thread(101, 2), &headers);
        let b = script.call_with(&mut two, 110, thread(100, 9), thread(101, 4), &headers);
        let other = script.call_with(&mut back, 200, thread(101, 8), thread(102, 3), &headers);
        script.reply(other, 250);
        let own = script.call_with(&mut back, 300, thread(101, 4), thread(102, 3), &headers);
        script.reply(own, 350);
        script.reply(a, 400);
        script.reply(b, 400);
        let seen = script.run();
        assert_eq!(seen.span(other.client).parent, parent, "{why} on a strange thread");
        assert_eq!(seen.span(own.client).parent, Some(b.server), "{why}, the thread decides");
    }
}

/// 101 receives `received` on a thread and calls 102 from it with `sent`, while `span` is published.
fn publishing(received: &[(Name, &str)], sent: &[(Name, &str)], trace: u8) -> (Seen, Call, Call) {
    let mut script = Script::default();
    let (mut front, mut back) = (script.tcp(), script.tcp());
    let outer = script.call_with(&mut front, 100, thread(100, 1), thread(101, 2), received);
    let inner = script.call_with(&mut back, 200, thread(101, 2), thread(102, 3), sent);
    let published = Published { trace: TraceId([trace; 16]), span: SpanId([0x77; 8]), flags: 1 };
    for step in &mut script.steps {
        match &mut step.what {
            What::Started(started) if started.span == inner.client => {
                started.published = Some(published);
            }
            _ => {}
        }
    }
    script.reply(inner, 300);
    script.reply(outer, 400);
    (script.run(), outer, inner)
}

#[test]
fn a_published_span_is_the_parent_where_no_header_of_the_program_names_one() {
    let w3c = Name::Traceparent;
    type Row<'a> = (&'a str, &'a [(Name, &'a str)], &'a [(Name, &'a str)], u8, &'a str);
    let rows: [Row<'_>; 6] = [
        ("no header", &[], &[], 0x66, "published"),
        ("the header stays here", &[(w3c, PARENT)], &[], 0x4b, "published"),
        ("the header is sent on", &[(w3c, PARENT)], &[(w3c, PARENT)], 0x4b, "published"),
        ("it is, of another trace", &[(w3c, PARENT)], &[(w3c, PARENT)], 0x66, "server"),
        ("an SDK inside made one", &[(w3c, PARENT)], &[(w3c, REWRITTEN)], 0x4b, "header"),
        ("the same of another trace", &[], &[(w3c, REWRITTEN)], 0x66, "header"),
    ];
    for (why, received, sent, trace, expected) in rows {
        let (seen, outer, inner) = publishing(received, sent, trace);
        let call = seen.span(inner.client);
        let (parent, method) = match expected {
            "published" => (SpanId([0x77; 8]), "thread_context"),
            "server" => (outer.server, "traceparent"),
            _ => (SpanId([2; 8]), "traceparent"),
        };
        assert_eq!((call.parent, call.method()), (Some(parent), method), "{why}");
        assert!(!call.remote, "{why}: it is in this process");
        let its_trace = if expected == "published" { TraceId([trace; 16]) } else { TRACE };
        assert_eq!(call.trace, its_trace, "{why}");
        // The other end follows; the server request that was served stays where its header put it.
        let peer = seen.span(inner.server);
        assert_eq!((peer.parent, peer.trace), (Some(inner.client), call.trace), "{why}");
        if !received.is_empty() {
            assert_eq!(seen.span(outer.server).trace, TRACE, "{why}");
        }
    }
}

#[test]
fn nothing_published_counts_when_declared_evidence_is_off() {
    let mut script = Script::default();
    let mut link = script.tcp();
    let call = script.call(&mut link, 100, thread(100, 1), thread(101, 2));
    for step in &mut script.steps {
        if let What::Started(started) = &mut step.what {
            started.published = Some(Published { trace: TRACE, span: SpanId([0x77; 8]), flags: 1 });
        }
    }
    script.reply(call, 200);
    let mut config = AssemblerConfig::default();
    config.linker.headers = false;
    let seen = script.run_with(config);
    assert_eq!(seen.span(call.client).parent, None);
}
