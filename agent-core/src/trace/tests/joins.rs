//! Both ends of a connection on one host.

use super::script::*;
use crate::id::SpanId;
use crate::message::{Endpoints, Failure, Role};

#[test]
fn client_and_server_of_one_connection_are_one_trace() {
    let mut script = Script::default();
    let mut link = script.tcp();
    let call = script.call(&mut link, 100, thread(100, 1), thread(101, 2));
    script.reply(call, 300);
    let seen = script.run();
    let (client, server) = (seen.span(call.client), seen.span(call.server));
    assert_eq!(server.parent, Some(client.id));
    assert_eq!((server.trace, client.parent), (client.trace, None));
    assert_eq!((server.method(), server.remote), ("connection", true));
    assert_eq!((client.method(), client.flags), ("", 3));
    assert_eq!(client.trace, KEY.trace(client.id));
    assert_eq!(seen.recycled, 2);
}

#[test]
fn every_request_of_a_kept_connection_joins() {
    let mut script = Script::default();
    let mut link = script.tcp();
    let calls: Vec<_> = (1..=5)
        .map(|n| {
            let call = script.call(&mut link, n * 1000, thread(100, 1), thread(101, 2));
            script.reply(call, n * 1000 + 200);
            call
        })
        .collect();
    let seen = script.run();
    for call in calls {
        assert_eq!(seen.span(call.server).parent, Some(call.client));
        assert_eq!(seen.span(call.client).parent, None);
    }
}

#[test]
fn pipelined_requests_join_although_the_ends_see_other_positions_of_the_responses() {
    let mut script = Script::default();
    let mut link = script.tcp();
    let first = script.call(&mut link, 100, thread(100, 1), thread(101, 2));
    let mut client = started(Role::Client, &link, 101 * US, thread(100, 1));
    let server = started(Role::Server, &link, 111 * US, thread(101, 2));
    client.opposite -= 1000;
    let (client_id, server_id) = (client.span, server.span);
    script.send(client);
    script.send(server);
    script.reply(first, 200);
    script.end(server_id, link.server, 250, Some(200), None);
    script.end(client_id, link.client, 260, Some(200), None);
    let seen = script.run();
    assert_eq!(seen.span(first.server).parent, Some(first.client));
    assert_eq!(seen.span(server_id).parent, Some(client_id));
}

#[test]
fn a_client_whose_time_is_its_calls_end_is_corrected_by_the_arrival() {
    let mut script = Script::default();
    let link = script.tcp();
    let mut client = started(Role::Client, &link, 130 * US, thread(100, 1));
    client.true_start = false;
    client.taken_ns = client.start_ns;
    let server = started(Role::Server, &link, 110 * US, thread(101, 2));
    let (client_id, server_id) = (client.span, server.span);
    script.send(client);
    script.send(server);
    // The server is done before the client's send has even returned.
    script.end(server_id, link.server, 120, Some(200), None);
    script.end(client_id, link.client, 118, Some(200), None);
    let seen = script.run();
    let (client, server) = (seen.span(client_id), seen.span(server_id));
    assert_eq!(server.parent, Some(client.id));
    assert_eq!((client.start, server.start), (110 * US, 110 * US));
    assert!(server.end <= client.end, "{} within {}", server.end, client.end);
    assert_eq!(seen.count("start_corrected"), 1);
}

#[test]
fn a_client_that_comes_after_its_server_was_given_out_leaves_it_alone() {
    let mut script = Script::default();
    let link = script.tcp();
    let mut client = started(Role::Client, &link, 90 * US, thread(100, 1));
    client.taken_ns = 150_000 * US;
    let server = started(Role::Server, &link, 110 * US, thread(101, 2));
    let (client_id, server_id) = (client.span, server.span);
    script.send(client);
    script.send(server);
    script.end(server_id, link.server, 120, Some(200), None);
    script.end(client_id, link.client, 160_000, Some(200), None);
    let seen = script.run();
    assert_eq!(seen.span(server_id).parent, None);
    assert_ne!(seen.span(server_id).trace, seen.span(client_id).trace);
}

