//! The running goroutine, from the memory of a program in Go: no hook in the program.
//!
//! The thread pointer leads to `g`, the goroutine that runs; its number and its maker's lie in it.
//! Everything read here is the program's own memory, and only hints: what does not make sense is
//! [`UNKNOWN`].

use agent_common::runtime::{GoProcess, MADE_SINCE, PROCESSORS, UNKNOWN, number, pack};
use aya_ebpf::helpers::generated::bpf_task_pt_regs;

use super::{load, task::Task, user::read_user};
use crate::{
    maps::{GO_CALLERS, GO_GENERATION, GO_PROCESSES, GO_SERVING, GoConnection, Goroutine, Numbers},
    settings::offset,
};

/// `offsetof(struct pt_regs, bp)`.
const BP: u64 = 32;

/// Numbers are given to processors by so many at once (`_GoidCacheBatch`).
const BATCH: u64 = 16;

/// Frames between the system call and the function that writes for a connection: six without TLS, ten
/// with it.
const MAX_FRAMES: u32 = 16;

/// The Go program of process `tgid`, if it is one.
#[inline(always)]
pub fn program(tgid: u32) -> Option<&'static mut GoProcess> {
    if GO_GENERATION.get(0).copied().unwrap_or(0) == 0 {
        return None;
    }
    // SAFETY: a live map value; what is written to it is one word each, and the same from all CPUs.
    GO_PROCESSES.get_ptr_mut(tgid).and_then(|program| unsafe { program.as_mut() })
}

/// The goroutine that runs in the current task, which sends a request.
#[inline(never)]
pub fn sends(tgid: u32, program: &mut GoProcess) -> u64 {
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
    name(tgid, program, g)
}

/// The same for one that reads a request: what it makes from here on is told from what it made before.
#[inline(never)]
pub fn receives(tgid: u32, program: &mut GoProcess) -> u64 {
    let Some(g) = running(Task::current(), program) else { return UNKNOWN };
    let Some(goid) = read_user::<u64>(g + u64::from(program.goid)) else { return UNKNOWN };
    if program.calls != 0 && program.numbers != 0 && program.parent != 0 {
        note(Goroutine { tgid, number: number(goid) }, program, g);
    }
    pack(goid, 0)
}

/// `goroutine` whose struct is `g` calls on the `*persistConn` at `address`.
#[inline(always)]
pub fn calls(tgid: u32, program: &mut GoProcess, g: u64, address: u64) {
    program.calls = 1;
    let context = name(tgid, program, g);
    let _ = GO_CALLERS.insert(GoConnection { tgid: u64::from(tgid), address }, context, 0);
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

/// Names the goroutine whose struct is `g`, and its maker.
#[inline(always)]
fn name(tgid: u32, program: &GoProcess, g: u64) -> u64 {
    let goid = read_user::<u64>(g + u64::from(program.goid)).unwrap_or(0);
    if goid == 0 || goid >> 48 != 0 {
        return UNKNOWN;
    }
    if program.parent == 0 {
        return pack(goid, 0);
    }
    let maker = read_user::<u64>(g + u64::from(program.parent)).unwrap_or(0);
    let key = Goroutine { tgid, number: number(maker) };
    // SAFETY: read at once; another CPU may replace the entry, which then is of a later request.
    let since = match unsafe { GO_SERVING.get(key) } {
        Some(numbers) => numbers.was_free(goid),
        None => false,
    };
    pack(goid, maker) | if since { MADE_SINCE } else { 0 }
}

/// Notes which numbers are free while the goroutine `key`, whose struct is `g`, begins to read.
#[inline(always)]
fn note(key: Goroutine, program: &mut GoProcess, g: u64) {
    meet_processor(program, g);
    let Some(given) = read_user::<u64>(program.numbers) else { return };
    let mut numbers = Numbers { given, next: [0; PROCESSORS] };
    let mut index = 0;
    while index < PROCESSORS {
        let processor = program.processors[index];
        if processor != 0
            && let Some([next, end]) =
                read_user::<[u64; 2]>(processor + u64::from(program.next_goid))
            && next < end
        {
            numbers.next[index] = next as u32;
        }
        index += 1;
    }
    let _ = GO_SERVING.insert(key, numbers, 0);
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
        let goid = goid as u32;
        let mut index = 0;
        while index < PROCESSORS {
            let next = self.next[index];
            let same_batch =
                goid.wrapping_sub(1) / BATCH as u32 == next.wrapping_sub(1) / BATCH as u32;
            if next != 0 && goid >= next && same_batch {
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
            return unsafe { GO_CALLERS.get(key) }.copied().unwrap_or(UNKNOWN);
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
