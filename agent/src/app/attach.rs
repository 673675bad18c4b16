//! From the settings to programs that are loaded and attached.

use super::live::operator;
use super::memory::Memory;
use super::rings::Rings;
use crate::cli::Failure;
use crate::config::{Capture, Hooks, Probe, Settings};
use crate::flow::datagrams::DatagramMap;
use crate::probe::load::{LoadConfig, Loaded, load};
use crate::probe::plan::Feature;
use agent_common::settings::{MAX_CAPTURE, Settings as KernelSettings, feature};
use aya::maps::{MapData, RingBuf};

/// Bytes captured of each later call of a turn.
const LATER_BYTES: u32 = 256;

/// Processes that a filter may name.
const SELECTED_PROCESSES: u32 = 32_768;

/// Loads and attaches what the settings ask for, and says what is missing.
///
/// # Errors
/// The operator's: nothing can be observed here, or the cgroup does not exist.
pub fn attach(settings: &Settings, rings: Rings, flows: bool) -> Result<Loaded, Failure> {
    let mut wanted = vec![Feature::Processes];
    if settings.probes.contains(&Probe::Http) {
        wanted.extend([
            Feature::Payload,
            Feature::ConnectionState,
            Feature::Arrival,
            Feature::SendTime,
        ]);
        if settings.probes.contains(&Probe::Tls) {
            wanted.push(Feature::Tls);
        }
    }
    let mut kernel = kernel_settings(settings);
    if flows {
        wanted.extend([Feature::Flows, Feature::FlowPeers, Feature::FlowList]);
        if !settings.probes.contains(&Probe::Http) {
            wanted.push(Feature::FlowCalls);
        }
        kernel.features |= feature::FLOW;
        kernel.features |= if settings.flows.dns { feature::FLOW_DNS } else { 0 };
    }
    let config = LoadConfig {
        wanted: wanted.into_iter().collect(),
        payload_hooks: match settings.hooks {
            Hooks::Auto => None,
            only => Some(only.name().to_owned()),
        },
        btf: settings.btf.clone(),
        settings: KernelSettings {
            payload_rings: rings.count,
            ring_limit: rings.bytes / 4 * 3,
            ring_span: rings.bytes / 8,
            ..kernel
        },
        ring_size: rings.bytes,
        process_filter_size: if filters_processes(settings) { SELECTED_PROCESSES } else { 1 },
        tls_sockets: Memory::of(settings).tls_sockets(),
        flows: flows.then(|| super::flows::sizes(settings.flows.table)),
    };
    let mut loaded = load(crate::probe::OBJECTS, &config).map_err(operator)?;
    if let Some(cgroup) = &settings.selection.cgroup {
        crate::probe::control::select_cgroup(&mut loaded.ebpf, cgroup).map_err(operator)?;
    }
    for feature in &loaded.features {
        if feature.is_active() {
            tracing::info!("{}: {} ({})", feature.name, feature.hooks.join(", "), feature.why);
        } else if config.wanted.contains(&feature.feature) {
            tracing::warn!("{} is missing, so {}: {}", feature.name, feature.without, feature.why);
        }
    }
    Ok(loaded)
}

fn filters_processes(settings: &Settings) -> bool {
    !settings.selection.executables.is_everything() || !settings.selection.pids.is_empty()
}

fn kernel_settings(settings: &Settings) -> KernelSettings {
    let selection = &settings.selection;
    let mut kernel = KernelSettings {
        own_tgid: std::process::id(),
        head_bytes: settings.head_bytes,
        later_bytes: LATER_BYTES.min(settings.head_bytes),
        ..KernelSettings::default()
    };
    if settings.capture == Capture::Full {
        (kernel.head_bytes, kernel.later_bytes) = (MAX_CAPTURE, MAX_CAPTURE);
    }
    if filters_processes(settings) {
        kernel.features |= feature::PROCESS_FILTER;
        if selection.pids.is_empty() {
            kernel.features |= feature::EXECUTABLE_FILTER;
        } else if !selection.executables.is_everything() {
            kernel.features |= feature::FAMILY_FILTER;
        }
        if !selection.executables.include.is_empty() || !selection.pids.is_empty() {
            kernel.features |= feature::PROCESS_ALLOW_LIST;
        }
    }
    if !selection.ports.is_empty() {
        kernel.features |= feature::PORT_FILTER;
        for (slot, port) in kernel.ports.iter_mut().zip(&selection.ports) {
            *slot = *port;
            kernel.port_count += 1;
        }
    }
    if selection.cgroup.is_some() {
        kernel.features |= feature::CGROUP_FILTER;
    }
    kernel.features |= feature::SHEDDING;
    if settings.max_cpu.is_some() {
        kernel.features |= feature::CPU_BUDGET;
    }
    if let Some(rate) = settings.max_request_rate {
        kernel.features |= feature::PROCESS_RATE;
        kernel.process_rate = rate;
    }
    kernel
}

/// Ring and map of conversations, where their programs are attached.
pub fn flow_maps(loaded: &mut Loaded) -> Result<Option<(RingBuf<MapData>, DatagramMap)>, Failure> {
    let wanted = [Feature::Flows, Feature::FlowCalls, Feature::FlowPeers, Feature::FlowList];
    if !wanted.into_iter().any(|feature| loaded.has(feature)) {
        return Ok(None);
    }
    let missing = || anyhow::anyhow!("the kernel object has no map FLOW_RING");
    let ring = loaded.ebpf.take_map("FLOW_RING").ok_or_else(missing)?;
    let ring = RingBuf::try_from(ring).map_err(anyhow::Error::new)?;
    let datagrams = DatagramMap::take(&mut loaded.ebpf).map_err(anyhow::Error::new)?;
    Ok(Some((ring, datagrams)))
}
