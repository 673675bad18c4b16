//! The kernel program for HTTP clients in Go: who asks.

use super::loader::{Attached, Loader, Probe};
use super::sys::Way;
use agent_common::tls::Site;
use std::fs::File;
use std::os::fd::OwnedFd;

/// The program of the kernel object.
const NAME: &str = "go_round_trip";

/// Loaded; attached to each executable by itself.
pub struct RoundTrip(Probe);

impl RoundTrip {
    /// Loads it.
    ///
    /// # Errors
    /// The kernel's or the object's word.
    pub fn load(loader: &Loader) -> Result<RoundTrip, String> {
        loader.best(|way| loader.load(NAME, way).map(RoundTrip), |this| &this.0)
    }

    /// Executables that may carry it at once. A link costs a descriptor, a perf event also 80 ms when it
    /// goes, one after the other.
    pub fn most(&self) -> usize {
        match self.0.way() {
            Way::Multi => 256,
            Way::Perf => 16,
        }
    }

    /// Puts it on a place of an executable.
    ///
    /// # Errors
    /// The kernel's word.
    pub fn attach(&self, file: &File, offset: u64) -> Result<Attached, String> {
        // One function: no need to tell it which.
        self.0.attach(file, &[(offset, Site(0))], false)
    }

    /// To be asked what it costs.
    pub fn descriptor(&self) -> Option<OwnedFd> {
        self.0.descriptor()
    }
}
