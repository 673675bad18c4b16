//! The agent that runs on this host, and its answer.
//!
//! All that may be agents are asked at once who they are, which an agent says immediately; only what has answered as
//! one is asked for its processes.

use super::candidates::{self, Candidate, Place};
use super::told::tame;
use super::watch::Answer;
use crate::app::live::{operator, start_runtime};
use crate::cli::Failure;
use crate::cli::doctor::programs::Source;
use crate::export::{USER_AGENT, error_chain};
use serde_json::Value;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

/// Time in which all have to say who they are: an agent's accounts are at hand, also on a busy machine.
const WHO: Duration = Duration::from_secs(5);

/// The others have so long once one has.
const GRACE: Duration = Duration::from_secs(1);

/// Time for an answer: the agent makes one within two seconds, and gives up after five.
const ANSWER: Duration = Duration::from_secs(10);

/// Largest answer: some kilobytes for each of the processes that an agent counts.
const MAX_ANSWER: usize = 64 << 20;

/// Largest account of oneself: some hundred bytes for each process with connections. Several are read at once.
const MAX_WHO: usize = 8 << 20;

/// Addresses that are tried: an agent listens at one, and there is one on a host.
const MOST_TRIED: usize = 8;

/// An address of a candidate.
#[derive(Clone, Debug)]
struct Door {
    pid: u32,
    same_file: bool,
    address: SocketAddr,
}

/// Asks the agent that runs here. Without one, or where it cannot be asked, the answer says why.
///
/// # Errors
/// The system's, where it starts no threads.
pub fn found() -> Result<Answer, Failure> {
    let candidates = candidates::all();
    let mut remarks: Vec<_> = candidates.iter().filter_map(cannot_be_asked).collect();
    let doors = doors(&candidates, &mut remarks);
    if doors.is_empty() {
        if remarks.is_empty() {
            remarks.push("no agent runs on this host".to_owned());
        }
        return Ok(Answer { remarks, ..Answer::default() });
    }
    let client = client()?;
    let runtime = start_runtime()?;
    let answer = runtime.block_on(async {
        let (agents, strangers) = who(&client, doors).await;
        remarks.extend(strangers.iter().map(stranger));
        let mut answer = first(&client, &agents).await;
        if answer.json.is_some() {
            remarks = beside_an_agent(&candidates, &strangers);
        }
        answer.remarks.splice(..0, remarks);
        answer
    });
    runtime.shutdown_background();
    Ok(answer)
}

/// Asks the agent at an address.
///
/// # Errors
/// It does not answer.
pub fn ask(address: SocketAddr) -> Result<Answer, Failure> {
    let client = client()?;
    let runtime = start_runtime()?;
    let asked = runtime.block_on(async {
        is_agent(&client, address).await?;
        processes(&client, address).await
    });
    runtime.shutdown_background();
    let candidates = candidates::all();
    match asked {
        Ok(json) => {
            let there = candidates.iter().filter(|one| one.listens_at(address));
            Ok(Answer {
                source: Source::Agent(address.to_string()),
                json: Some(json),
                agents: there.map(|one| one.pid).collect(),
                remarks: Vec::new(),
            })
        }
        Err(why) => Err(operator(cannot_ask(address, &why, &candidates))),
    }
}

/// What was tried, what came of it, and where an agent might be instead.
fn cannot_ask(address: SocketAddr, why: &str, candidates: &[Candidate]) -> String {
    let others = candidates.iter().flat_map(|one| {
        let addresses = match &one.place {
            Place::Here(addresses) => addresses.as_slice(),
            Place::Closed | Place::Powerless | Place::Elsewhere => &[],
        };
        addresses.iter().filter(|other| **other != address).map(|other| (one.pid, *other))
    });
    let others: Vec<_> = others
        .take(MOST_TRIED)
        .map(|(pid, other)| format!("process {pid}, called kernspan, listens at {other}"))
        .collect();
    let hint = match others.as_slice() {
        [] => "--agent takes the address of an agent's --listen (127.0.0.1:9464 for example), as \
               seen from here"
            .to_owned(),
        others => {
            format!("--agent takes the address of an agent's --listen: {}", others.join("; "))
        }
    };
    format!(
        "no agent can be asked at {address} (http://{address}/status, /processes): {why}; {hint}"
    )
}

impl Candidate {
    fn listens_at(&self, address: SocketAddr) -> bool {
        matches!(&self.place, Place::Here(addresses) if addresses.contains(&address))
    }
}

/// Why a candidate is not asked.
fn cannot_be_asked(candidate: &Candidate) -> Option<String> {
    let Candidate { pid, same_file, place } = candidate;
    Some(match place {
        Place::Closed => format!(
            "process {pid} is called kernspan, and another user's: ask it by --agent, or as root"
        ),
        // What doctor's own program does without rights (`kernspan replay`).
        Place::Powerless if *same_file => return None,
        Place::Powerless => format!(
            "process {pid} is called kernspan, and holds no capability to load programs (CAP_BPF): \
             it is no agent, and shown as any other"
        ),
        Place::Elsewhere if *same_file => {
            format!("the agent {pid} is in another network namespace: ask it there, or by --agent")
        }
        Place::Elsewhere => format!(
            "process {pid} is called kernspan, and in another network namespace: if it is an \
             agent, ask it there, or by --agent"
        ),
        Place::Here(addresses) if !addresses.is_empty() => return None,
        Place::Here(_) if *same_file => {
            format!("the agent {pid} listens nowhere: with --listen 127.0.0.1:9464 it can be asked")
        }
        Place::Here(_) => format!(
            "process {pid} is called kernspan, and listens nowhere: if it is an agent, with \
             --listen 127.0.0.1:9464 it can be asked"
        ),
    })
}

