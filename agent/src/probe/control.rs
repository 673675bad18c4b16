//! What is said to the running programs (verdicts, selected processes), and what they counted.

use agent_common::counter;
use agent_common::runtime::{GoProcess, Publisher};
use agent_common::settings::{MAX_PAYLOAD_RINGS, process_generation};
use aya::{
    Ebpf,
    maps::{Array, CgroupArray, HashMap, Map, MapData, MapError, PerCpuArray, RingBuf},
};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Flag of a map update (include/uapi/linux/bpf.h): only where there is no such key.
const BPF_NOEXIST: u64 = 1;

/// Why a map of the object cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("map {name} of the kernel object: {reason}")]
pub struct MapFault {
    /// Name of the map.
    pub name: &'static str,
    /// Kernel's or aya's word.
    pub reason: String,
}

/// Names of the payload rings' maps: number 1 first.
pub const PAYLOAD_RINGS: [&str; MAX_PAYLOAD_RINGS as usize] =
    ["PAYLOAD_RING_1", "PAYLOAD_RING_2", "PAYLOAD_RING_3", "PAYLOAD_RING_4"];

/// Verdicts on sockets, for all payload rings: a socket looks for its own when the generation has
/// changed, so two of them must never be handed over under one number.
#[derive(Clone)]
pub struct Verdicts(Arc<Mutex<VerdictMaps>>);

struct VerdictMaps {
    by_cookie: HashMap<MapData, u64, u32>,
    generation: Array<MapData, u32>,
    next: u32,
}

impl Verdicts {
    /// Hands one verdict ([`agent_common::settings::socket_verdict`]) to the kernel side.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn set(&self, cookie: u64, verdict: u32) -> Result<(), MapError> {
        let mut maps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        maps.by_cookie.insert(cookie, verdict, 0)?;
        maps.next = maps.next.wrapping_add(1);
        let next = maps.next;
        maps.generation.set(0, next, 0)
    }
}

/// Has the kernel side wake the reader of a payload ring, which else polls.
#[derive(Clone)]
pub struct Alarm(Arc<Mutex<Array<MapData, u32>>>);

impl Alarm {
    /// From now on the reader of ring `number` (from 1) is woken by each record, or no longer.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn set(&self, number: u32, wakes: bool) -> Result<(), MapError> {
        let mut sleepers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sleepers.set(number.saturating_sub(1), u32::from(wakes), 0)
    }
}

/// Counters of the kernel side.
pub struct Counters(PerCpuArray<MapData, [u64; counter::COUNT as usize]>);

impl Counters {
    /// All counters, summed over CPUs, by [`agent_common::counter`] index.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn read(&self) -> Result<[u64; counter::COUNT as usize], MapError> {
        let mut sums = [0; counter::COUNT as usize];
        for bank in self.0.get(&0, 0)?.iter() {
            for (sum, count) in sums.iter_mut().zip(bank) {
                *sum += count;
            }
        }
        Ok(sums)
    }
}

impl Counters {
    /// One counter, by CPU.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn per_cpu(&self, index: u32) -> Result<Vec<u64>, MapError> {
        let one = |bank: &[u64; counter::COUNT as usize]| bank.get(index as usize).copied();
        Ok(self.0.get(&0, 0)?.iter().filter_map(one).collect())
    }
}

/// The process selection.
pub struct Selection {
    processes: HashMap<MapData, u32, u8>,
    generation: Array<MapData, u64>,
    changes: u64,
}

impl Selection {
    /// Sets the verdict on a process ([`agent_common::settings::process_verdict`]).
    ///
    /// # Errors
    /// The kernel's refusal, for example when the map is full.
    pub fn set(&mut self, tgid: u32, verdict: u8) -> Result<(), MapError> {
        self.processes.insert(tgid, verdict, 0)?;
        self.raise_generation()
    }

    /// Sets the verdict on a process that has none. One that has is no error.
    pub fn set_new(&mut self, tgid: u32, verdict: u8) {
        if self.processes.insert(tgid, verdict, BPF_NOEXIST).is_ok() {
            let _ = self.raise_generation();
        }
    }

    /// Forgets a process. One that is not there is no error.
    pub fn remove(&mut self, tgid: u32) {
        if self.processes.remove(&tgid).is_ok() {
            let _ = self.raise_generation();
        }
    }

    /// After each change: what the kernel side found out before holds no longer.
    fn raise_generation(&mut self) -> Result<(), MapError> {
        self.changes += 1;
        self.generation.set(process_generation::USER, self.changes, 0)
    }
}

/// Tells the kernel side what it may spend.
pub struct Purse(Array<MapData, u32>);

impl Purse {
    /// From now on so many of 2^32 requests are shed where they begin.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn shed(&mut self, shed: u32) -> Result<(), MapError> {
        self.0.set(0, shed, 0)
    }
}

/// How often a program was entered whose runtime can be read: until the first, nobody asks.
#[derive(Clone)]
struct Entered(Arc<Mutex<(Array<MapData, u32>, u32)>>);

impl Entered {
    fn one_more(&self) -> Result<(), MapError> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // 0 says that there is none.
        known.1 = known.1.wrapping_add(1).max(1);
        let changes = known.1;
        known.0.set(0, changes, 0)
    }
}

