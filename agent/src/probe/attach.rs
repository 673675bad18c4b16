//! One program: loaded into the kernel, attached to its hook.

use super::plan::{Choice, Hook, Part};
use super::returns::Return;
use super::running::Running;
use aya::{
    Btf as AyaBtf, Ebpf,
    programs::{
        BtfTracePoint, CgroupAttachMode, CgroupSockAddr, FEntry, FExit, Iter, KProbe, Program,
        ProgramError, RawTracePoint, RawTracePointRunOptions, TestRun,
    },
};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// What came of a choice that works.
#[derive(Default)]
pub struct Attached {
    /// Hooks in use, as shown.
    pub hooks: Vec<String>,
    /// Those that aya does not hold.
    pub returns: Vec<(&'static str, Return)>,
    /// What it does worse than planned.
    pub remarks: Vec<String>,
}

/// Why a choice does not work.
pub struct Refusal {
    /// The kernel's word.
    pub reason: String,
    /// A program was refused, and not its place.
    pub of_program: bool,
}

/// Loads all parts before it attaches the first, so that a refused program leaves no half.
///
/// # Errors
/// What the kernel refused, with its word.
pub fn choice(ebpf: &mut Ebpf, running: &Running, choice: &Choice) -> Result<Attached, Refusal> {
    let parts: Vec<&Part> =
        choice.parts.iter().filter(|part| !part.optional || running.has(part.hook)).collect();
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    load_all(ebpf, &parts, running.typed.as_ref()).map_err(|reason| {
        let reason = format!("{reason}{}", choice.needs.lacking(&release));
        Refusal { reason, of_program: true }
    })?;
    let mut attached = Attached::default();
    for part in &parts {
        let result = program(ebpf, part).and_then(|program| {
            attach(program, part, &mut attached).map_err(|error| refused(part, &error))
        });
        result.map_err(|reason| Refusal { reason, of_program: false })?;
        attached.hooks.push(format!("{}:{}", part.hook.kind(), part.hook.target()));
    }
    Ok(attached)
}

/// Programs that the kernel verifies at once, at most: each takes memory there meanwhile.
const AT_ONCE: usize = 4;

/// Loads the programs of all parts, side by side: the two that carry payload take a third of a start each.
/// The error is that of the first part that was refused.
fn load_all(ebpf: &mut Ebpf, parts: &[&Part], btf: Option<&AyaBtf>) -> Result<(), String> {
    let place = |name: &str| parts.iter().position(|part| part.program == name);
    let mut programs: Vec<_> =
        ebpf.programs_mut().filter_map(|(name, program)| Some((place(name)?, program))).collect();
    programs.sort_by_key(|(place, _)| *place);
    let is_there = |at: usize| programs.iter().any(|(place, _)| *place == at);
    if let Some((_, part)) = parts.iter().enumerate().find(|(at, _)| !is_there(*at)) {
        return Err(format!("the kernel object has no program {}", part.program));
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.min(AT_ONCE).min(programs.len());
    let (waiting, failed) = (Mutex::new(programs.into_iter()), Mutex::new(Vec::new()));
    let work = || {
        loop {
            let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((place, program)) = next else { break };
            let Some(part) = parts.get(place) else { break };
            if let Err(error) = load(program, part.hook, btf) {
                let reason = refused(part, &error);
                failed.lock().unwrap_or_else(PoisonError::into_inner).push((place, reason));
            }
        }
    };
    std::thread::scope(|scope| {
        (1..threads).for_each(|_| drop(scope.spawn(work)));
        work();
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.into_iter().min().map_or(Ok(()), |(_, reason)| Err(reason))
}

/// Asks `check_offsets` about these numbers of the running thread; gives bits of
/// [`agent_common::settings::check`].
///
/// # Errors
/// The kernel's refusal.
pub fn check(ebpf: &mut Ebpf, expected: [u32; 3]) -> Result<i32, String> {
    const NAME: &str = "check_offsets";
    let program = ebpf.program_mut(NAME).ok_or("the kernel object has no check_offsets")?;
    let said = |error: ProgramError| format!("{NAME} was refused: {}", kernel_word(&error));
    let program = typed::<RawTracePoint>(program).map_err(said)?;
    program.load().map_err(said)?;
    let mut options = RawTracePointRunOptions::new();
    for (argument, number) in options.args.iter_mut().zip(expected) {
        *argument = u64::from(number);
    }
    let result = program.test_run(options).map_err(said)?;
    Ok(result.return_value as i32)
}

fn program<'a>(ebpf: &'a mut Ebpf, part: &Part) -> Result<&'a mut Program, String> {
    let missing = || format!("the kernel object has no program {}", part.program);
    ebpf.program_mut(part.program).ok_or_else(missing)
}

fn refused(part: &Part, error: &ProgramError) -> String {
    format!("{} was refused: {}", part.hook.target(), kernel_word(error))
}

fn load(program: &mut Program, hook: Hook, btf: Option<&AyaBtf>) -> Result<(), ProgramError> {
    let name = hook.target();
    match (hook, btf) {
        (Hook::Tracepoint(_), Some(btf)) => typed::<BtfTracePoint>(program)?.load(name, btf),
        (Hook::Fentry(_), Some(btf)) => typed::<FEntry>(program)?.load(name, btf),
        (Hook::Fexit(_), Some(btf)) => typed::<FExit>(program)?.load(name, btf),
        (Hook::Iterator(_), Some(btf)) => typed::<Iter>(program)?.load(name, btf),
        (Hook::Cgroup(_), _) => typed::<CgroupSockAddr>(program)?.load(),
        (Hook::RawTracepoint(_), _) => typed::<RawTracePoint>(program)?.load(),
        (Hook::Kprobe(_) | Hook::Kretprobe(..), _) => typed::<KProbe>(program)?.load(),
        // Not picked: the plan knows that there are no types.
        (Hook::Tracepoint(_) | Hook::Fentry(_) | Hook::Fexit(_) | Hook::Iterator(_), None) => {
            Err(ProgramError::UnexpectedProgramType)
        }
    }
}

fn attach(program: &mut Program, part: &Part, done: &mut Attached) -> Result<(), ProgramError> {
    match part.hook {
        Hook::Tracepoint(_) => typed::<BtfTracePoint>(program)?.attach().map(drop),
        Hook::Fentry(_) => typed::<FEntry>(program)?.attach().map(drop),
        Hook::Fexit(_) => typed::<FExit>(program)?.attach().map(drop),
        Hook::Iterator(_) => typed::<Iter>(program)?.attach().map(drop),
        Hook::Cgroup(_) => {
            let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
            let root = cgroup_root().ok_or_else(missing).and_then(std::fs::File::open);
            let root = root.map_err(ProgramError::IOError)?;
            // A link stands beside others in any case, and takes no flags (5.7 and later).
            typed::<CgroupSockAddr>(program)?.attach(root, CgroupAttachMode::Single).map(drop)
        }
        Hook::RawTracepoint(name) => typed::<RawTracePoint>(program)?.attach(name).map(drop),
        Hook::Kprobe(name) => typed::<KProbe>(program)?.attach(name, 0).map(drop),
        Hook::Kretprobe(name, most) => {
            let program = typed::<KProbe>(program)?;
            let fd = program.fd()?.as_fd();
            match Return::attach(fd, part.program, name, most) {
                Ok(it) => done.returns.push((part.program, it)),
                Err(reason) => {
                    program.attach(name, 0)?;
                    let what = "calls are missed where many threads wait in one";
                    done.remarks.push(format!("{what} ({reason})"));
                }
            }
            Ok(())
        }
    }
}

/// Where the version 2 tree of cgroups is mounted: alone, or beside version 1. That of the host's
/// first process comes first: in a container, one's own is a branch of it, or is not there.
const CGROUP_ROOTS: [&str; 4] = [
    "/proc/1/root/sys/fs/cgroup",
    "/proc/1/root/sys/fs/cgroup/unified",
    "/sys/fs/cgroup",
    "/sys/fs/cgroup/unified",
];

/// The root of the version 2 tree of cgroups, where it can be reached.
pub fn cgroup_root() -> Option<&'static Path> {
    let is_root = |root: &&'static Path| root.join("cgroup.controllers").exists();
    CGROUP_ROOTS.iter().map(Path::new).find(is_root)
}

fn typed<'a, T>(program: &'a mut Program) -> Result<&'a mut T, ProgramError>
where
    &'a mut T: TryFrom<&'a mut Program, Error = ProgramError>,
{
    program.try_into()
}

