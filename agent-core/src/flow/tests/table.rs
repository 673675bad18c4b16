use crate::event::ProcessKey;
use crate::flow::conversation::Role;
use crate::flow::table::{Change, FlowChange, FlowTable, TableConfig};
use crate::flow::{Names, Totals};
use crate::ledger::Side;
use agent_common::record::{DatagramKey, Datagrams, Flow, Header, VERSION, kind, role, sign};

const SECOND: u64 = 1_000_000_000;

fn addr(last: u8) -> [u8; 16] {
    let mut addr = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 0];
    addr[15] = last;
    addr
}

/// A TCP socket of process `tgid`, from address 1 to address 2.
pub fn tcp(cookie: u64, tgid: u32, sent: u64) -> Flow {
    Flow {
        header: Header {
            version: VERSION,
            kind: kind::FLOW,
            tgid,
            start_ns: 7,
            boot_ns: SECOND,
            ..Header::default()
        },
        cookie,
        bytes_sent: sent,
        local_addr: addr(1),
        remote_addr: addr(2),
        local_port: 40_000,
        remote_port: 80,
        family: 2,
        protocol: 6,
        netns: 1,
        state: 1,
        ..Flow::default()
    }
}

fn ended(flow: Flow) -> Flow {
    Flow { old_state: 5, state: 7, ..flow }
}

fn table(capacity: usize) -> FlowTable {
    FlowTable::new(TableConfig { capacity, own_tgid: 99, ..TableConfig::default() })
}

fn report(table: &mut FlowTable, now: u64) -> Vec<FlowChange> {
    let mut changes = Vec::new();
    table.report(now, &Names::default(), &mut |change| changes.push(change), &mut |_| {});
    changes
}

#[test]
fn what_is_reported_adds_up_to_the_totals() {
    let (mut table, names) = (table(10), Names::default());
    table.listed(&tcp(1, 5, 100), SECOND);
    let first = report(&mut table, SECOND);
    assert_eq!((first[0].delta.bytes_sent, first[0].is_new), (100, true));
    table.listed(&tcp(1, 5, 150), 2 * SECOND);
    let second = report(&mut table, 2 * SECOND);
    assert_eq!((second[0].delta.bytes_sent, second[0].is_new), (50, false));
    // At the end the kernel no longer knows the process; the table does.
    let end = table.ended(&ended(tcp(1, 0, 175)), &names).expect("reported");
    assert_eq!((end.change, end.delta.bytes_sent, end.is_new), (Change::End, 25, false));
    assert_eq!(end.conversation.totals.bytes_sent, 175);
    assert_eq!(end.conversation.process, Some(ProcessKey { tgid: 5, start_ns: 7 }));
    assert!(report(&mut table, 3 * SECOND).is_empty(), "it is over");
}

#[test]
fn a_short_conversation_is_one_end_and_a_fin_is_no_byte() {
    let (mut table, names) = (table(10), Names::default());
    let flow = Flow { bytes_received: 11, signs: sign::FIN_RECEIVED, ..ended(tcp(1, 5, 3)) };
    let end = table.ended(&flow, &names).expect("reported");
    let expected = Totals { bytes_sent: 3, bytes_received: 10, ..Totals::default() };
    assert_eq!((end.delta, end.is_new), (expected, true));
}

#[test]
fn both_ends_on_this_host_know_each_other() {
    let mut table = table(10);
    let client = Flow { role: role::CONNECTED, ..tcp(1, 5, 1) };
    let server = Flow {
        local_addr: client.remote_addr,
        remote_addr: client.local_addr,
        local_port: client.remote_port,
        remote_port: client.local_port,
        // In another namespace, and older than the agent.
        netns: 2,
        role: role::UNKNOWN,
        ..tcp(2, 6, 1)
    };
    table.listed(&client, SECOND);
    table.listed(&server, SECOND);
    let mut changes = report(&mut table, SECOND);
    changes.sort_by_key(|change| change.conversation.id.cookie);
    let peers: Vec<_> = changes.iter().map(|c| c.conversation.local_peer.map(|p| p.tgid)).collect();
    assert_eq!(peers, [Some(6), Some(5)]);
    assert_eq!(changes[1].conversation.role, Role::Server, "the other end connected");
}

#[test]
fn the_agents_own_are_nobodys_business() {
    let (mut table, names) = (table(10), Names::default());
    table.listed(&tcp(1, 99, 100), SECOND);
    assert!(report(&mut table, SECOND).is_empty());
    assert!(table.ended(&ended(tcp(1, 99, 100)), &names).is_none());
}

#[test]
fn the_flow_table_is_bounded() {
    let mut table = table(100);
    for cookie in 0..1000 {
        table.listed(&tcp(cookie, 5, 1), SECOND);
    }
    assert_eq!(report(&mut table, SECOND).len(), 100);
    let full = table.ledger().into_iter().find(|entry| entry.side == Side::Info("table_full"));
    assert_eq!(full.map(|entry| entry.count), Some(900));
    // Those without room are reported at their end all the same.
    assert!(table.ended(&ended(tcp(999, 5, 1)), &Names::default()).is_some());
}

