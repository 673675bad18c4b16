//! Which request a thread, or a goroutine, serves.

use super::{Key, Request, Slab, Threads};
use crate::message::Thread;

impl Threads {
    /// The one request that `thread` serves at boot time `at`, or the goroutines serve that made it.
    pub(in crate::trace) fn serves(
        &mut self,
        thread: &Thread,
        at: u64,
        requests: &Slab<Request>,
    ) -> Option<u32> {
        let key = self.goroutines.key(thread)?;
        if key.goroutine == 0 || self.states.get(&key).is_some() {
            return self.serves_itself(&key, at, requests);
        }
        let request = self.inherited(&key, thread, at, requests)?;
        (!self.is_doubted(request, requests)).then_some(request)
    }

    fn serves_itself(&self, key: &Key, at: u64, requests: &Slab<Request>) -> Option<u32> {
        let state = self.states.get(key)?;
        if at < state.trusted_ns
            || state.barred
            || self.processes.get(&key.process).is_some_and(|process| process.barred)
        {
            return None;
        }
        match state.open.as_slice() {
            &[one] if !self.is_doubted(one, requests) => Some(one),
            _ => None,
        }
    }

    /// What a goroutine that serves nothing itself works for.
    fn inherited(
        &mut self,
        key: &Key,
        thread: &Thread,
        at: u64,
        requests: &Slab<Request>,
    ) -> Option<u32> {
        if let Some(known) = self.goroutines.works_for(key, requests) {
            return Some(known);
        }
        let (maker, made_since) = Key::maker(thread)?;
        let request = match self.states.get(&maker) {
            Some(_) if made_since => self.serves_itself(&maker, at, requests),
            Some(_) => None,
            None => self.goroutines.works_for(&maker, requests),
        }?;
        self.goroutines.note(*key, request, requests);
        Some(request)
    }
}
