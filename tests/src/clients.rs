//! The clients that people ask with, a row each.

use crate::client::LIMIT;
use crate::process::Process;
use crate::scenario::{Scenario, find_program};
use crate::servers::Tools;
use std::path::Path;
use std::process::Command;

/// One client. `{requests}`, `{width}` (at once) and `{pace}` (ms) are numbers, `{url}` is one server's page, `{urls}`
/// are those of all; `{again}` is the page as often as requests are made. Others as for servers.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// Name, also in the query of what it asks for.
    pub name: &'static str,
    /// The command.
    pub command: &'static str,
}

const fn row(name: &'static str, command: &'static str) -> Client {
    Client { name, command }
}

/// All of them. A new one is a row here. Those with `{urls}` also ask at a pace, and print how long each request took.
pub const CLIENTS: &[Client] = &[
    row("curl", "/usr/bin/curl -sSf -Z --parallel-max {width} -o /dev/null {url}&n=[1-{requests}]"),
    row("wget", "/usr/bin/wget -q -O /dev/null {again}"),
    row("ab", "/usr/bin/ab -q -k -n {requests} -c {width} {url}"),
    row("hey", "/usr/bin/hey -n {requests} -c {width} {url}"),
    row("requests", "/usr/bin/python3 {web}/ask.py requests {requests} {width} {pace} {urls}"),
    row("httpx", "/usr/bin/python3 {web}/ask.py httpx {requests} {width} {pace} {urls}"),
    row("aiohttp", "/usr/bin/python3 {web}/ask.py aiohttp {requests} {width} {pace} {urls}"),
    row("fetch", "/usr/bin/node {web}/ask.js {requests} {width} {pace} {urls}"),
    row("go", "{go} ask {requests} {width} {pace} {urls}"),
    row("java", "/usr/bin/java {web}/Ask.java {requests} {width} {pace} {urls}"),
    row("hyper", "{hyper} ask {requests} {width} {pace} {urls}"),
];

impl Client {
    /// It asks all servers in one run.
    pub fn asks_all(&self) -> bool {
        self.command.contains("{urls}")
    }

    /// Whether its program is there.
    pub fn is_there(&self, tools: &Tools) -> bool {
        let Some(command) = tools.fill(self.command, &[]) else { return false };
        let program = Path::new(command.split_whitespace().next().unwrap_or_default());
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        program.is_file() || find_program(&name).is_some()
    }

    /// Asks for each of `urls` that many times, `width` at once or every `pace` ms; what it printed.
    ///
    /// # Panics
    /// When it fails.
    pub fn ask(
        &self,
        scenario: &Scenario,
        tools: &Tools,
        wrap: &[String],
        urls: &[String],
        [requests, width, pace]: [usize; 3],
    ) -> String {
        let more = [
            ("requests", requests.to_string()),
            ("width", width.to_string()),
            ("pace", pace.to_string()),
            ("url", urls.first().cloned().unwrap_or_default()),
            ("urls", urls.join(" ")),
            ("again", vec![urls.first().cloned().unwrap_or_default(); requests].join(" ")),
        ];
        let text = tools.fill(self.command, &more).expect("known names");
        let mut words: Vec<&str> = wrap.iter().map(String::as_str).collect();
        words.extend(text.split_whitespace());
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        Process::start(command, scenario.dir(), self.name).succeed(LIMIT).stdout
    }
}
