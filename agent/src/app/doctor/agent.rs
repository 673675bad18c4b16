//! The agent that runs on this host, and its answer.

use super::watch::Answer;
use crate::app::live::{operator, start_runtime};
use crate::cli::Failure;
use crate::cli::doctor::programs::Source;
use crate::export::{USER_AGENT, error_chain};
use procfs::net::TcpState;
use procfs::process::{FDTarget, Process};
use std::collections::HashSet;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

/// Time for an answer: the agent makes one within two seconds.
const ANSWER: Duration = Duration::from_secs(10);

/// Largest answer: some kilobytes for each of the processes that an agent counts.
const MAX_ANSWER: usize = 64 << 20;

/// Addresses that are tried: an agent listens at one, and there is one on a host.
const MOST_TRIED: usize = 8;

/// Asks the agent that runs here. Without one, or where it cannot be asked, the answer says why.
///
/// # Errors
/// The system's, where it starts no threads.
pub fn found() -> Result<Answer, Failure> {
    let mut remarks = Vec::new();
    let mut tried = 0;
    for process in agents() {
        let pid = process.pid();
        if is_closed(&executable(pid), "kernspan") {
            remarks.push(format!(
                "process {pid} is called kernspan, and another user's: ask it by --agent, or as root"
            ));
            continue;
        }
        if !same_network(&process) {
            remarks.push(format!(
                "the agent {pid} is in another network namespace: ask it there, or by --agent"
            ));
            continue;
        }
        let addresses = listening(&process);
        if addresses.is_empty() {
            remarks.push(format!(
                "the agent {pid} listens nowhere: with --listen 127.0.0.1:9464 it can be asked"
            ));
        }
        for address in addresses {
            tried += 1;
            if tried > MOST_TRIED {
                break;
            }
            match get(address)? {
                Ok(json) => {
                    return Ok(Answer {
                        source: Source::Agent(address.to_string()),
                        json: Some(json),
                        remarks: Vec::new(),
                    });
                }
                Err(why) => remarks.push(format!("the agent {pid} at {address}: {why}")),
            }
        }
    }
    if remarks.is_empty() {
        remarks.push("no agent runs on this host".to_owned());
    }
    Ok(Answer { remarks, ..Answer::default() })
}

/// Asks the agent at an address.
///
/// # Errors
/// It does not answer.
pub fn ask(address: SocketAddr) -> Result<Answer, Failure> {
    match get(address)? {
        Ok(json) => Ok(Answer {
            source: Source::Agent(address.to_string()),
            json: Some(json),
            remarks: Vec::new(),
        }),
        Err(why) => Err(operator(format!("the agent at {address} cannot be asked: {why}"))),
    }
}

/// Processes that run this program, or one of its name, but for this one.
fn agents() -> Vec<Process> {
    let Ok(all) = procfs::process::all_processes() else { return Vec::new() };
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let is_agent = is_agent();
    let may_be = |process: &Process| {
        let comm = || process.stat().map(|stat| stat.comm).unwrap_or_default();
        let pid = process.pid();
        pid != own && (is_agent(pid) || is_closed(&executable(pid), &comm()))
    };
    all.flatten().filter(may_be).collect()
}

fn executable(pid: i32) -> std::io::Result<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/exe"))
}

/// It may be an agent, by its name, and this user may not look into it.
fn is_closed(executable: &std::io::Result<PathBuf>, comm: &str) -> bool {
    let denied = |error: &std::io::Error| error.kind() == ErrorKind::PermissionDenied;
    comm == "kernspan" && executable.as_ref().is_err_and(denied)
}

/// Whether a process runs this program, or one of its name.
pub fn is_agent() -> impl Fn(i32) -> bool {
    let own = std::fs::metadata("/proc/self/exe").map(|file| (file.dev(), file.ino())).ok();
    move |pid| {
        let path = format!("/proc/{pid}/exe");
        let same = std::fs::metadata(&path).map(|file| (file.dev(), file.ino())).ok();
        let name = executable(pid).ok();
        let named = name.as_deref().and_then(|path| path.file_name());
        (same.is_some() && same == own) || named.is_some_and(|name| name == "kernspan")
    }
}

fn same_network(process: &Process) -> bool {
    let of = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    of(&process.pid().to_string()) == of("self")
}

/// Where a process takes TCP connections: any address is asked over loopback.
fn listening(process: &Process) -> Vec<SocketAddr> {
    let Ok(descriptors) = process.fd() else { return Vec::new() };
    let sockets: HashSet<u64> = descriptors
        .flatten()
        .filter_map(|descriptor| match descriptor.target {
            FDTarget::Socket(inode) => Some(inode),
            _ => None,
        })
        .collect();
    let entries = [process.tcp(), process.tcp6()].into_iter().flatten().flatten();
    let listens =
        entries.filter(|entry| entry.state == TcpState::Listen && sockets.contains(&entry.inode));
    listens.map(|entry| reachable(entry.local_address)).collect()
}

fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip().is_unspecified() {
        true => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), address.port()),
        false => address,
    }
}

/// The answer, or what is wrong with it.
fn get(address: SocketAddr) -> Result<Result<serde_json::Value, String>, Failure> {
    crate::export::install_crypto();
    let runtime = start_runtime()?;
    let answer = runtime.block_on(async {
        let client = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(ANSWER)
            .build()
            .map_err(|error| error_chain(&error))?;
        let asked = client.get(format!("http://{address}/processes")).send().await;
        let mut response = asked.map_err(|error| error_chain(&error))?;
        if !response.status().is_success() {
            return Err(format!("it answers {}", response.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| error_chain(&error))? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(format!("its answer is longer than {MAX_ANSWER} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        let json = serde_json::from_slice::<serde_json::Value>(&body);
        let json = json.map_err(|error| format!("its answer is no JSON: {error}"))?;
        match json.get("processes").is_some_and(serde_json::Value::is_array) {
            true => Ok(json),
            false => Err("its answer is not that of an agent".to_owned()),
        }
    });
    runtime.shutdown_background();
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_listens_where_its_sockets_do() {
        let own = Process::myself().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let any = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let found = listening(&own);
        assert!(found.contains(&listener.local_addr().unwrap()), "{found:?}");
        let port = any.local_addr().unwrap().port();
        assert!(found.contains(&SocketAddr::from(([127, 0, 0, 1], port))), "{found:?}");
    }

    #[test]
    fn an_agent_of_another_user_is_not_taken_for_none() {
        let denied = || Err(ErrorKind::PermissionDenied.into());
        assert!(is_closed(&denied(), "kernspan"));
        assert!(!is_closed(&denied(), "nginx"));
        assert!(!is_closed(&Err(ErrorKind::NotFound.into()), "kernspan"), "a kernel thread");
        assert!(!is_closed(&Ok(PathBuf::from("/usr/bin/other")), "kernspan"));
    }

    #[test]
    fn one_that_does_not_answer_is_named() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let Err(Failure::Operator(text)) = ask(free) else { panic!("nobody is there") };
        assert!(text.contains(&free.to_string()), "{text}");
    }
}
