//! Programs that have a TLS library send into buffers of their own making: as long as one of them lives, all that
//! goes into any buffer is looked at.
//!
//! Each call of such a program tells of it, but of several that tell between two looks the last one is heard. So the
//! end of all that are remembered is not enough: nobody may have told since the sweep before either.

use super::attachments::{Known, Prober};
use super::loader::Attached;
use super::service::{Work, end};
use std::collections::HashSet;
use std::path::Path;

/// Processes that are remembered at most. One that is not keeps the probes by calling.
pub(super) const MAX_PROCESSES: usize = 1024;

/// Processes that were met, and whether there is a probe for them.
#[derive(Default)]
pub(super) struct OwnBuffers {
    pub(super) processes: HashSet<u32>,
    pub(super) are_probed: bool,
    /// One of them has called since the last sweep.
    called: bool,
}

impl<P: Prober> Work<P> {
    /// Takes up what the kernel side has met.
    pub(super) fn look_for_own_buffers(&mut self) {
        let Some(pid) = self.programs.as_mut().and_then(P::own_buffers) else { return };
        self.own_buffers.called = true;
        if self.own_buffers.processes.len() < MAX_PROCESSES {
            self.own_buffers.processes.insert(pid);
        }
        if self.own_buffers.are_probed {
            return;
        }
        self.own_buffers.are_probed = true;
        tracing::debug!(
            "process {pid} has buffers of its own for a TLS library: these are probed as well"
        );
        let Some(programs) = &self.programs else { return };
        for known in self.known.values_mut() {
            if let Err(reason) = known.probe_buffers(programs) {
                self.shared.lock().refused += 1;
                tracing::warn!("{} cannot be probed: {reason}", known.path.display());
            }
        }
        self.count_probed_for_buffers();
    }

    /// Gives the probes back when none of the programs lives any more; with each sweep.
    pub(super) fn give_buffers_back(&mut self) {
        let called = std::mem::take(&mut self.own_buffers.called);
        let lives = |pid: &u32| Path::new("/proc").join(pid.to_string()).exists();
        self.own_buffers.processes.retain(lives);
        if !self.own_buffers.are_probed || called || !self.own_buffers.processes.is_empty() {
            return;
        }
        self.own_buffers.are_probed = false;
        tracing::debug!("no program with buffers of its own is left: their probes end");
        end(self.known.values_mut().filter_map(|known| known.for_buffers.take()).collect());
        self.count_probed_for_buffers();
    }

    pub(super) fn count_probed_for_buffers(&self) {
        let probed = self.known.values().filter(|known| known.for_buffers.is_some()).count();
        self.shared.lock().for_buffers = probed as u64;
    }
}

impl Known {
    /// Puts probes where all passes that goes into buffers, if the file is probed at all and they are not there.
    pub(super) fn probe_buffers(&mut self, programs: &impl Prober) -> Result<(), String> {
        if let Some((file, sites)) = &self.spare
            && self.for_buffers.is_none()
        {
            self.for_buffers = Some(programs.attach(file, sites)?);
        }
        Ok(())
    }

    /// All probes of the file.
    pub(super) fn into_probes(self) -> impl Iterator<Item = Attached> {
        self.attached.into_iter().chain(self.for_buffers)
    }
}
