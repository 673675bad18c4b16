use super::*;
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Instant;

/// Serves this for each path, one connection at a time; none: takes connections and says nothing.
fn served(answer: Option<fn(&str) -> String>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for mut stream in listener.incoming().flatten() {
            let Some(answer) = answer else {
                kept.push(stream);
                continue;
            };
            let mut head = [0; 4096];
            let read = stream.read(&mut head).unwrap_or(0);
            let head = String::from_utf8_lossy(&head[..read]).into_owned();
            let path = head.split(' ').nth(1).unwrap_or_default();
            let body = answer(path);
            let (status, body) = body.split_once('\n').unwrap_or(("200 OK", &body));
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            );
        }
    });
    address
}

fn agent(path: &str) -> String {
    match path {
        "/status" => json!({"version": "1", "pid": 7, "hooks": []}),
        "/processes" => json!({"processes": [], "filters": ["--include a\u{9b}b"]}),
        _ => json!(null),
    }
    .to_string()
}

fn web(_path: &str) -> String {
    "404 Not Found\nno such page".to_owned()
}

fn other(_path: &str) -> String {
    json!({"version": 5, "processes": 3}).to_string()
}

fn door(pid: u32, address: SocketAddr) -> Door {
    Door { pid, same_file: false, address }
}

fn asked(doors: Vec<Door>) -> (Answer, Vec<String>) {
    let client = client().unwrap();
    let runtime = start_runtime().unwrap();
    runtime.block_on(async {
        let (agents, strangers) = who(&client, doors).await;
        (first(&client, &agents).await, strangers.iter().map(stranger).collect())
    })
}

#[test]
fn one_that_hangs_does_not_keep_the_agent_from_answering() {
    let hanging = || served(None);
    let doors = vec![
        door(1, hanging()),
        door(2, hanging()),
        door(3, served(Some(web))),
        door(4, served(Some(other))),
        door(5, served(Some(agent))),
        door(6, hanging()),
    ];
    let address = doors[4].address.to_string();
    let began = Instant::now();
    let (answer, strangers) = asked(doors);
    assert!(began.elapsed() < WHO, "{:?}", began.elapsed());
    assert_eq!(answer.source, Source::Agent(address));
    assert_eq!(answer.agents, HashSet::from([5]));
    assert_eq!(answer.json.unwrap()["filters"][0], "--include a b", "what is told is tame");
    assert_eq!(strangers.len(), 5, "{strangers:?}");
    for (told, part) in [
        (0, "no whole answer to /status while an agent gave one"),
        (2, "404 Not Found to /status"),
        (3, "its /status is not that of an agent"),
    ] {
        assert!(strangers[told].contains(part), "{}", strangers[told]);
        assert!(strangers[told].ends_with("it is shown as any other"), "{}", strangers[told]);
    }
}

#[test]
fn where_nobody_answers_the_wait_ends() {
    let began = Instant::now();
    let (answer, strangers) = asked((1..=8).map(|pid| door(pid, served(None))).collect());
    assert!((WHO..2 * WHO).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert_eq!((answer.source, answer.agents.len(), strangers.len()), (Source::Nobody, 0, 8));
    assert!(strangers[7].contains("no whole answer to /status within 5 s"), "{}", strangers[7]);
}

#[test]
fn of_two_agents_the_first_is_asked_and_the_other_named() {
    let (one, two) = (served(Some(agent)), served(Some(agent)));
    // One that is an agent at one address is no stranger at another.
    let (answer, strangers) = asked(vec![door(7, one), door(8, two), door(7, served(Some(web)))]);
    assert_eq!(answer.source, Source::Agent(one.to_string()));
    assert_eq!(answer.agents, HashSet::from([7, 8]));
    assert_eq!(answer.remarks, [format!("another agent, 8, answers at {two} (--agent)")]);
    assert!(strangers.is_empty(), "{strangers:?}");
}

#[test]
fn not_every_address_is_tried() {
    let address = served(Some(web));
    let here =
        |pid, count| Candidate { pid, same_file: false, place: Place::Here(vec![address; count]) };
    let mut remarks = Vec::new();
    assert_eq!(doors(&[here(1, 5), here(2, 5)], &mut remarks).len(), MOST_TRIED);
    assert!(remarks[0].contains("at 2 addresses more"), "{remarks:?}");
}

#[test]
fn who_is_not_asked_is_named_with_the_reason() {
    let told = |same_file, place| cannot_be_asked(&Candidate { pid: 7, same_file, place });
    let nowhere = || Place::Here(Vec::new());
    let named = |told: Option<String>, part: &str| {
        let told = told.unwrap();
        assert!(told.contains('7') && told.contains(part), "{told}");
    };
    named(told(true, nowhere()), "the agent 7 listens nowhere");
    named(told(false, nowhere()), "if it is an agent, with --listen");
    named(told(true, Place::Elsewhere), "another network namespace");
    named(told(false, Place::Elsewhere), "if it is an agent, ask it there");
    named(told(false, Place::Closed), "another user's");
    named(told(false, Place::Powerless), "holds no capability");
    assert_eq!(told(true, Place::Powerless), None);
    assert_eq!(told(true, Place::Here(vec![SocketAddr::from(([127, 0, 0, 1], 1))])), None);
}

#[test]
fn beside_an_agent_only_others_are_named() {
    let one = |pid, same_file, place| Candidate { pid, same_file, place };
    let candidates = [
        one(1, true, Place::Here(Vec::new())),
        one(2, true, Place::Elsewhere),
        one(3, false, Place::Powerless),
        one(4, false, Place::Here(Vec::new())),
    ];
    let at = SocketAddr::from(([127, 0, 0, 1], 9464));
    let own = Door { same_file: true, ..door(5, at) };
    let strangers = [(own, "late".to_owned()), (door(6, at), "late".to_owned())];
    let told = beside_an_agent(&candidates, &strangers);
    let named: Vec<_> = told.iter().map(|told| told.split(' ').nth(1).unwrap()).collect();
    assert_eq!(named, ["3", "4", "6"], "{told:?}");
}

#[test]
fn a_wrong_address_says_what_was_tried_and_what_is_expected() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (address, part) in [
        (free, "nobody takes a connection there: Connection refused"),
        (served(Some(web)), "it answers 404 Not Found to /status"),
        (served(Some(other)), "its /status is not that of an agent"),
    ] {
        let Err(Failure::Operator(text)) = ask(address) else { panic!("{address} is no agent") };
        for part in [part, &format!("http://{address}/status"), "--listen"] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
    }
    let at = SocketAddr::from(([127, 0, 0, 1], 9464));
    let there = Candidate { pid: 7, same_file: false, place: Place::Here(vec![at]) };
    let text = cannot_ask(free, "refused", &[there]);
    assert!(text.ends_with("process 7, called kernspan, listens at 127.0.0.1:9464"), "{text}");
}
