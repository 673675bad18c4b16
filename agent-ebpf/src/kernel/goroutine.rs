//! The running goroutine, from the memory of a program in Go: no hook in the program.
//!
//! The thread pointer leads to `g`, the goroutine that runs; its number and its maker's lie in it.
//! Everything read here is the program's own memory, and only hints: what does not make sense is
//! [`UNKNOWN`].

use agent_common::runtime::{GoProcess, MADE_SINCE, PROCESSORS, UNKNOWN, number, pack};
use agent_common::settings::feature;
use aya_ebpf::helpers::generated::bpf_task_pt_regs;

use super::{load, published, task::Task, user::read_user};
use crate::{
    maps::{
        Caller, GO_CALLERS, GO_GENERATION, GO_PROCESSES, GO_SERVING, GoConnection, Goroutine,
        Numbers,
    },
    settings::{enabled, offset},
};

/// `offsetof(struct pt_regs, bp)`.
const BP: u64 = 32;

/// Bits of [`Numbers::next`] that say how many numbers follow the first, 16 at most
/// (`_GoidCacheBatch`); the others are the low bits of the first.
const LEFT_BITS: u32 = 5;

/// Frames between the system call and the function that writes for a connection: six without TLS, ten
/// with it.
const MAX_FRAMES: u32 = 16;

/// What is known of a process's runtime.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    /// Nothing that could be read.
    Unknown,
    /// It is in Go.
    Go,
    /// It publishes trace contexts by thread.
    Publisher,
}

/// The runtime of process `tgid`. `unknown` is kept with a socket: the last process of which nothing was
/// known, and what was known of programs then.
#[inline(always)]
pub fn runtime(tgid: u32, unknown: &mut u64) -> Runtime {
    let generation = GO_GENERATION.get(0).copied().unwrap_or(0);
    if generation == 0 {
        return Runtime::Unknown;
    }
    let asked = u64::from(tgid) << 32 | u64::from(generation);
    if *unknown == asked {
        return Runtime::Unknown;
    }
    if enabled(feature::GO) && GO_PROCESSES.get_ptr(tgid).is_some() {
        return Runtime::Go;
    }
    if enabled(feature::THREAD_CONTEXT) && published::publishes(tgid) {
        return Runtime::Publisher;
    }
    *unknown = asked;
    Runtime::Unknown
}

/// The goroutine that runs in the current task, which sends a request.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn goroutine_sends(tgid: u32) -> u64 {
    let Some(program) = known(tgid) else { return 0 };
    program.calls = 1;
    let task = Task::current();
    let Some(g) = running(task, program) else { return UNKNOWN };
    let [first, last] = program.servants;
    if first != 0 {
        let start = read_user::<u64>(g + u64::from(program.start)).unwrap_or(0);
        if start >= first && start <= last {
            return asked(task, tgid, program);
        }
    }
    name(tgid, caller(program, g))
}

/// The same for one that reads a request: what it makes from where that `begins` is told from what it
/// made before.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn goroutine_receives(tgid: u32, begins: u32) -> u64 {
    let Some(program) = known(tgid) else { return 0 };
    let Some(g) = running(Task::current(), program) else { return UNKNOWN };
    let Some(goid) = read_user::<u64>(g + u64::from(program.goid)) else { return UNKNOWN };
    if begins != 0 && program.calls != 0 && program.numbers != 0 && program.parent != 0 {
        note(Goroutine { tgid, number: number(goid) }, program, g);
    }
    pack(goid, 0)
}

/// [`goroutine_sends`]. Both are global functions: the verifier looks at them once, by themselves, and
/// not once for each way that leads to them.
#[inline(always)]
pub fn sends(tgid: u32) -> u64 {
    goroutine_sends(tgid)
}

/// [`goroutine_receives`].
#[inline(always)]
pub fn receives(tgid: u32, begins: bool) -> u64 {
    goroutine_receives(tgid, u32::from(begins))
}

/// The Go program of process `tgid`, if it is one. Nothing where goroutines are not read: before 6.8 the
/// verifier looks at functions that nobody calls, too, and what they do may be refused there.
#[inline(always)]
pub fn known(tgid: u32) -> Option<&'static mut GoProcess> {
    if !enabled(feature::GO) {
        return None;
    }
    // SAFETY: a live map value; what is written to it is one word each, and the same from all CPUs.
    GO_PROCESSES.get_ptr_mut(tgid).and_then(|program| unsafe { program.as_mut() })
}

/// `goroutine` whose struct is `g` calls on the `*persistConn` at `address`.
#[inline(always)]
pub fn calls(tgid: u32, program: &mut GoProcess, g: u64, address: u64) {
    program.calls = 1;
    let key = GoConnection { tgid: u64::from(tgid), address };
    let _ = GO_CALLERS.insert(key, caller(program, g), 0);
}

/// Address of the running goroutine's struct: not of the one that runs on the system's stack.
#[inline(always)]
fn running(task: Task, program: &GoProcess) -> Option<u64> {
    let thread: u64 = load(task.0, offset!(task_fsbase));
    let g: u64 = read_user(thread.wrapping_add_signed(program.slot))?;
    let goid: u64 = read_user(g + u64::from(program.goid))?;
    if goid != 0 {
        return Some(g);
    }
    // C code that was called by a goroutine: the thread knows which.
    let m: u64 = read_user(g + u64::from(program.m))?;
    let current: u64 = read_user(m + u64::from(program.current))?;
    if current == 0 { None } else { Some(current) }
}