#[test]
fn a_client_that_waits_for_a_processor_behind_its_send_still_joins() {
    let mut script = Script::default();
    let link = script.tcp();
    let mut client = started(Role::Client, &link, 90 * US, thread(100, 1));
    client.taken_ns = 50_000 * US;
    let server = started(Role::Server, &link, 110 * US, thread(101, 2));
    let (client_id, server_id) = (client.span, server.span);
    script.send(client);
    script.send(server);
    script.end(server_id, link.server, 120, Some(200), None);
    script.end(client_id, link.client, 50_100, Some(200), None);
    let seen = script.run();
    assert_eq!(seen.span(server_id).parent, Some(client_id));
}

#[test]
fn a_client_blocked_in_its_send_still_joins_a_server_that_works_on() {
    let mut script = Script::default();
    let link = script.tcp();
    let mut client = started(Role::Client, &link, 90 * US, thread(100, 1));
    client.taken_ns = 50_000 * US;
    let server = started(Role::Server, &link, 110 * US, thread(101, 2));
    let (client_id, server_id) = (client.span, server.span);
    script.send(client);
    script.send(server);
    script.end(server_id, link.server, 60_000, Some(200), None);
    script.end(client_id, link.client, 60_010, Some(200), None);
    let seen = script.run();
    assert_eq!(seen.span(server_id).parent, Some(client_id));
}

#[test]
fn addresses_of_the_same_namespace_can_refuse_and_those_of_another_cannot() {
    for (why, netns, joined) in [("same namespace", 1, false), ("another", 2, true)] {
        let mut script = Script::default();
        let mut link = script.tcp();
        let far =
            Endpoints { family: 2, local_port: 9, netns, remote_port: 9, ..Endpoints::default() };
        script.step(1, 1, What::Opened(link.server, far));
        let call = script.call(&mut link, 100, thread(100, 1), thread(101, 2));
        script.reply(call, 300);
        assert_eq!(script.run().span(call.server).parent.is_some(), joined, "{why}");
    }
}

#[test]
fn sockets_of_which_nothing_is_known_join_by_positions() {
    let mut script = Script::default();
    let mut link = script.link();
    let call = script.call(&mut link, 100, thread(100, 1), thread(101, 2));
    script.reply(call, 300);
    assert_eq!(script.run().span(call.server).parent, Some(call.client));
}

#[test]
fn unix_sockets_join_by_peer_even_when_their_counters_differ() {
    for shift in [0, 555] {
        let mut script = Script::default();
        let link = script.unix();
        let client = started(Role::Client, &link, 100 * US, thread(100, 1));
        // A stale arrival: earlier than the send.
        let mut server = started(Role::Server, &link, 95 * US, thread(101, 2));
        server.taken_ns = 120 * US;
        server.position += shift;
        let (client_id, server_id) = (client.span, server.span);
        script.send(client);
        script.send(server);
        script.end(server_id, link.server, 150, Some(200), None);
        script.end(client_id, link.client, 160, Some(200), None);
        let seen = script.run();
        let (client, server) = (seen.span(client_id), seen.span(server_id));
        assert_eq!(server.parent, Some(client_id), "shift {shift}");
        assert_eq!((client.start, server.start), (100 * US, 100 * US), "the stale one gives way");
        assert_eq!(client.get("server.address"), "/run/app.sock");
        assert_eq!(client.get("network.transport"), "unix");
        assert_eq!(seen.count("start_clamped"), 1);
    }
}

#[test]
fn a_server_that_works_on_after_its_client_gave_up_keeps_its_own_end() {
    let mut script = Script::default();
    let mut link = script.tcp();
    let call = script.call(&mut link, 100, thread(100, 1), thread(101, 2));
    script.end(call.client, link.client, 500, None, Some(Failure::ConnectionClosed));
    script.server_end(call, 900, 200);
    let seen = script.run();
    let (client, server) = (seen.span(call.client), seen.span(call.server));
    assert_eq!((client.end, server.end), (500 * US, 900 * US));
    assert!(client.error);
    assert_eq!(client.get("error.type"), "connection_closed");
    assert_eq!(server.parent, Some(client.id));
}

