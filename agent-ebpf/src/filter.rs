//! Who is watched: asked first by every probe. Order: the agent itself, the selection of
//! processes, then the socket's verdict.

use agent_common::{
    counter,
    settings::{MAX_PORTS, feature, process_generation, process_verdict},
};

use crate::{
    emit::count,
    kernel::{
        atomic,
        sock::{Sock, Stream},
    },
    maps::{AGENT_PEERS, CGROUP, ConnectionKey, PROCESS_GENERATION, PROCESSES},
    settings::{enabled, setting, settings},
};

/// True when `tgid` is the agent.
#[inline(always)]
pub fn is_own(tgid: u32) -> bool {
    tgid == setting!(own_tgid)
}

/// What was last found out about a process that uses a socket, kept with the socket: the process,
/// the generation of the selection that was asked, and the answer. In one number, so that CPUs that
/// use the socket at once each see one answer whole.
///
/// It holds while process and generation are the same: the generation is read before the selection
/// is asked, and raised after each change of it, so that an answer from before a change has an
/// older generation than whoever comes after the change.
#[repr(transparent)]
pub struct Judged(u64);

impl Judged {
    /// There is an answer.
    const KNOWN: u64 = 1 << 62;
    /// It is yes.
    const WATCHED: u64 = 1 << 63;

    /// True when the process is selected.
    #[inline(always)]
    fn selects(&mut self, tgid: u32) -> bool {
        if !enabled(feature::PROCESS_FILTER) {
            return true;
        }
        // Process numbers have 22 bits.
        let asked = Self::KNOWN | u64::from(tgid) << 32 | u64::from(generation());
        let known = self.read();
        if known & !Self::WATCHED == asked {
            return known & Self::WATCHED != 0;
        }
        // SAFETY: the value is copied out.
        let selected = match unsafe { PROCESSES.get(tgid) }.copied() {
            Some(verdict) => verdict == process_verdict::WATCH,
            None => !enabled(feature::PROCESS_ALLOW_LIST),
        };
        let answer = asked | if selected { Self::WATCHED } else { 0 };
        // SAFETY: a live number; volatile, so that it is written at once and whole.
        unsafe { (&raw mut self.0).write_volatile(answer) };
        selected
    }

    /// The process that used the socket last is not selected, as far as is known.
    #[inline(always)]
    pub fn is_unwatched(&self) -> bool {
        if !enabled(feature::PROCESS_FILTER) {
            return false;
        }
        let known = self.read();
        known & (Self::KNOWN | Self::WATCHED) == Self::KNOWN && known as u32 == generation()
    }

    #[inline(always)]
    fn read(&self) -> u64 {
        // SAFETY: a live number; volatile, so that it is read once.
        unsafe { (&raw const self.0).read_volatile() }
    }
}

/// Changes of the selection so far, the kernel side's and userspace's.
#[inline(always)]
fn generation() -> u32 {
    let part = |index| {
        PROCESS_GENERATION.get_ptr(index).map_or(0, |part| {
            // SAFETY: a live map value; volatile, so that it is read here.
            unsafe { part.read_volatile() }
        })
    };
    part(process_generation::KERNEL).wrapping_add(part(process_generation::USER)) as u32
}

/// The selection has changed.
#[inline(always)]
fn raise_generation() {
    if let Some(part) = PROCESS_GENERATION.get_ptr_mut(process_generation::KERNEL) {
        // SAFETY: a live map value.
        unsafe { atomic::add(part, 1) };
    }
}

/// True when the running process is watched. Prunes to `true` without filters.
#[inline(always)]
pub fn watches(tgid: u32, judged: &mut Judged) -> bool {
    let watched = selects(tgid, judged);
    if !watched {
        count(counter::FILTERED_CALLS, 1);
    }
    watched
}

/// The same for a hook in the middle of a call: the call's own hook counts it.
#[inline(always)]
pub fn selects(tgid: u32, judged: &mut Judged) -> bool {
    judged.selects(tgid) && in_cgroup()
}

