//! The kernel programs for functions of libraries, loaded and attached.

use super::loader::{Attached, Loader, Probe, view};
use super::sys::Way;
use super::tables::Tables;
use agent_common::tls::Site;
use aya::Ebpf;
use aya::maps::{Array, HashMap, MapData};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::time::Instant;

/// Programs of the object, in the order of [`Programs`].
const NAMES: [&str; 5] = ["tls_entry", "tls_return", "rust_entry", "rust_return", "tls_go"];

/// Loaded; attached by [`Programs::attach`].
pub struct Programs {
    calls: Pair,
    rust: Pair,
    /// For Go's `crypto/tls`, where goroutines can be told apart.
    go: Option<Probe>,
    /// [`RustProcess`](agent_common::tls::RustProcess) by process.
    rust_processes: Option<HashMap<MapData, u32, [u64; 2]>>,
    tables: Option<Tables>,
}

/// What runs at the entry of a function, and at its return.
struct Pair {
    entry: Probe,
    on_return: Probe,
}

impl Programs {
    /// Loads the programs; their maps are those of `ebpf`. `go`: goroutines can be told apart.
    ///
    /// # Errors
    /// The kernel's or the object's word.
    pub fn load(loader: &Loader, ebpf: &Ebpf, go: bool) -> Result<Programs, String> {
        let load = |way| Programs::load_for(loader, ebpf, go, way);
        loader.best(load, |programs| &programs.calls.entry)
    }

    /// Go's `crypto/tls` is covered.
    pub fn cover_go(&self) -> bool {
        self.go.is_some()
    }

    /// The loaded programs by name, to be asked what they cost.
    pub fn descriptors(&self) -> Vec<(&'static str, OwnedFd)> {
        let Programs { calls, rust, go, .. } = self;
        let pairs = [calls, rust].into_iter().flat_map(|pair| [&pair.entry, &pair.on_return]);
        NAMES
            .into_iter()
            .zip(pairs.chain(go))
            .filter_map(|(name, probe)| Some((name, probe.descriptor()?)))
            .collect()
    }

    /// Processes whose rustls has another layout than is known: none of their calls was as expected.
    pub fn strangers(&self) -> Vec<u32> {
        let entries = self.rust_processes.iter().flat_map(HashMap::iter).flatten();
        entries
            .filter(|(_, [fit, strange])| *fit == 0 && *strange > 0)
            .map(|(tgid, _)| tgid)
            .collect()
    }

    /// A process whose library sends into buffers that are none of the library's own, if one was met since.
    pub fn own_buffers(&mut self) -> Option<u32> {
        self.tables.as_mut()?.own_buffers()
    }

    /// Makes room in the tables of sockets and objects if there was none: how many entries are forgotten.
    pub fn make_room(&mut self) -> u64 {
        self.tables.as_mut().map_or(0, Tables::make_room)
    }

    /// Kind of attachment, as shown.
    pub fn kind(&self) -> &'static str {
        self.calls.entry.way().name()
    }

    fn load_for(loader: &Loader, ebpf: &Ebpf, go: bool, way: Way) -> Result<Programs, String> {
        let load = |name| loader.load(name, way);
        let pair = |entry, on_return| {
            Ok::<_, String>(Pair { entry: load(entry)?, on_return: load(on_return)? })
        };
        let [tls_entry, tls_return, rust_entry, rust_return, tls_go] = NAMES;
        let calls = pair(tls_entry, tls_return)?;
        let rust = pair(rust_entry, rust_return)?;
        let go = if go { load(tls_go) } else { Err("goroutines cannot be told apart".to_owned()) };
        let go = go.inspect_err(|reason| {
            tracing::warn!("TLS of programs in Go is not seen in clear: {reason}");
        });
        let rust_processes =
            view(ebpf, "RUST_PROCESSES").and_then(|map| HashMap::try_from(map).ok());
        Ok(Programs { calls, rust, go: go.ok(), rust_processes, tables: tables(ebpf) })
    }

    /// Puts probes on places (offsets) of a file.
    ///
    /// # Errors
    /// The kernel's word.
    pub fn attach(&self, file: &File, sites: &[(u64, Site)]) -> Result<Attached, String> {
        let of = |wanted: fn(&Site) -> bool| -> Vec<_> {
            sites.iter().copied().filter(|(_, site)| wanted(site)).collect()
        };
        let calls = self.calls.attach(file, &of(|site| !site.is_go() && !site.is_rust()))?;
        let held = calls.and(self.rust.attach(file, &of(|site| site.is_rust()))?);
        match &self.go {
            Some(go) => Ok(held.and(go.attach(file, &of(|site| site.is_go()), false)?)),
            None => Ok(held),
        }
    }
}

impl Pair {
    fn attach(&self, file: &File, sites: &[(u64, Site)]) -> Result<Attached, String> {
        let with_return: Vec<_> =
            sites.iter().copied().filter(|(_, site)| site.has_return()).collect();
        // Returns first: an entry without its return would leave a call open.
        let returns = self.on_return.attach(file, &with_return, true)?;
        Ok(returns.and(self.entry.attach(file, sites, false)?))
    }
}

fn tables(ebpf: &Ebpf) -> Option<Tables> {
    Some(Tables {
        notes: Array::try_from(view(ebpf, "TLS_NOTES")?).ok()?,
        sockets: HashMap::try_from(view(ebpf, "TLS_SOCKETS")?).ok()?,
        objects: HashMap::try_from(view(ebpf, "TLS_OBJECTS")?).ok()?,
        made: None,
        tidy_at: Instant::now(),
    })
}
