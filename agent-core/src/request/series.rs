//! What tells series apart, and what is kept of one.

use super::emit::BOUNDS;
use super::{BUCKETS, Observed};
use crate::histogram::exponential::Exponential;
use crate::histogram::{Buckets, Histogram};
use crate::message::Role;
use crate::metric::Exemplar;
use hashbrown::Equivalent;

/// Longest `server.address` that has a series: that of a name in DNS (RFC 1035, section 2.3.4: 255 octets on the
/// wire, 253 as text). It is what the client wrote into `Host`.
pub(super) const MAX_SERVER: usize = 253;

/// What tells one series of a service from the others: nothing that is no attribute, or two points would say
/// the same of themselves.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) role: Role,
    pub(super) method: Box<str>,
    pub(super) route: Box<str>,
    pub(super) scheme: &'static str,
    pub(super) version: &'static str,
    pub(super) status: Option<u16>,
    pub(super) error: Option<Box<str>>,
    pub(super) server: Box<str>,
    pub(super) server_port: Option<u16>,
}

/// The same, borrowed: a look-up copies nothing. Hashed like [`Key`], field by field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Wanted<'a> {
    role: Role,
    method: &'a str,
    route: &'a str,
    scheme: &'static str,
    version: &'static str,
    status: Option<u16>,
    error: Option<&'a str>,
    server: &'a str,
    server_port: Option<u16>,
}

impl<'a> Wanted<'a> {
    pub(super) fn of(request: &Observed<'a>) -> Wanted<'a> {
        let Observed { role, method, route, scheme, version, status, error, .. } = *request;
        let (scheme, server, server_port) = match role {
            Role::Server => (scheme, "", None),
            Role::Client => ("", request.server, request.server_port),
        };
        Wanted { role, method, route, scheme, version, status, error, server, server_port }
    }
}

impl Wanted<'_> {
    /// Names a server that cannot be one.
    pub(super) fn is_too_long(&self) -> bool {
        self.server.len() > MAX_SERVER
    }

    /// The series for what there is no room for: without a method.
    pub(super) fn overflow(role: Role) -> Wanted<'static> {
        let (method, route, scheme, version, server) = ("", "", "", "", "");
        let (status, error, server_port) = (None, None, None);
        Wanted { role, method, route, scheme, version, status, error, server, server_port }
    }
}

impl Key {
    /// See [`Wanted::overflow`].
    pub(super) fn is_overflow(&self) -> bool {
        self.method.is_empty()
    }
}

impl Equivalent<Key> for Wanted<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        let Key { role, method, route, scheme, version, status, error, server, server_port } = key;
        *self
            == Wanted {
                role: *role,
                method,
                route,
                scheme,
                version,
                status: *status,
                error: error.as_deref(),
                server,
                server_port: *server_port,
            }
    }
}

impl From<&Wanted<'_>> for Key {
    fn from(wanted: &Wanted<'_>) -> Key {
        let Wanted { role, method, route, scheme, version, status, error, server, server_port } =
            *wanted;
        let (method, route, server) = (method.into(), route.into(), server.into());
        let error = error.map(Into::into);
        Key { role, method, route, scheme, version, status, error, server, server_port }
    }
}

/// One series.
#[derive(Debug, Default)]
pub(super) struct Series {
    pub(super) histogram: Histogram<BUCKETS>,
    /// What of it was reported, where reports are deltas.
    pub(super) reported: Option<Box<Histogram<BUCKETS>>>,
    /// The same over buckets that grow, where reports have those; since the last report where they are deltas.
    pub(super) exponential: Option<Box<Exponential>>,
    /// The newest of each bucket since the last report.
    pub(super) exemplars: Vec<(usize, Exemplar)>,
    pub(super) start_unix_ns: u64,
    pub(super) idle_reports: u32,
}

impl Series {
    pub(super) fn begun(unix_ns: u64, buckets: Buckets) -> Series {
        let exponential = (buckets == Buckets::Exponential).then(Box::default);
        Series { start_unix_ns: unix_ns, exponential, ..Series::default() }
    }

    pub(super) fn add(&mut self, request: &Observed<'_>) {
        self.idle_reports = 0;
        let bucket = self.histogram.add(&BOUNDS, request.seconds);
        if let Some(exponential) = &mut self.exponential {
            exponential.add(request.seconds);
        }
        let Some((trace, span, unix_ns)) = request.exemplar else { return };
        let exemplar = Exemplar { trace, span, unix_ns, value: request.seconds };
        match self.exemplars.iter_mut().find(|(of, _)| *of == bucket) {
            Some((_, known)) => *known = exemplar,
            None => self.exemplars.push((bucket, exemplar)),
        }
    }
}
