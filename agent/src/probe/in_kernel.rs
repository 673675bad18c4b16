//! Bytes that no registers explain: pages that the kernel sends (sendfile, splice, registered buffers),
//! and packets that io_uring receives.
//!
//! These features are not attached with the others. Where pages lie is found out once, by a test. The
//! program that looks at each received packet taxes them all, so it is loaded at the start and attached
//! only while a process has use for it: [`Packets`].

use super::{
    attach::kernel_word,
    control::{MapFault, typed},
    load::{FeatureReport, beside},
    offsets, page_test,
    plan::{Feature, Side},
    running::Running,
};
use agent_common::settings::{InKernelUser, Offsets, Settings, feature, packets_state};
use aya::{
    Btf as AyaBtf, Ebpf,
    maps::{Array, HashMap, MapData, MapError, RingBuf},
    programs::{BtfTracePoint, tp_btf::BtfTracePointLinkId},
};
use std::collections::HashSet;

/// Programs that are attached later than others, or for a moment.
pub const LATER: [&str; 4] =
    [PACKET_PROGRAM, RING_PROGRAM, page_test::TRACEPOINT, page_test::FENTRY];

const PACKET_PROGRAM: &str = "packet_tracepoint";
const PACKET_HOOK: &str = "skb_copy_datagram_iovec";
const RING_PROGRAM: &str = "ring_tracepoint";
const RING_HOOK: &str = "io_uring_create";

/// Threads that may be inside a receive of packets at once; each has 8 KiB.
const THREADS: u32 = 64;

/// Settings that depend on the kernel; `known` are those found so far.
pub fn bits(
    running: &Running,
    side: Side,
    offsets: &Offsets,
    known: u32,
    wanted: &HashSet<Feature>,
) -> u32 {
    let btf = &running.btf;
    if !wanted.contains(&Feature::Payload) {
        return 0;
    }
    let mut bits = 0;
    let typed = side == Side::Typed;
    let sources = typed && known & feature::SEND_SOURCE != 0 && offsets::knows_iterator(offsets);
    // Before 6.5 pages that are sent have a way of their own (`sendpage`).
    let sources = sources && btf.has_function("splice_to_socket");
    if sources && offsets::knows_pages(offsets) {
        bits |= feature::PAGES;
    }
    let shown = btf.has_tracepoint(PACKET_HOOK) && btf.has_tracepoint(RING_HOOK);
    if typed && known & feature::CAST != 0 && shown && offsets::knows_packets(offsets) {
        bits |= feature::PACKETS;
    }
    if btf.structure("compat_msghdr").is_some() {
        bits |= feature::COMPAT;
    }
    bits
}

/// Entries of the map of receives in progress.
pub fn threads(settings: &Settings) -> u32 {
    if settings.features & feature::PACKETS == 0 { 1 } else { THREADS }
}

/// Finds out where pages lie, and loads what [`Packets`] attaches. One report a feature; none when
/// payload is not wanted.
pub fn prepare(
    ebpf: &mut Ebpf,
    running: &Running,
    side: Side,
    settings: &Settings,
) -> Vec<FeatureReport> {
    if settings.head_bytes == 0 {
        return Vec::new();
    }
    let types = running.typed.as_ref();
    let untyped = || (side == Side::Untyped).then(|| Err(beside(side).to_owned()));
    let pages = match types.filter(|_| settings.features & feature::PAGES != 0) {
        None => untyped().unwrap_or_else(|| {
            Err("it needs tcp_sendmsg_locked with types, and sends of pages that go through it \
                     (Linux 6.5)"
                .into())
        }),
        Some(types) => page_test::run(ebpf, types, &running.btf),
    };
    let packets = match types.filter(|_| settings.features & feature::PACKETS != 0) {
        None => untyped().unwrap_or_else(|| {
            Err("it needs bpf_rdonly_cast (Linux 6.2), programs with types, and the tracepoints \
                     skb_copy_datagram_iovec and io_uring_create"
                .into())
        }),
        Some(types) => load_packets(ebpf, types),
    };
    vec![
        report(
            Feature::Pages,
            "sent pages",
            "bytes of sendfile, splice and registered buffers are counted, not read",
            pages,
        ),
        report(
            Feature::Packets,
            "received packets",
            "bytes that io_uring receives are counted, not read",
            packets,
        ),
    ]
}