/// Number of the goroutine that runs in the current task, as long as it is in no C code.
#[inline(always)]
pub fn number_of_running(program: &GoProcess) -> Option<u64> {
    let thread: u64 = load(Task::current().0, offset!(task_fsbase));
    number_of(program, read_user(thread.wrapping_add_signed(program.slot))?)
}

/// Number of the goroutine whose struct is `g`.
#[inline(always)]
pub fn number_of(program: &GoProcess, g: u64) -> Option<u64> {
    read_user::<u64>(g + u64::from(program.goid)).filter(|goid| *goid != 0)
}

/// The goroutine whose struct is `g`, and its maker.
#[inline(always)]
fn caller(program: &GoProcess, g: u64) -> Caller {
    let goid = read_user::<u64>(g + u64::from(program.goid)).unwrap_or(0);
    let mut maker = 0;
    if program.parent != 0 {
        maker = read_user::<u64>(g + u64::from(program.parent)).unwrap_or(0);
    }
    Caller { goid, maker }
}

/// How records name a goroutine that sends now.
#[inline(always)]
fn name(tgid: u32, Caller { goid, maker }: Caller) -> u64 {
    // More have never been made.
    if goid == 0 || goid >> 48 != 0 {
        return UNKNOWN;
    }
    let key = Goroutine { tgid, number: number(maker) };
    // SAFETY: read at once; another CPU may replace the entry, which then is of a later request.
    let since = match unsafe { GO_SERVING.get(key) } {
        Some(numbers) => numbers.was_free(goid),
        None => false,
    };
    pack(goid, maker) | if since { MADE_SINCE } else { 0 }
}

/// Notes which numbers are free while the goroutine `key`, whose struct is `g`, begins to read.
///
/// Written in place: on the stack the verifier would follow each number by itself, known or not.
#[inline(always)]
fn note(key: Goroutine, program: &mut GoProcess, g: u64) {
    meet_processor(program, g);
    let Some(given) = read_user::<u64>(program.numbers) else { return };
    let mut found = GO_SERVING.get_ptr_mut(key);
    if found.is_none() {
        let none = Numbers { given: u64::MAX, next: [0; PROCESSORS] };
        let _ = GO_SERVING.insert(key, none, 0);
        found = GO_SERVING.get_ptr_mut(key);
    }
    // SAFETY: a live map value; other CPUs see each number old or new, and none that was never true.
    let Some(numbers) = found.and_then(|found| unsafe { found.as_mut() }) else { return };
    let mut index = 0;
    while index < PROCESSORS {
        numbers.next[index] = next_of(program, index);
        index += 1;
    }
    numbers.given = given;
}

/// The numbers that a processor has left, 0 where that is not known or there are none.
#[inline(always)]
fn next_of(program: &GoProcess, index: usize) -> u32 {
    let processor = program.processors[index];
    if processor == 0 {
        return 0;
    }
    match read_user::<[u64; 2]>(processor + u64::from(program.next_goid)) {
        Some([next, end]) if end.wrapping_sub(next) < 1 << LEFT_BITS => {
            (next as u32) << LEFT_BITS | end.wrapping_sub(next) as u32
        }
        _ => 0,
    }
}

/// Remembers the processor on which `g` runs. They are never given back.
#[inline(always)]
fn meet_processor(program: &mut GoProcess, g: u64) {
    let Some(m) = read_user::<u64>(g + u64::from(program.m)) else { return };
    let mut processor = read_user::<u64>(m + u64::from(program.p)).unwrap_or(0);
    if processor == 0 {
        // In a system call the thread has given it up, and knows which it was.
        processor = read_user::<u64>(m + u64::from(program.old_p)).unwrap_or(0);
    }
    if processor == 0 {
        return;
    }
    let Some(id) = read_user::<u32>(processor) else { return };
    let id = id as usize;
    if id < PROCESSORS && program.processors[id] != processor {
        program.processors[id] = processor;
    }
}

impl Numbers {
    /// Nobody had the number `goid` then.
    #[inline(always)]
    fn was_free(&self, goid: u64) -> bool {
        if goid > self.given {
            return true;
        }
        let mut index = 0;
        while index < PROCESSORS {
            let left = self.next[index] & ((1 << LEFT_BITS) - 1);
            let ahead = (goid as u32).wrapping_sub(self.next[index] >> LEFT_BITS);
            if ahead << LEFT_BITS >> LEFT_BITS < left {
                return true;
            }
            index += 1;
        }
        false
    }
}

/// The goroutine that asked for what a connection's own goroutine sends now: the frames of the system
/// call lead to the connection, and that to who called on it last.
#[inline(always)]
fn asked(task: Task, tgid: u32, program: &GoProcess) -> u64 {
    // SAFETY: the task is the current one and alive.
    let regs = unsafe { bpf_task_pt_regs(task.0.cast_mut().cast()) } as *const u8;
    let mut frame: u64 = load(regs, BP);
    let [first, end] = program.writer;
    let mut index = 0;
    while index < MAX_FRAMES {
        let Some([above, back]) = read_user::<[u64; 2]>(frame) else { return UNKNOWN };
        if back >= first && back < end {
            let place = above.wrapping_add_signed(program.receiver);
            let Some(address) = read_user::<u64>(place) else { return UNKNOWN };
            let key = GoConnection { tgid: u64::from(tgid), address };
            // SAFETY: the value is copied out.
            return match unsafe { GO_CALLERS.get(key) }.copied() {
                Some(caller) => name(tgid, caller),
                None => UNKNOWN,
            };
        }
        // The stack grows down: frames of callers lie above.
        if above <= frame {
            return UNKNOWN;
        }
        frame = above;
        index += 1;
    }
    UNKNOWN
}