/// What is to be said where an agent has answered: what else has this program's file, and listens nowhere (`kernspan
/// top`) or is elsewhere, is no matter then.
fn beside_an_agent(candidates: &[Candidate], strangers: &[(Door, String)]) -> Vec<String> {
    let silent = candidates.iter().filter(|one| !one.same_file).filter_map(cannot_be_asked);
    let strangers = strangers.iter().filter(|(door, _)| !door.same_file).map(stranger);
    silent.chain(strangers).collect()
}

fn doors(candidates: &[Candidate], remarks: &mut Vec<String>) -> Vec<Door> {
    let mut doors = Vec::new();
    for Candidate { pid, same_file, place } in candidates {
        let Place::Here(addresses) = place else { continue };
        doors.extend(addresses.iter().map(|at| Door {
            pid: *pid,
            same_file: *same_file,
            address: *at,
        }));
    }
    if doors.len() > MOST_TRIED {
        let more = doors.len() - MOST_TRIED;
        remarks.push(format!(
            "processes called kernspan listen at {more} addresses more than are tried: name the \
             agent's by --agent"
        ));
        doors.truncate(MOST_TRIED);
    }
    doors
}

fn stranger((door, why): &(Door, String)) -> String {
    let Door { pid, address, same_file } = door;
    match same_file {
        true => format!("the agent {pid} at {address}: {why}"),
        false => format!(
            "process {pid} is called kernspan, and does not answer as an agent at {address} \
             ({why}): it is shown as any other"
        ),
    }
}

/// Who answers as an agent, in the order of the doors; and who does not, with the reason.
async fn who(client: &reqwest::Client, doors: Vec<Door>) -> (Vec<Door>, Vec<(Door, String)>) {
    let mut asked = JoinSet::new();
    for (number, door) in doors.iter().enumerate() {
        let (client, address) = (client.clone(), door.address);
        asked.spawn(async move { (number, is_agent(&client, address).await) });
    }
    let late = || Err("no whole answer to /status while an agent gave one".to_owned());
    let mut answers: Vec<_> = doors.iter().map(|_| late()).collect();
    let mut until = Instant::now() + WHO + GRACE;
    while let Ok(Some(Ok((number, answer)))) = timeout_at(until, asked.join_next()).await {
        if answer.is_ok() {
            until = until.min(Instant::now() + GRACE);
        }
        if let Some(place) = answers.get_mut(number) {
            *place = answer;
        }
    }
    let (mut agents, mut strangers) = (Vec::new(), Vec::new());
    for (door, answer) in doors.into_iter().zip(answers) {
        match answer {
            Ok(()) => agents.push(door),
            Err(why) => strangers.push((door, why)),
        }
    }
    // What is an agent at one of its addresses is no stranger at another.
    let known: HashSet<u32> = agents.iter().map(|door| door.pid).collect();
    strangers.retain(|(door, _)| !known.contains(&door.pid));
    (agents, strangers)
}

/// The first that tells of its processes. The others are named.
async fn first(client: &reqwest::Client, agents: &[Door]) -> Answer {
    let mut answer =
        Answer { agents: agents.iter().map(|door| door.pid).collect(), ..Answer::default() };
    for Door { pid, address, .. } in agents {
        if answer.json.is_some() {
            answer.remarks.push(format!("another agent, {pid}, answers at {address} (--agent)"));
            continue;
        }
        match processes(client, *address).await {
            Ok(json) => {
                answer.source = Source::Agent(address.to_string());
                answer.json = Some(json);
            }
            Err(why) => answer.remarks.push(format!("the agent {pid} at {address}: {why}")),
        }
    }
    answer
}

async fn is_agent(client: &reqwest::Client, address: SocketAddr) -> Result<(), String> {
    let json = get(client, address, "/status", WHO, MAX_WHO).await?;
    let is_agent = json["version"].is_string() && json["pid"].is_u64() && json["hooks"].is_array();
    if is_agent { Ok(()) } else { Err("its /status is not that of an agent".to_owned()) }
}

async fn processes(client: &reqwest::Client, address: SocketAddr) -> Result<Value, String> {
    let json = get(client, address, "/processes", ANSWER, MAX_ANSWER).await?;
    match json["processes"].is_array() {
        true => Ok(tame(json)),
        false => Err("what listens there does not answer as an agent does".to_owned()),
    }
}

fn client() -> Result<reqwest::Client, Failure> {
    crate::export::install_crypto();
    let built = reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build();
    built.map_err(|error| anyhow::Error::new(error).context("an HTTP client").into())
}

/// The answer, or what is wrong with it.
async fn get(
    client: &reqwest::Client,
    address: SocketAddr,
    path: &str,
    time: Duration,
    most: usize,
) -> Result<Value, String> {
    let whole = async {
        let asked = client.get(format!("http://{address}{path}")).send().await;
        let mut response = asked.map_err(|error| reason(&error))?;
        if !response.status().is_success() {
            return Err(format!("it answers {} to {path}", response.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| reason(&error))? {
            if body.len() + chunk.len() > most {
                return Err(format!("its answer to {path} is longer than {most} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        serde_json::from_slice::<Value>(&body)
            .map_err(|error| format!("its answer to {path} is no JSON: {error}"))
    };
    match tokio::time::timeout(time, whole).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no whole answer to {path} within {} s", time.as_secs())),
    }
}

/// Who is to be asked stands beside it: without the address that the client repeats.
fn reason(error: &reqwest::Error) -> String {
    if error.is_connect() {
        let chain = error_chain(error);
        let last = chain.rsplit(": ").next().unwrap_or_default();
        return format!("nobody takes a connection there: {last}");
    }
    error_chain(error)
}

#[cfg(test)]
#[path = "agent_tests.rs"]
mod tests;
