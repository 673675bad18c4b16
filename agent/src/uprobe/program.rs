//! The kernel programs for functions of libraries, loaded and attached.

use super::sys::{self, Way};
use super::tables::Tables;
use agent_common::tls::Site;
use aya::Ebpf;
use aya::maps::{Array, HashMap, Map, MapData};
use aya_obj::Object;
use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Instant;

/// Programs of the object, in the order of [`Programs`].
const NAMES: [&str; 5] = ["tls_entry", "tls_return", "rust_entry", "rust_return", "tls_go"];

/// Loaded; attached by [`Programs::attach`].
pub struct Programs {
    calls: Pair,
    rust: Pair,
    /// For Go's `crypto/tls`, where goroutines can be told apart.
    go: Option<OwnedFd>,
    /// [`RustProcess`](agent_common::tls::RustProcess) by process.
    rust_processes: Option<HashMap<MapData, u32, [u64; 2]>>,
    tables: Option<Tables>,
    way: Way,
}

/// What runs at the entry of a function, and at its return.
struct Pair {
    entry: OwnedFd,
    on_return: OwnedFd,
}

/// Probes on one file. They end with this value.
#[derive(Default)]
pub struct Attached(#[expect(dead_code, reason = "they end with it")] Vec<OwnedFd>);

impl Programs {
    /// Loads the programs out of the object that `ebpf` was made of: their maps are its maps. `go`:
    /// goroutines can be told apart.
    ///
    /// # Errors
    /// The kernel's or the object's word.
    pub fn load(object: &[u8], ebpf: &Ebpf, go: bool) -> Result<Programs, String> {
        let multi = Programs::load_for(object, ebpf, go, Way::Multi).and_then(|programs| {
            // A kernel that loads it may still not attach it: the agent's own file, no place.
            programs.proves_itself().map(|()| programs)
        });
        multi.or_else(|reason| {
            Programs::load_for(object, ebpf, go, Way::Perf)
                .map_err(|other| format!("uprobe_multi: {reason}; uprobe: {other}"))
        })
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
            .filter_map(|(name, fd)| Some((name, fd.try_clone().ok()?)))
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
        match self.way {
            Way::Multi => "uprobe_multi",
            Way::Perf => "uprobe",
        }
    }

    fn load_for(object: &[u8], ebpf: &Ebpf, go: bool, way: Way) -> Result<Programs, String> {
        let mut object = Object::parse(object).map_err(|error| error.to_string())?;
        let maps: Vec<(String, RawFd, aya_obj::Map)> = ebpf
            .maps()
            .filter_map(|(name, map)| {
                Some((
                    name.to_owned(),
                    descriptor(map)?.as_raw_fd(),
                    object.maps.get(name)?.clone(),
                ))
            })
            .collect();
        let code: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
        let maps = maps.iter().map(|(name, fd, map)| (name.as_str(), *fd, map));
        object.relocate_maps(maps, &code).map_err(|error| chain(&error))?;
        object.relocate_calls(&code).map_err(|error| chain(&error))?;
        let load = |name: &str| {
            let program =
                object.programs.get(name).ok_or_else(|| format!("the object has no {name}"))?;
            let function = object
                .functions
                .get(&program.function_key())
                .ok_or_else(|| format!("the object has no code of {name}"))?;
            sys::load(name, &function.instructions, &program.license, way)
                .map_err(|reason| format!("{name} was refused: {reason}"))
        };
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
        Ok(Programs { calls, rust, go: go.ok(), rust_processes, tables: tables(ebpf), way })
    }

    fn proves_itself(&self) -> Result<(), String> {
        // An empty list of places is refused with EINVAL by every kernel that knows the kind, and with
        // the same by one that does not: only a real place tells. `_start` of this very program is never
        // called again.
        let file = File::open("/proc/self/exe").map_err(|error| error.to_string())?;
        let entry = own_entry(&file).ok_or("the agent's own file has no entry")?;
        self.attach(&file, &[(entry, Site(0))]).map(drop)
    }

    /// Puts probes on places (offsets) of a file.
    ///
    /// # Errors
    /// The kernel's word.
    pub fn attach(&self, file: &File, sites: &[(u64, Site)]) -> Result<Attached, String> {
        let path = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap_or_default();
        let of = |wanted: fn(&Site) -> bool| -> Vec<_> {
            sites.iter().copied().filter(|(_, site)| wanted(site)).collect()
        };
        let calls = of(|site| !site.is_go() && !site.is_rust());
        let mut held = self.attach_pair(&self.calls, &path, &calls)?;
        held.extend(self.attach_pair(&self.rust, &path, &of(|site| site.is_rust()))?);
        if let Some(go) = &self.go {
            held.extend(self.attach_one(go, false, &path, &of(|site| site.is_go()))?);
        }
        Ok(Attached(held))
    }

    fn attach_pair(
        &self,
        pair: &Pair,
        path: &CStr,
        sites: &[(u64, Site)],
    ) -> Result<Vec<OwnedFd>, String> {
        let with_return: Vec<_> =
            sites.iter().copied().filter(|(_, site)| site.has_return()).collect();
        // Returns first: an entry without its return would leave a call open.
        let mut held = self.attach_one(&pair.on_return, true, path, &with_return)?;
        held.extend(self.attach_one(&pair.entry, false, path, sites)?);
        Ok(held)
    }

    fn attach_one(
        &self,
        program: &OwnedFd,
        on_return: bool,
        path: &CStr,
        sites: &[(u64, Site)],
    ) -> Result<Vec<OwnedFd>, String> {
        if sites.is_empty() {
            return Ok(Vec::new());
        }
        let (offsets, cookies): (Vec<u64>, Vec<u64>) =
            sites.iter().map(|(offset, site)| (*offset, site.0)).unzip();
        let failed = |error: std::io::Error| error.to_string();
        match self.way {
            Way::Multi => sys::link_multi(program.as_fd(), path, &offsets, &cookies, on_return)
                .map(|link| vec![link])
                .map_err(failed),
            Way::Perf => {
                let kind = perf_kind()?;
                let config = u64::from(on_return) << kind.return_bit;
                let mut held = Vec::new();
                for (offset, cookie) in offsets.into_iter().zip(cookies) {
                    let fd = program.as_fd();
                    let link = sys::link_perf(fd, path, offset, cookie, kind.number, config);
                    held.extend(link.map_err(failed)?);
                }
                Ok(held)
            }
        }
    }
}

/// File offset of a program's first instruction: its headers map code from there on.
fn own_entry(file: &File) -> Option<u64> {
    use std::os::unix::fs::FileExt;
    let mut header = [0; 64];
    file.read_exact_at(&mut header, 0).ok()?;
    let word = |at: usize| Some(u64::from_le_bytes(*header.get(at..)?.first_chunk()?));
    let (entry, table) = (word(24)?, word(32)?);
    (0..32).find_map(|index| {
        let mut segment = [0; 56];
        file.read_exact_at(&mut segment, table.checked_add(index * 56)?).ok()?;
        let word = |at: usize| Some(u64::from_le_bytes(*segment.get(at..)?.first_chunk()?));
        let is_code = segment.first_chunk() == Some(&1_u32.to_le_bytes()) && segment[4] & 1 != 0;
        let within = entry.checked_sub(word(16)?)?;
        (is_code && within < word(32)?).then(|| word(8)?.checked_add(within))?
    })
}

struct PerfKind {
    number: u32,
    return_bit: u32,
}

/// The kernel's perf unit for uprobes.
fn perf_kind() -> Result<PerfKind, String> {
    const UNIT: &str = "/sys/bus/event_source/devices/uprobe";
    let read = |name: &str| {
        std::fs::read_to_string(format!("{UNIT}/{name}"))
            .map_err(|error| format!("{UNIT}/{name}: {error}"))
    };
    let strange = |text: &str| format!("{UNIT} says {text:?}");
    let number = read("type")?;
    let bit = read("format/retprobe")?;
    Ok(PerfKind {
        number: number.trim().parse().map_err(|_| strange(&number))?,
        return_bit: bit
            .trim()
            .strip_prefix("config:")
            .and_then(|bit| bit.parse().ok())
            .filter(|bit| *bit < 64)
            .ok_or_else(|| strange(&bit))?,
    })
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

/// A map once more, to read it.
fn view(ebpf: &Ebpf, name: &str) -> Option<Map> {
    let fd = descriptor(ebpf.map(name)?)?.try_clone_to_owned().ok()?;
    Map::from_map_data(MapData::from_fd(fd).ok()?).ok()
}

fn descriptor(map: &Map) -> Option<BorrowedFd<'_>> {
    let data = match map {
        Map::Array(data)
        | Map::CgroupArray(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data)
        | Map::PerCpuHashMap(data)
        | Map::PerCpuLruHashMap(data)
        | Map::ProgramArray(data)
        | Map::RingBuf(data)
        | Map::SkStorage(data) => data,
        _ => return None,
    };
    Some(data.fd().as_fd())
}

/// An error with its sources.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}
