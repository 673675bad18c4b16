//! The loaded programs, shared by those who use, attach or detach one of them while they run, and who
//! ends them all.

use super::load::Loaded;
use aya::Ebpf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// See the module.
#[derive(Clone)]
pub struct Attached(Arc<Mutex<Option<Loaded>>>);

impl Attached {
    /// From now on shared.
    pub fn new(loaded: Loaded) -> Attached {
        Attached(Arc::new(Mutex::new(Some(loaded))))
    }

    /// What `act` gives; `None` once all are detached.
    pub fn with<T>(&self, act: impl FnOnce(&mut Ebpf) -> T) -> Option<T> {
        self.lock().as_mut().map(|loaded| act(&mut loaded.ebpf))
    }

    /// Detaches all of them.
    pub fn detach(&self) {
        drop(self.lock().take());
    }

    /// A poisoned lock still holds whole values.
    fn lock(&self) -> MutexGuard<'_, Option<Loaded>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