#[test]
fn joined_server_spans_end_inside_their_client_spans_whoever_is_reported_first() {
    for (why, client_end, client_reported) in
        [("client known first", 290, 290), ("client known last", 290, 9000)]
    {
        let mut script = Script::default();
        let mut link = script.tcp();
        let call = script.call(&mut link, 100, thread(100, 1), thread(101, 2));
        script.server_end(call, 300, 200);
        script.client_end(call, client_end, 200);
        if let Some(last) = script.steps.last_mut() {
            last.at = client_reported * US;
        }
        let seen = script.run();
        let (client, server) = (seen.span(call.client), seen.span(call.server));
        assert!(server.end <= client.end, "{why}: {} > {}", server.end, client.end);
    }
}

#[test]
fn an_unobserved_end_gives_way_to_what_the_other_end_saw() {
    const LOST: Option<Failure> = Some(Failure::Unobserved);
    for (why, (client_end, client_lost), (server_end, server_lost), expected) in [
        ("client's lost, early", (200, LOST), (900, None), (900, 900)),
        ("client's lost, late", (950, LOST), (900, None), (950, 900)),
        ("both lost, client first", (200, LOST), (900, LOST), (200, 200)),
        ("both lost, server first", (900, LOST), (200, LOST), (900, 200)),
        ("both seen", (910, None), (900, None), (910, 900)),
    ] {
        let mut script = Script::default();
        let mut link = script.tcp();
        let call = script.call(&mut link, 100, thread(100, 1), thread(101, 2));
        let status = |lost: Option<Failure>| if lost.is_none() { Some(200) } else { None };
        script.end(call.server, link.server, server_end, status(server_lost), server_lost);
        script.end(call.client, link.client, client_end, status(client_lost), client_lost);
        // A client's lost end turns out after the server's.
        if let Some(last) = script.steps.last_mut()
            && server_lost.is_none()
        {
            last.at = 990 * US;
        }
        let seen = script.run();
        let (client, server) = (seen.span(call.client), seen.span(call.server));
        let (client_expected, server_expected) = expected;
        assert_eq!((client.end, server.end), (client_expected * US, server_expected * US), "{why}");
    }
}

#[test]
fn a_peer_that_never_shows_is_not_waited_for_and_one_that_does_is() {
    for (alone, joined) in [(7, true), (8, false)] {
        let mut script = Script::default();
        let mut link = script.tcp();
        // Requests of which only the server's end is seen; each is given out before the next.
        for n in 1..=alone {
            let server = started(Role::Server, &link, n * 200_000 * US, thread(101, 2));
            script.end(server.span, link.server, n * 200_000 + 20, Some(200), None);
            script.send(server);
            Script::default().call(&mut link, 0, thread(100, 1), thread(101, 2));
        }
        // A client that is reported 50 ms late finds its server's end waiting, or it does not.
        let first = late_client(&mut script, &mut link, 5_000_000);
        let usual = script.call(&mut link, 6_000_000, thread(100, 1), thread(101, 2));
        script.reply(usual, 6_000_100);
        let last = late_client(&mut script, &mut link, 7_000_000);
        let seen = script.run();
        for (why, (client, server), expected) in [
            ("the first that shows", first, joined),
            ("in time", (usual.client, usual.server), true),
            ("waited for again", last, true),
        ] {
            let parent = seen.span(server).parent;
            assert_eq!(parent, expected.then_some(client), "{why}, {alone} alone before");
        }
    }
}

/// A request whose client end is reported 50 ms late: its spans.
fn late_client(script: &mut Script, link: &mut Link, at: u64) -> (SpanId, SpanId) {
    let mut client = started(Role::Client, link, at * US, thread(100, 1));
    client.taken_ns = (at + 50_000) * US;
    let server = started(Role::Server, link, (at + 10) * US, thread(101, 2));
    let ids = (client.span, server.span);
    script.end(ids.1, link.server, at + 20, Some(200), None);
    script.end(ids.0, link.client, at + 50_010, Some(200), None);
    script.send(client);
    script.send(server);
    Script::default().call(link, 0, thread(100, 1), thread(101, 2));
    ids
}
