//! Connections that have just been closed. The record of a call that was under way comes behind the closing one,
//! from another processor or out of a library, and must not begin the connection anew: nothing would end it.

/// How many are known, 32 KiB: what a processor closes in far more time than a call is late.
const KNOWN: usize = 4096;

/// Cookies, each at the place that its low bits say. Sockets are numbered one after the other, and no number is
/// used twice.
#[derive(Debug)]
pub(super) struct Over(Box<[u64]>);

impl Default for Over {
    fn default() -> Self {
        Over(vec![0; KNOWN].into())
    }
}

impl Over {
    /// This one is closed.
    pub(super) fn add(&mut self, cookie: u64) {
        if let Some(place) = self.0.get_mut(place(cookie)) {
            *place = cookie;
        }
    }

    /// Whether it is, as far as is known.
    pub(super) fn has(&self, cookie: u64) -> bool {
        cookie != 0 && self.0.get(place(cookie)) == Some(&cookie)
    }
}

fn place(cookie: u64) -> usize {
    (cookie % KNOWN as u64) as usize
}
