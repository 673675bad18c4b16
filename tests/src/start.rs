//! Start commands as people write them, and the processes that they become.

use crate::process::{Process, family, free_port};
use crate::scenario::{Scenario, find_program};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// How one program is started, and who it has to be. Made by [`start`], filled in by its methods.
#[derive(Clone, Debug)]
pub struct Start {
    /// The command, words apart by spaces; tabs stay within a word. `{port}` is a free port, `{dir}` the directory,
    /// also in variables.
    pub command: String,
    /// Directory that it is started in, below the scenario's.
    pub directory: String,
    /// Variables of its environment.
    pub variables: Vec<(String, String)>,
    /// Directory below the root of the cgroup tree that it is in.
    pub cgroup: Option<String>,
    /// Removed once the program runs.
    pub removed: Option<String>,
    /// Attributes that the resource has to have; an empty text is none.
    pub expected: Vec<(&'static str, String)>,
    /// It is the last of the processes that the command becomes which is looked at, not the first.
    pub last: bool,
}

/// A start in `directory`.
pub fn start(directory: &str, command: &str) -> Start {
    Start {
        command: command.to_owned(),
        directory: directory.to_owned(),
        variables: Vec::new(),
        cgroup: None,
        removed: None,
        expected: Vec::new(),
        last: false,
    }
}

impl Start {
    /// Adds an attribute that is expected.
    #[must_use]
    pub fn has(mut self, key: &'static str, value: &str) -> Start {
        self.expected.push((key, value.to_owned()));
        self
    }

    /// What is expected: `service.name` and the executable's name.
    #[must_use]
    pub fn is(self, service: &str, executable: &str) -> Start {
        self.has("service.name", service).has("process.executable.name", executable)
    }

    /// What is expected: the language, the runtime's name and its version.
    #[must_use]
    pub fn by(self, language: &str, runtime: &str, version: &str) -> Start {
        self.has("telemetry.sdk.language", language)
            .has("process.runtime.name", runtime)
            .has("process.runtime.version", version)
    }

    /// What is expected: Debian's Python.
    #[must_use]
    pub fn python(self) -> Start {
        self.by("python", "cpython", "3.11")
    }

    /// With a variable in its environment.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Start {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// In a cgroup.
    #[must_use]
    pub fn under(mut self, cgroup: &str) -> Start {
        self.cgroup = Some(cgroup.to_owned());
        self
    }

    /// Its file is removed once it runs.
    #[must_use]
    pub fn removed(mut self, file: &str) -> Start {
        self.removed = Some(file.to_owned());
        self
    }

    /// Of what it forks, the last is meant.
    #[must_use]
    pub fn last(mut self) -> Start {
        self.last = true;
        self
    }

    /// The program that is missing here, if one is.
    pub fn missing(&self) -> Option<String> {
        let program = self.command.split(' ').next().unwrap_or_default();
        let there = match program.contains('/') {
            true => Path::new(program).is_file() || program.starts_with("{dir}"),
            false => find_program(program).is_some(),
        };
        (!there).then(|| program.to_owned())
    }
}

/// A started program, its processes and cgroup gone when dropped.
#[derive(Debug)]
pub struct Started {
    /// What it is.
    pub start: Start,
    process: Process,
    cgroup: Option<PathBuf>,
}

impl Started {
    /// Starts it.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn new(scenario: &Scenario, start: &Start, number: usize) -> Started {
        let directory = scenario.path(&start.directory);
        std::fs::create_dir_all(&directory).expect("a directory");
        let port = free_port().to_string();
        let here = directory.display().to_string();
        let text = start.command.replace("{port}", &port).replace("{dir}", &here);
        let mut words: Vec<&str> = text.split(' ').collect();
        let cgroup = start.cgroup.as_deref().map(|below| {
            let cgroup = tree().join(below);
            std::fs::create_dir_all(&cgroup).expect("a cgroup");
            cgroup
        });
        // In the cgroup before the program begins, as whoever starts services has it.
        let enter = cgroup
            .as_ref()
            .map(|cgroup| format!("echo $$ > {}/cgroup.procs && exec \"$@\"", cgroup.display()));
        if let Some(enter) = &enter {
            words.splice(0..0, ["/bin/sh", "-c", enter, "sh"]);
        }
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).current_dir(&directory);
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if ["OTEL_", "SUPERVISOR_", "npm_"].iter().any(|start| name.starts_with(start)) {
                command.env_remove(name);
            }
        }
        // Wrappers look for their interpreters there, and what else is installed is none of the table.
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        let variables = start.variables.iter();
        command.envs(
            variables.map(|(name, value)| {
                (name, value.replace("{dir}", &here).replace("{port}", &port))
            }),
        );
        let process = Process::start(command, scenario.dir(), &format!("start-{number}"));
        Started { start: start.clone(), process, cgroup }
    }

    /// The process that is meant.
    pub fn pid(&self) -> u32 {
        let family = family(self.process.pid());
        let last = family.last().copied().unwrap_or_else(|| self.process.pid());
        if self.start.last { last } else { self.process.pid() }
    }

    /// Whether it runs, and the end of its output.
    pub fn state(&mut self) -> (bool, String) {
        (self.process.is_running(), self.process.tail())
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // Some have process groups of their own.
        let family = family(self.process.pid());
        self.process.signal(rustix::process::Signal::STOP);
        for pid in family.into_iter().skip(1) {
            if let Some(pid) = rustix::process::Pid::from_raw(pid.cast_signed()) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        self.process.end();
        let Some(cgroup) = self.cgroup.take() else { return };
        let begin = Instant::now();
        let gone = |path: &Path| std::fs::remove_dir(path).is_ok() || !path.exists();
        while !gone(&cgroup) && begin.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(10));
        }
        // The directories above that this made; others' are not empty.
        let above = cgroup.ancestors().skip(1).take_while(|path| *path != tree());
        for path in above {
            let _ = std::fs::remove_dir(path);
        }
    }
}

/// The tree in which systemd keeps its services: of its own hierarchy, or the only one.
fn tree() -> PathBuf {
    let named = Path::new("/sys/fs/cgroup/systemd");
    if named.is_dir() { named.to_owned() } else { PathBuf::from("/sys/fs/cgroup") }
}