/// The kernel's word on a program: of the verifier's log, which may have thousands of lines, the
/// one that says what is wrong.
pub fn kernel_word(error: &ProgramError) -> String {
    let ProgramError::LoadError { io_error, verifier_log } = error else { return chain(error) };
    tracing::trace!("the verifier's log: {verifier_log}");
    match verdict(&verifier_log.to_string()) {
        Some(verdict) => format!("{io_error}: {verdict}"),
        None => io_error.to_string(),
    }
}

/// The last line of a verifier's log that is not one of its statistics.
fn verdict(log: &str) -> Option<&str> {
    const STATISTICS: [&str; 3] = ["processed ", "verification time ", "stack depth "];
    let mut lines = log.lines().rev().map(str::trim);
    lines.find(|line| !line.is_empty() && !STATISTICS.iter().any(|start| line.starts_with(start)))
}

/// An error with its sources, each once.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        source = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::verdict;

    #[test]
    fn a_verifiers_verdict_is_its_last_line_before_the_statistics() {
        let statistics = "verification time 393 usec\nstack depth 0+0\n\
                          processed 12 insns (limit 1000000) max_states_per_insn 0\n";
        for (why, log, expected) in [
            (
                "refused at once",
                "BPF_STX uses reserved fields\n",
                Some("BPF_STX uses reserved fields"),
            ),
            (
                "behind the trace",
                "0: (79) r7 = *(u64 *)(r1 +0)\nunknown func f#1\n",
                Some("unknown func f#1"),
            ),
            ("statistics only", "", None),
        ] {
            assert_eq!(verdict(&format!("{log}{statistics}")), expected, "{why}");
        }
        assert_eq!(verdict(""), None);
    }
}
