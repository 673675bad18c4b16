//! Programs of the kernel object for functions in user space: loaded, and attached to a file.

use super::sys::{self, Way};
use agent_common::tls::Site;
use aya::Ebpf;
use aya::maps::{Map, MapData};
use aya_obj::Object;
use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// The object, bound to maps that are there.
pub struct Loader(Object);

/// A loaded program.
pub struct Probe {
    program: OwnedFd,
    way: Way,
}

/// Probes on one file. They end with this value.
#[derive(Default)]
pub struct Attached(Vec<OwnedFd>);

impl Loader {
    /// Reads the object that `ebpf` was made of: the maps of its programs are those.
    ///
    /// # Errors
    /// The object's word.
    pub fn new(object: &[u8], ebpf: &Ebpf) -> Result<Loader, String> {
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
        Ok(Loader(object))
    }

    /// What `load` gives for the best way that this kernel takes.
    ///
    /// # Errors
    /// The kernel's or the object's word on each.
    pub fn best<T>(
        &self,
        load: impl Fn(Way) -> Result<T, String>,
        one: impl Fn(&T) -> &Probe,
    ) -> Result<T, String> {
        // A kernel that loads it may still not attach it: no such link, or a right that is missing.
        let proven = |way| {
            let loaded = load(way)?;
            one(&loaded).proves_itself().map(|()| loaded)
        };
        proven(Way::Multi).or_else(|reason| {
            proven(Way::Perf).map_err(|other| format!("uprobe_multi: {reason}; uprobe: {other}"))
        })
    }

    /// Loads one program.
    ///
    /// # Errors
    /// The kernel's or the object's word.
    pub fn load(&self, name: &str, way: Way) -> Result<Probe, String> {
        let program =
            self.0.programs.get(name).ok_or_else(|| format!("the object has no {name}"))?;
        let function = self
            .0
            .functions
            .get(&program.function_key())
            .ok_or_else(|| format!("the object has no code of {name}"))?;
        let program = sys::load(name, &function.instructions, &program.license, way)
            .map_err(|reason| format!("{name} was refused: {reason}"))?;
        Ok(Probe { program, way })
    }
}

impl Probe {
    /// To be asked what it costs.
    pub fn descriptor(&self) -> Option<OwnedFd> {
        self.program.try_clone().ok()
    }

    /// How it is attached.
    pub fn way(&self) -> Way {
        self.way
    }

    fn proves_itself(&self) -> Result<(), String> {
        // An empty list of places is refused with EINVAL by every kernel that knows the kind, and with
        // the same by one that does not: only a real place tells. `_start` of this very program is never
        // called again.
        let file = File::open("/proc/self/exe").map_err(|error| error.to_string())?;
        let entry = own_entry(&file).ok_or("the agent's own file has no entry")?;
        self.attach(&file, &[(entry, Site(0))], false).map(drop)
    }

    /// Puts it on places (offsets) of a file.
    ///
    /// # Errors
    /// The kernel's word.
    pub fn attach(
        &self,
        file: &File,
        sites: &[(u64, Site)],
        on_return: bool,
    ) -> Result<Attached, String> {
        if sites.is_empty() {
            return Ok(Attached::default());
        }
        let path = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap_or_default();
        let (offsets, cookies): (Vec<u64>, Vec<u64>) =
            sites.iter().map(|(offset, site)| (*offset, site.0)).unzip();
        let held = match self.way {
            Way::Multi => {
                sys::link_multi(self.program.as_fd(), &path, &offsets, &cookies, on_return)
                    .map(|link| vec![link])
                    .map_err(|error| error.to_string())
            }
            Way::Perf => self.attach_each(&path, offsets.into_iter().zip(cookies), on_return),
        };
        held.map(Attached)
    }

    fn attach_each(
        &self,
        path: &CStr,
        places: impl Iterator<Item = (u64, u64)>,
        on_return: bool,
    ) -> Result<Vec<OwnedFd>, String> {
        let kind = perf_kind()?;
        let config = u64::from(on_return) << kind.return_bit;
        let mut held = Vec::new();
        for (offset, cookie) in places {
            let link =
                sys::link_perf(self.program.as_fd(), path, offset, cookie, kind.number, config);
            held.extend(link.map_err(|error| refused(&error))?);
        }
        Ok(held)
    }
}

impl Attached {
    /// With those of `more`.
    pub fn and(mut self, more: Attached) -> Attached {
        self.0.extend(more.0);
        self
    }
}

/// Kernels since July 2025 let nobody else make a uprobe by perf_event_open (ba677dbe77af, "perf: Revert to
/// requiring CAP_SYS_ADMIN for uprobes": 6.16, 6.12.39, 6.6.99, 6.1.146, 5.15.189); CAP_PERFMON was enough from 5.8 on.
fn refused(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EACCES) => format!("{error}: this kernel lets only CAP_SYS_ADMIN do so"),
        _ => error.to_string(),
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

/// A map once more, to read it.
pub(super) fn view(ebpf: &Ebpf, name: &str) -> Option<Map> {
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