/// Programs in Go, as the kernel side knows them.
pub struct GoMaps {
    processes: HashMap<MapData, u32, [u8; size_of::<GoProcess>()]>,
    entered: Entered,
}

impl GoMaps {
    /// From now on the kernel side reads goroutines of process `tgid`.
    ///
    /// # Errors
    /// The kernel's refusal, for example when the map is full.
    pub fn set(&mut self, tgid: u32, process: &GoProcess) -> Result<(), MapError> {
        let value: [u8; size_of::<GoProcess>()] = zerocopy::transmute!(*process);
        self.processes.insert(tgid, value, 0)?;
        self.entered.one_more()
    }

    /// Forgets a process. One that is not there is no error.
    pub fn remove(&mut self, tgid: u32) {
        let _ = self.processes.remove(&tgid);
    }
}

/// Processes that publish trace contexts by thread, as the kernel side knows them. It forgets those that
/// end, or run something else, and adds those that they fork.
pub struct PublisherMap {
    processes: HashMap<MapData, u32, [u8; size_of::<Publisher>()]>,
    entered: Entered,
}

impl PublisherMap {
    /// From now on the kernel side reads what threads of process `tgid` publish.
    ///
    /// # Errors
    /// The kernel's refusal, for example when the map is full.
    pub fn set(&mut self, tgid: u32, publisher: &Publisher) -> Result<(), MapError> {
        let value: [u8; size_of::<Publisher>()] = zerocopy::transmute!(*publisher);
        self.processes.insert(tgid, value, 0)?;
        self.entered.one_more()
    }

    /// Forgets a process. One that is not there is no error.
    pub fn remove(&mut self, tgid: u32) {
        let _ = self.processes.remove(&tgid);
    }
}

/// Maps that userspace works with, taken out of the object.
pub struct Maps {
    /// Processes and security events.
    pub process_ring: RingBuf<MapData>,
    /// Payload, those in use: ring 1 first.
    pub payload_rings: Vec<RingBuf<MapData>>,
    /// Verdicts.
    pub verdicts: Verdicts,
    /// Wakes readers of payload rings.
    pub alarm: Alarm,
    /// Counters.
    pub counters: Counters,
    /// Process selection.
    pub selection: Selection,
    /// The CPU budget's share.
    pub purse: Purse,
    /// Programs in Go.
    pub go: GoMaps,
    /// Programs that publish trace contexts.
    pub publishers: PublisherMap,
}

impl Maps {
    /// Takes the maps out of a loaded object that uses so many payload rings.
    ///
    /// # Errors
    /// [`MapFault`] when object and userspace do not fit.
    pub fn take(ebpf: &mut Ebpf, payload_rings: u32) -> Result<Maps, MapFault> {
        let entered = Entered(Arc::new(Mutex::new((typed(ebpf, "GO_GENERATION")?, 0))));
        let in_use = PAYLOAD_RINGS.iter().zip(0..payload_rings.max(1));
        Ok(Maps {
            process_ring: typed(ebpf, "PROCESS_RING")?,
            payload_rings: in_use.map(|(name, _)| typed(ebpf, name)).collect::<Result<_, _>>()?,
            verdicts: Verdicts(Arc::new(Mutex::new(VerdictMaps {
                by_cookie: typed(ebpf, "VERDICTS")?,
                generation: typed(ebpf, "VERDICT_GENERATION")?,
                next: 0,
            }))),
            alarm: Alarm(Arc::new(Mutex::new(typed(ebpf, "SLEEPERS")?))),
            counters: Counters(typed(ebpf, "COUNTERS")?),
            selection: Selection {
                processes: typed(ebpf, "PROCESSES")?,
                generation: typed(ebpf, "PROCESS_GENERATION")?,
                changes: 0,
            },
            purse: Purse(typed(ebpf, "BUDGET")?),
            go: GoMaps { processes: typed(ebpf, "GO_PROCESSES")?, entered: entered.clone() },
            publishers: PublisherMap { processes: typed(ebpf, "PUBLISHERS")?, entered },
        })
    }
}

pub(super) fn typed<T: TryFrom<Map, Error = MapError>>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<T, MapFault> {
    let map = ebpf
        .take_map(name)
        .ok_or_else(|| MapFault { name, reason: "it is not there".to_owned() })?;
    T::try_from(map).map_err(|error| MapFault { name, reason: error.to_string() })
}

/// Restricts the kernel side to tasks under a cgroup v2 directory.
///
/// # Errors
/// A sentence that names the directory.
pub fn select_cgroup(ebpf: &mut Ebpf, path: &Path) -> Result<(), String> {
    let refused = |error: &dyn std::fmt::Display| {
        format!("the cgroup {} cannot be selected: {error}", path.display())
    };
    let directory = std::fs::File::open(path).map_err(|error| refused(&error))?;
    let map =
        ebpf.map_mut("CGROUP").ok_or_else(|| refused(&"the kernel object has no such map"))?;
    let mut map = CgroupArray::try_from(map).map_err(|error| refused(&error))?;
    map.set(0, directory, 0).map_err(|error| refused(&error))
}