fn report(
    feature: Feature,
    name: &'static str,
    without: &'static str,
    outcome: Result<(Vec<String>, String), String>,
) -> FeatureReport {
    let (hooks, why) = outcome.unwrap_or_else(|reason| (Vec::new(), reason));
    FeatureReport { feature, name, without, hooks, why }
}

fn load_packets(ebpf: &mut Ebpf, btf: &AyaBtf) -> Result<(Vec<String>, String), String> {
    let load = |program: &mut BtfTracePoint, hook: &str| {
        program
            .load(hook, btf)
            .map_err(|error| format!("{hook} was refused: {}", kernel_word(&error)))
    };
    load(tracepoint(ebpf, PACKET_PROGRAM)?, PACKET_HOOK)?;
    let rings = tracepoint(ebpf, RING_PROGRAM)?;
    load(rings, RING_HOOK)?;
    rings.attach().map_err(|error| format!("{RING_HOOK} was refused: {}", kernel_word(&error)))?;
    let hooks = vec![format!("tracepoint:{RING_HOOK}"), format!("tracepoint:{PACKET_HOOK}")];
    Ok((hooks, "the second only while a process receives by io_uring".to_owned()))
}

/// A program of the object as a tracepoint.
fn tracepoint<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut BtfTracePoint, String> {
    let missing = || format!("the kernel object has no program {name}");
    let program = ebpf.program_mut(name).ok_or_else(missing)?;
    program.try_into().map_err(|error: aya::programs::ProgramError| error.to_string())
}

/// Maps of these features.
pub struct InKernelMaps {
    /// Numbers of processes that may need packets; wakes its reader.
    pub notices: RingBuf<MapData>,
    /// Who had calls that no registers explain.
    pub users: InKernelUsers,
    state: Array<MapData, u32>,
}

impl InKernelMaps {
    /// Takes them out of the object.
    ///
    /// # Errors
    /// [`MapFault`] when object and userspace do not fit.
    pub fn take(ebpf: &mut Ebpf) -> Result<InKernelMaps, MapFault> {
        Ok(InKernelMaps {
            notices: typed(ebpf, "NOTICES")?,
            users: InKernelUsers(typed(ebpf, "IN_KERNEL_USERS")?),
            state: typed(ebpf, "PACKETS_STATE")?,
        })
    }
}

/// Processes of which calls moved bytes that their registers do not explain.
pub struct InKernelUsers(HashMap<MapData, u32, [u64; 4]>);

impl InKernelUsers {
    /// Each with what was counted; a process that ended may still be among them.
    pub fn read(&self) -> Vec<(u32, InKernelUser)> {
        self.0
            .iter()
            .filter_map(|entry| entry.ok().map(|(tgid, value)| (tgid, user(value))))
            .collect()
    }
}

fn user([start_ns, packet_calls, unreachable_calls, unreachable_bytes]: [u64; 4]) -> InKernelUser {
    InKernelUser { start_ns, packet_calls, unreachable_calls, unreachable_bytes }
}

/// The program that takes bytes from packets, attached and detached.
pub struct Packets {
    state: Array<MapData, u32>,
    link: Option<BtfTracePointLinkId>,
}

impl Packets {
    /// Not attached.
    pub fn new(maps: InKernelMaps) -> (Packets, RingBuf<MapData>, InKernelUsers) {
        (Packets { state: maps.state, link: None }, maps.notices, maps.users)
    }

    /// It is attached.
    pub fn is_attached(&self) -> bool {
        self.link.is_some()
    }

    /// Attaches it, if it is not.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn attach(&mut self, ebpf: &mut Ebpf) -> Result<(), String> {
        if self.link.is_none() {
            let link = tracepoint(ebpf, PACKET_PROGRAM)?.attach();
            self.link = Some(link.map_err(|error| kernel_word(&error))?);
        }
        self.set(packets_state::ATTACHED).map_err(|error| error.to_string())
    }

    /// Detaches it, if it is attached.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn detach(&mut self, ebpf: &mut Ebpf) -> Result<(), String> {
        let Some(link) = self.link.take() else { return Ok(()) };
        // First, so that the next receive that needs it asks.
        self.set(packets_state::DETACHED).map_err(|error| error.to_string())?;
        tracepoint(ebpf, PACKET_PROGRAM)?.detach(link).map_err(|error| kernel_word(&error))
    }

    fn set(&mut self, state: u32) -> Result<(), MapError> {
        self.state.set(0, state, 0)
    }
}