/// The same where the socket cannot be asked.
#[inline(always)]
pub fn selects_now(tgid: u32) -> bool {
    if enabled(feature::PROCESS_FILTER) {
        // SAFETY: the value is copied out.
        let verdict = unsafe { PROCESSES.get(tgid) }.copied();
        let selected = match verdict {
            Some(verdict) => verdict == process_verdict::WATCH,
            None => !enabled(feature::PROCESS_ALLOW_LIST),
        };
        if !selected {
            return false;
        }
    }
    in_cgroup()
}

/// A new process runs its parent's program: the verdict on that is the verdict on it.
#[inline(always)]
pub fn inherit(parent_tgid: u32, child_tgid: u32) {
    if !enabled(feature::PROCESS_FILTER) {
        return;
    }
    // SAFETY: the value is copied out.
    if let Some(verdict) = unsafe { PROCESSES.get(parent_tgid) }.copied() {
        // A full map leaves the verdict to userspace, here and below.
        let _ = PROCESSES.insert(child_tgid, verdict, 0);
        raise_generation();
    }
}

/// A process starts another program, which may send before userspace has judged it: it is watched
/// until then, and userspace reports it only if it is selected.
#[inline(always)]
pub fn watch_for_now(tgid: u32) {
    let family = enabled(feature::FAMILY_FILTER);
    // SAFETY: only its presence is used.
    if enabled(feature::EXECUTABLE_FILTER) || family && unsafe { PROCESSES.get(tgid) }.is_some() {
        let _ = PROCESSES.insert(tgid, process_verdict::WATCH, 0);
        raise_generation();
    }
}

#[inline(always)]
fn in_cgroup() -> bool {
    !enabled(feature::CGROUP_FILTER) || CGROUP.current_task_under_cgroup(0).unwrap_or(false)
}

/// True when a socket is not watched whoever uses it: by its ports, or because the agent is at its
/// other end. Asked once a socket.
#[inline(always)]
pub fn leaves_out(sock: Sock, stream: Stream) -> bool {
    if stream != Stream::Tcp {
        return enabled(feature::PORT_FILTER);
    }
    if enabled(feature::PORT_FILTER) && !has_watched_port(sock) {
        return true;
    }
    let (local_addr, remote_addr) = sock.addresses();
    let (local_port, remote_port) = sock.ports();
    let from_there = ConnectionKey {
        local_addr: remote_addr,
        remote_addr: local_addr,
        local_port: u32::from(remote_port),
        remote_port: u32::from(local_port),
    };
    // SAFETY: only its presence is used.
    unsafe { AGENT_PEERS.get(from_there) }.is_some()
}

#[inline(always)]
fn has_watched_port(sock: Sock) -> bool {
    let (local, remote) = sock.ports();
    let mut index = 0;
    while index < MAX_PORTS {
        // SAFETY: the index is within the array; volatile keeps the compiler from folding the ports
        // in the object file over those that userspace sets.
        let port = unsafe {
            core::ptr::read_volatile((&raw const (*settings()).ports).cast::<u16>().add(index))
        };
        if port != 0 && (port == local || port == remote) {
            return true;
        }
        index += 1;
    }
    false
}

/// Notes a connection of the agent, so that its other end is left out as well. Gives its local
/// port, for [`forget_own`].
#[inline(always)]
pub fn note_own(sock: Sock) -> u16 {
    let port = sock.ports().0;
    // A full LRU map evicts; an error costs one muted end.
    let _ = AGENT_PEERS.insert(key_of(sock, u32::from(port)), 1, 0);
    port
}

/// Forgets a connection of the agent: its ports may next be somebody else's.
#[inline(always)]
pub fn forget_own(sock: Sock, local_port: u32) {
    let _ = AGENT_PEERS.remove(key_of(sock, local_port));
}

/// The connection as seen from `sock`.
#[inline(always)]
fn key_of(sock: Sock, local_port: u32) -> ConnectionKey {
    let (local_addr, remote_addr) = sock.addresses();
    let remote_port = u32::from(sock.ports().1);
    ConnectionKey { local_addr, remote_addr, local_port, remote_port }
}
