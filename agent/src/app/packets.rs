//! Looks after the program that takes bytes from received packets: attached while a process has use for
//! it, because it taxes every packet that is received.
//!
//! A process has use for it from when it makes an io_uring, at least for a minute; and once it has
//! received by one, for as long as it lives.

use super::shared::Shared;
use crate::probe::attached::Attached;
use crate::probe::in_kernel::{InKernelMaps, InKernelUsers, Packets};
use crate::process::io_uring;
use agent_common::settings::InKernelUser;
use aya::maps::{MapData, RingBuf};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Longest sleep: the stop flag is looked at in between.
const NAP: Timespec = Timespec { tv_sec: 0, tv_nsec: 250_000_000 };

/// How long a process that made a ring is waited for to receive by it.
const TRIAL: Duration = Duration::from_secs(60);

/// How often it is asked whether anybody still has use for it.
const LOOK: Duration = Duration::from_secs(5);

/// Processes with a ring that are remembered; a process beyond is noticed when it receives.
const MOST_PROCESSES: usize = 4096;

/// Who has had calls that no registers explain, for whoever asks.
#[derive(Clone)]
pub struct InKernel(Arc<Mutex<InKernelUsers>>);

impl InKernel {
    /// Each process that still runs, with what was counted.
    pub fn processes(&self) -> Vec<(u32, InKernelUser)> {
        let mut users = self.0.lock().unwrap_or_else(PoisonError::into_inner).read();
        users.retain(|(tgid, _)| is_alive(*tgid));
        users.sort_unstable_by_key(|(tgid, _)| *tgid);
        users
    }
}

/// See the module.
pub struct PacketThread {
    attached: Attached,
    packets: Packets,
    notices: RingBuf<MapData>,
    users: InKernel,
    /// When a process last made a ring.
    rings: HashMap<u32, Instant>,
    looked: Instant,
    failed: bool,
    shared: Arc<Shared>,
}

impl PacketThread {
    /// Not attached yet.
    pub fn new(
        attached: Attached,
        maps: InKernelMaps,
        is_loaded: bool,
        shared: Arc<Shared>,
    ) -> (PacketThread, InKernel) {
        let (packets, notices, users) = Packets::new(maps);
        let users = InKernel(Arc::new(Mutex::new(users)));
        let thread = PacketThread {
            attached,
            packets,
            notices,
            users: users.clone(),
            rings: HashMap::new(),
            looked: Instant::now(),
            failed: !is_loaded,
            shared,
        };
        (thread, users)
    }

    /// Runs until the agent stops.
    pub fn run(mut self) {
        if !self.failed {
            for tgid in io_uring::with_rings() {
                self.note(tgid);
            }
        }
        while !self.shared.stop.load(Ordering::Acquire) {
            let mut descriptors = [PollFd::new(&self.notices, PollFlags::IN)];
            // A failure, or an interruption, is a short sleep.
            let _ = poll(&mut descriptors, Some(&NAP));
            while let Some(tgid) = next(&mut self.notices) {
                self.note(tgid);
            }
            if self.packets.is_attached() && self.looked.elapsed() >= LOOK {
                self.look();
            }
        }
    }

    /// A process has made a ring, or has received in a way that only packets explain.
    fn note(&mut self, tgid: u32) {
        if tgid == std::process::id() {
            return;
        }
        if self.rings.len() < MOST_PROCESSES {
            self.rings.insert(tgid, Instant::now());
        }
        if self.failed || self.packets.is_attached() {
            return;
        }
        let packets = &mut self.packets;
        match self.attached.with(|ebpf| packets.attach(ebpf)) {
            Some(Ok(())) => {
                self.looked = Instant::now();
                tracing::debug!("received packets: attached for process {tgid}");
            }
            Some(Err(error)) => {
                self.failed = true;
                tracing::warn!("received packets cannot be looked at: {error}");
            }
            None => {}
        }
    }

    /// Detaches it when nobody has use for it.
    fn look(&mut self) {
        self.looked = Instant::now();
        self.rings.retain(|tgid, made| made.elapsed() < TRIAL && is_alive(*tgid));
        let in_use = self.users.processes().iter().any(|(_, user)| user.packet_calls > 0);
        if !self.rings.is_empty() || in_use {
            return;
        }
        let packets = &mut self.packets;
        if let Some(Err(error)) = self.attached.with(|ebpf| packets.detach(ebpf)) {
            tracing::warn!("received packets: not detached: {error}");
        } else {
            tracing::debug!("received packets: detached");
        }
    }
}

fn next(notices: &mut RingBuf<MapData>) -> Option<u32> {
    let item = notices.next()?;
    Some(item.first_chunk::<4>().map_or(0, |bytes| u32::from_ne_bytes(*bytes)))
}

fn is_alive(tgid: u32) -> bool {
    rustix::fs::access(format!("/proc/{tgid}"), rustix::fs::Access::EXISTS).is_ok()
}
