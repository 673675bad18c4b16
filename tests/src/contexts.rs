//! Programs that publish their trace context by thread, and whether spans are linked by it.

use crate::otlp::{Kind, Span};
use crate::process::Process;
use crate::python::PYTHON;
use crate::scenario::{Scenario, crate_dir};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// What a request's thread had published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truth {
    /// Path of the request.
    pub path: String,
    /// Trace and span; none where nothing valid was published.
    pub context: Option<(String, String)>,
}

/// How the variable is reached: the access models of ELF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// The program's own, at a distance that its headers tell.
    Program,
    /// The same in a program without a loader, which may lie anywhere.
    Static,
    /// A library's that is there from the start, at a distance that the loader tells.
    InitialExec,
    /// A library's, by descriptor, in the room that the loader keeps for late ones.
    Descriptor,
    /// The same without that room.
    LateDescriptor,
    /// A library's, by module and offset.
    LateModule,
}

/// A program as it is built and called.
#[derive(Clone, Debug)]
pub struct Built {
    program: PathBuf,
    library: Option<PathBuf>,
}

/// Compiles `workloads/contexts.c` for `model`.
///
/// # Panics
/// When it does not compile.
pub fn build(scenario: &Scenario, model: Model) -> Built {
    let name = format!("{model:?}").to_lowercase();
    let (program, library) = (scenario.path(&name), scenario.path(&format!("lib{name}.so")));
    let to_library: Option<&[&str]> = match model {
        Model::Program | Model::Static => None,
        Model::InitialExec => Some(&["-ftls-model=initial-exec"]),
        Model::Descriptor => Some(&["-mtls-dialect=gnu2"]),
        Model::LateDescriptor => Some(&["-mtls-dialect=gnu2", "-DLARGE=65536"]),
        Model::LateModule => Some(&["-mtls-dialect=gnu", "-DLARGE=65536"]),
    };
    if let Some(flags) = to_library {
        compile(&[&["-shared", "-fPIC", "-DVARIABLE"], flags].concat(), &library, &[]);
    }
    let linked = library.display().to_string();
    match model {
        Model::Program => compile(&["-DMAIN", "-DVARIABLE", "-rdynamic"], &program, &["-ldl"]),
        Model::Static => {
            let export = "-Wl,--export-dynamic-symbol=otel_thread_ctx_v1";
            compile(&["-DMAIN", "-DVARIABLE", "-static-pie", "-fPIE", export], &program, &[]);
        }
        Model::InitialExec => {
            compile(&["-DMAIN", "-Wl,--no-as-needed"], &program, &[&linked, "-ldl"]);
        }
        _ => compile(&["-DMAIN"], &program, &["-ldl"]),
    }
    let late = matches!(model, Model::Descriptor | Model::LateDescriptor | Model::LateModule);
    Built { program, library: late.then_some(library) }
}

fn compile(flags: &[&str], to: &Path, with: &[&str]) {
    let mut gcc = Command::new("gcc");
    gcc.args(["-O1", "-pthread"]).args(flags).arg("-o").arg(to);
    gcc.arg(crate_dir("workloads").join("contexts.c")).args(with);
    let built = gcc.output().expect("gcc runs");
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "contexts.c {flags:?}: {said}");
}

impl Built {
    /// Sends `requests` of each of `threads` to `port`; what they had published.
    ///
    /// # Panics
    /// When it fails.
    pub fn run(&self, scenario: &Scenario, port: u16, load: (u32, u32), mode: &str) -> Vec<Truth> {
        let mut command = Command::new(&self.program);
        command.args([port.to_string(), load.0.to_string(), load.1.to_string()]).arg(mode);
        command.args(&self.library);
        let ended = Process::start(command, scenario.dir(), "contexts").succeed(LIMIT);
        truths(&ended.stdout)
    }

    /// Starts it with one request to `port`, for whose answer it waits.
    pub fn start(&self, scenario: &Scenario, port: u16) -> Process {
        let mut command = Command::new(&self.program);
        command.args([&port.to_string(), "1", "1", "plain"]).args(&self.library);
        Process::start(command, scenario.dir(), "contexts")
    }
}

/// The same by `workloads/traced.py`, whose SDK is in the directory `sdk`.
///
/// # Panics
/// When it fails.
pub fn run_sdk(scenario: &Scenario, sdk: &Path, port: u16, load: (u32, u32)) -> Vec<Truth> {
    let mut python = Command::new(PYTHON);
    python.arg("-B").arg(crate_dir("workloads").join("traced.py")).env("PYTHONPATH", sdk);
    for (name, value) in [("--port", port.into()), ("--threads", load.0), ("--requests", load.1)] {
        python.arg(name).arg(value.to_string());
    }
    truths(&Process::start(python, scenario.dir(), "traced").succeed(LIMIT).stdout)
}

/// Lines `path trace span`.
///
/// # Panics
/// When one is not.
pub fn truths(text: &str) -> Vec<Truth> {
    let line = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let &[path, trace, span] = words.as_slice() else { panic!("not a truth: {line:?}") };
        let context = (trace != "-").then(|| (trace.to_owned(), span.to_owned()));
        Truth { path: path.to_owned(), context }
    };
    text.lines().map(line).collect()
}

/// What is wrong of the client spans of these requests.
pub fn complaints(spans: &[&Span], truths: &[Truth]) -> Vec<String> {
    let mut clients: HashMap<&str, Vec<&Span>> = HashMap::new();
    for span in spans.iter().filter(|span| span.kind == Kind::Client) {
        clients.entry(span.path()).or_default().push(span);
    }
    let one = |truth: &Truth| match clients.get(truth.path.as_str()).map(Vec::as_slice) {
        Some([span]) => {
            fault(span, truth).map(|what| format!("{what}: {truth:?} {}", span.brief()))
        }
        other => Some(format!("{} spans of {truth:?}", other.map_or(0, <[_]>::len))),
    };
    truths.iter().filter_map(one).collect()
}

fn fault(span: &Span, truth: &Truth) -> Option<&'static str> {
    let by_context = span.text("kernspan.link.method") == "thread_context";
    match &truth.context {
        Some((trace, parent)) if by_context => {
            let right = &span.trace == trace && &span.parent == parent;
            (!right).then_some("another context")
        }
        Some(_) => Some("not linked"),
        None if by_context => Some("linked without a context"),
        None => (!span.parent.is_empty()).then_some("a parent from nowhere"),
    }
}
