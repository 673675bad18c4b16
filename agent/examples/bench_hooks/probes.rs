//! Attached programs, and the thread that empties their rings.

use crate::modes::{Does, Mode, PACKETS};
use crate::subjects::Subject;
use crate::{POLL, Runs};
use agent::probe::attached::Attached;
use agent::probe::control::{Maps, Verdicts};
use agent::probe::in_kernel::{InKernelMaps, Packets};
use agent::probe::load::{FlowSizes, LoadConfig, load};
use agent::probe::plan::Feature;
use agent::probe::run_time;
use agent::probe::{OBJECTS, Objects};
use agent::runtime::go::GoPrograms;
use agent::runtime::known::Known;
use agent::uprobe::knowledge::Shared;
use agent::uprobe::program::Programs;
use agent::uprobe::service::Service;
use agent_common::settings::{Settings, feature, socket_verdict};
use anyhow::{Context, Result, bail};
use aya::maps::RingBuf;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// Programs that are attached until [`Probes::detach`].
pub struct Probes {
    attached: Attached,
    verdicts: Verdicts,
    go: GoPrograms,
    libraries: Option<Service>,
    stop: Arc<AtomicBool>,
    reader: JoinHandle<()>,
    /// What userspace says of the sockets.
    verdict: Option<u32>,
    /// Programs for functions of libraries, by name.
    functions: Vec<(&'static str, OwnedFd)>,
}

impl Probes {
    /// Attaches what the mode has; captures `later_bytes` of each call.
    pub fn attach(mode: &Mode, object: &[u8], rings: u32, later_bytes: u32) -> Result<Probes> {
        let flows = mode.hooks.contains(&Feature::Flows);
        let settings = Settings {
            own_tgid: if mode.does == Does::Leaves { std::process::id() } else { 0 },
            head_bytes: 4096,
            later_bytes,
            payload_rings: rings,
            features: if flows { feature::FLOW } else { 0 },
            ..Settings::default()
        };
        let config = LoadConfig {
            wanted: mode.hooks.iter().copied().collect(),
            payload_hooks: None,
            btf: None,
            settings,
            ring_size: 8 << 20,
            process_filter_size: 1,
            tls_sockets: 1024,
            flows: flows.then_some(FlowSizes { ring: 1 << 20, datagrams: 1024, peers: 1024 }),
        };
        let mut loaded = load(Objects { typed: object, ..OBJECTS }, &config)?;
        for feature in mode.hooks {
            if !loaded.has(*feature) {
                bail!("{feature:?} cannot be attached to this kernel");
            }
        }
        let Maps { mut process_ring, mut payload_rings, verdicts, go, .. } =
            Maps::take(&mut loaded.ebpf, rings)?;
        let mut flow_ring = RingBuf::try_from(loaded.ebpf.take_map("FLOW_RING").context("a map")?)?;
        let (mut packets, _, _) = Packets::new(InKernelMaps::take(&mut loaded.ebpf)?);
        let (libraries, round_trip) = (loaded.libraries.take(), loaded.round_trip.take());
        let functions = libraries.as_ref().map(Programs::descriptors).unwrap_or_default();
        let attached = Attached::new(loaded);
        if mode.name == PACKETS {
            let done = attached.with(|ebpf| packets.attach(ebpf)).context("detached")?;
            done.map_err(anyhow::Error::msg)?;
        }
        let libraries =
            libraries.map(|programs| Service::start(Some(programs), None, Shared::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let reader = std::thread::spawn(move || {
            while !stopped.load(Ordering::Acquire) {
                for ring in &mut payload_rings {
                    while ring.next().is_some() {}
                }
                while process_ring.next().is_some() {}
                while flow_ring.next().is_some() {}
                std::thread::sleep(POLL);
            }
        });
        Ok(Probes {
            go: GoPrograms::new(go, round_trip, Known::default()),
            attached,
            verdicts,
            libraries: libraries.transpose()?,
            stop,
            reader,
            verdict: match mode.does {
                Does::Mutes => Some(socket_verdict::MUTE),
                Does::MutesCiphertext => Some(socket_verdict::TLS),
                Does::Leaves | Does::Captures => None,
            },
            functions,
        })
    }

    /// What the agent would do once it knows the subjects.
    pub fn learn(&mut self, subjects: &[Subject]) -> Result<()> {
        for subject in subjects {
            if let Some(pid) = subject.program {
                self.go.started(pid);
            }
            for (cookie, verdict) in subject.cookies.iter().zip(self.verdict.iter().cycle()) {
                self.verdicts.set(*cookie, *verdict)?;
            }
        }
        Ok(())
    }

    /// Detaches; what the kernel says of the programs' time is added to `runs`.
    pub fn detach(self, runs: &mut Runs) -> Result<()> {
        self.attached.with(|ebpf| {
            for (name, program) in ebpf.programs() {
                // Not every program was loaded.
                let Ok(info) = program.info() else { continue };
                let sum = runs.entry(name.to_owned()).or_default();
                sum.0 += info.run_count();
                sum.1 += info.run_time();
            }
        });
        for (name, fd) in &self.functions {
            let (count, time) = run_time::of(fd.as_fd()).context("a program's run time")?;
            let sum = runs.entry((*name).to_owned()).or_default();
            sum.0 += count;
            sum.1 += time;
        }
        if let Some(libraries) = self.libraries {
            libraries.stop();
        }
        self.attached.detach();
        self.stop.store(true, Ordering::Release);
        match self.reader.join() {
            Ok(()) => Ok(()),
            Err(_) => bail!("the reader of the rings panicked"),
        }
    }
}