#[test]
fn udp_ends_when_it_is_quiet_and_lost_ends_are_given_up() {
    let mut table = table(10);
    let key = DatagramKey { cookie: 3, remote_addr: addr(2), remote_port: 53, pad: 0 };
    let counted =
        Datagrams { sent: 2, bytes_sent: 60, last_ns: SECOND, tgid: 5, ..Datagrams::default() };
    table.counted(&key, &counted, SECOND);
    table.listed(&tcp(1, 5, 1), SECOND);
    assert_eq!(report(&mut table, 2 * SECOND).len(), 2);
    let mut over = Vec::new();
    let mut changes = Vec::new();
    let now = 100 * SECOND;
    table.report(now, &Names::default(), &mut |c| changes.push(c.change), &mut |id| over.push(id));
    assert_eq!((changes.contains(&Change::End), over.len()), (true, 1));
    let changes = report(&mut table, 1000 * SECOND);
    assert!(changes.is_empty(), "not seen for ten minutes: {changes:?}");
    let ledger = table.ledger();
    let of = |side| ledger.iter().find(|entry| entry.side == side).map(|entry| entry.count);
    assert_eq!((of(Side::In), of(Side::Out)), (Some(2), Some(1)));
    assert_eq!((of(Side::Held), of(Side::Lost("unseen"))), (Some(0), Some(1)));
}

#[test]
fn names_hold_as_long_as_their_answer_and_are_bounded() {
    let mut names = Names::new(10);
    names.learn(5, 1, addr(2), "a.test", 120, SECOND);
    for (why, process, netns, at, expected) in [
        ("who asked", Some(5), 1, 2 * SECOND, Some("a.test")),
        ("another in its namespace", Some(6), 1, 2 * SECOND, Some("a.test")),
        ("who asked, elsewhere", Some(5), 2, 2 * SECOND, Some("a.test")),
        ("nobody", Some(6), 2, 2 * SECOND, None),
        ("too late", Some(5), 1, 200 * SECOND, None),
    ] {
        assert_eq!(names.name(process, netns, addr(2), at), expected, "{why}");
    }
    names.learn(5, 1, addr(2), "b.test", 120, SECOND);
    assert_eq!(names.name(Some(5), 1, addr(2), SECOND), Some("b.test"), "the latest");
    for last in 0..200 {
        names.learn(u32::from(last), 1, addr(last), "c.test", 9, SECOND);
    }
    assert!(names.counts().0 <= 10, "{:?}", names.counts());
}

#[test]
fn who_serves_is_guessed_by_the_port_and_said_to_be() {
    let mut table = table(10);
    table.listed(&tcp(1, 5, 1), SECOND);
    let changes = report(&mut table, SECOND);
    assert_eq!(changes[0].conversation.role, Role::Unknown);
    assert_eq!(changes[0].conversation.guessed_role(), (Role::Client, true));
}

#[test]
fn ends_are_found_after_many_have_come_and_gone() {
    let mut table = table(5000);
    let pair = |cookie: u64| {
        let port = 20_000 + cookie as u16;
        let client = Flow { local_port: port, ..tcp(2 * cookie, 5, 1) };
        let server = Flow {
            local_addr: client.remote_addr,
            remote_addr: client.local_addr,
            local_port: client.remote_port,
            remote_port: port,
            ..tcp(2 * cookie + 1, 6, 1)
        };
        [client, server]
    };
    for round in 0..4 {
        let all: Vec<_> = (0..2000).flat_map(pair).collect();
        all.iter().for_each(|flow| table.listed(flow, SECOND));
        let changes = report(&mut table, SECOND);
        assert_eq!(changes.len(), 4000, "round {round}");
        for change in changes {
            let expected =
                if change.conversation.process.is_some_and(|p| p.tgid == 5) { 6 } else { 5 };
            let peer = change.conversation.local_peer.map(|peer| peer.tgid);
            assert_eq!(peer, Some(expected), "{:?}", change.conversation);
        }
        // Those that stay keep their ends; the others' places are taken again.
        for flow in all.iter().filter(|flow| flow.cookie % 3 != round % 3) {
            table.ended(&ended(*flow), &Names::default()).expect("reported");
        }
        let left = all.iter().filter(|flow| flow.cookie % 3 == round % 3).count();
        assert_eq!(report(&mut table, SECOND).len(), left);
        all.iter().for_each(|flow| {
            table.ended(&ended(*flow), &Names::default());
        });
        assert_eq!(report(&mut table, SECOND).len(), 0);
    }
}

#[test]
fn a_socket_that_is_connected_elsewhere_is_found_there() {
    let mut table = table(10);
    let server = |cookie, port| Flow {
        local_addr: addr(2),
        remote_addr: addr(1),
        local_port: port,
        remote_port: 40_000,
        ..tcp(cookie, 6, 1)
    };
    table.listed(&tcp(1, 5, 1), SECOND);
    table.listed(&Flow { remote_port: 81, ..tcp(1, 5, 1) }, SECOND);
    table.listed(&server(2, 80), SECOND);
    let peers = |table: &mut FlowTable| -> Vec<_> {
        let changes = report(table, SECOND);
        changes.into_iter().map(|change| change.conversation.local_peer.is_some()).collect()
    };
    assert_eq!(peers(&mut table), [false, false], "nobody talks to port 80 any more");
    table.listed(&server(3, 81), SECOND);
    assert_eq!(peers(&mut table).iter().filter(|peer| **peer).count(), 2);
}
