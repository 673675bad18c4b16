//! What a process uses, as metrics of OpenTelemetry's semantic conventions 1.44 (process metrics).
//!
//! | metric | instrument | unit | attributes |
//! |---|---|---|---|
//! | `process.cpu.time` | counter | s | `cpu.mode`: `user`, `system` |
//! | `process.memory.usage`, `process.memory.virtual` | up-down counter | By | |
//! | `process.disk.io` | counter | By | `disk.io.direction`: `read`, `write` |
//! | `process.thread.count` | up-down counter | {thread} | |
//! | `process.unix.file_descriptor.count` | up-down counter | {file_descriptor} | |
//! | `process.context_switches` | counter | {context_switch} | `process.context_switch.type` |
//! | `process.paging.faults` | counter | {fault} | `system.paging.fault.type` |
//! | `process.uptime` | gauge | s | |
//!
//! Whose they are says the resource: a service's numbers are the sums over its `service.name`.

use super::Resource;
use crate::event::ProcessKey;
use crate::metric::{Data, Metric, Point, Temporality};
use crate::span::{Attribute, Output, Value};

/// What a process used until one moment. What could not be read is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The process; its start to a tick.
    pub key: ProcessKey,
    /// When it was read, boot-time ns.
    pub at_ns: u64,
    /// CPU time in user mode, ns.
    pub user_ns: u64,
    /// CPU time in the kernel, ns.
    pub system_ns: u64,
    /// Physical memory, bytes.
    pub resident: u64,
    /// Address space, bytes.
    pub address_space: u64,
    /// Threads.
    pub threads: u64,
    /// Page faults that needed no disk, and those that did.
    pub faults: [u64; 2],
    /// Bytes read from and written to disks.
    pub disk: Option<[u64; 2]>,
    /// Switches that the process made, and those that it suffered.
    pub switches: Option<[u64; 2]>,
    /// Open descriptors.
    pub descriptors: Option<u64>,
}

type Labelled = [(Attribute<'static>, u64); 2];

impl Usage {
    /// Gives all numbers out. `unix_offset_ns` is Unix minus boot time.
    pub fn report(&self, resource: &Resource, unix_offset_ns: i64, out: &mut dyn Output) {
        let unix = |boot_ns: u64| boot_ns.saturating_add_signed(unix_offset_ns);
        let mut report = Report {
            start_unix_ns: unix(self.key.start_ns),
            unix_ns: unix(self.at_ns),
            resource,
            out,
        };
        report.cpu(self);
        report.memory(self);
        report.activity(self);
    }
}

struct Report<'a> {
    start_unix_ns: u64,
    unix_ns: u64,
    resource: &'a Resource,
    out: &'a mut dyn Output,
}

/// Name, one sentence, unit.
type Described = (&'static str, &'static str, &'static str);

/// Kind of a metric's points.
#[derive(Clone, Copy)]
enum Shape {
    Counter,
    Seconds,
    Level,
    Gauge,
}

impl Shape {
    fn of<'a>(self, points: &'a [Point<'a>]) -> Data<'a> {
        match self {
            Shape::Counter => Data::Counter(points),
            Shape::Seconds => Data::Seconds(points),
            Shape::Level => Data::Level(points),
            Shape::Gauge => Data::Gauge(points),
        }
    }
}

impl Report<'_> {
    fn cpu(&mut self, usage: &Usage) {
        let mode = |mode| ("cpu.mode", Value::Str(mode));
        self.pair(
            ("process.cpu.time", "CPU time, by mode.", "s"),
            [(mode("user"), usage.user_ns), (mode("system"), usage.system_ns)],
            Shape::Seconds,
        );
        let uptime = usage.at_ns.saturating_sub(usage.key.start_ns) / 1_000_000_000;
        self.one(("process.uptime", "Time since its start.", "s"), uptime, Shape::Gauge);
    }

    fn memory(&mut self, usage: &Usage) {
        let described = ("process.memory.usage", "Physical memory in use.", "By");
        self.one(described, usage.resident, Shape::Level);
        let described = ("process.memory.virtual", "Address space in use.", "By");
        self.one(described, usage.address_space, Shape::Level);
        let kind = |kind| ("system.paging.fault.type", Value::Str(kind));
        let [minor, major] = usage.faults;
        let described = ("process.paging.faults", "Page faults, by kind.", "{fault}");
        self.pair(described, [(kind("minor"), minor), (kind("major"), major)], Shape::Counter);
    }

    fn activity(&mut self, usage: &Usage) {
        self.one(("process.thread.count", "Threads.", "{thread}"), usage.threads, Shape::Level);
        if let Some([read, write]) = usage.disk {
            let way = |way| ("disk.io.direction", Value::Str(way));
            let described = ("process.disk.io", "Bytes read from and written to disks.", "By");
            self.pair(described, [(way("read"), read), (way("write"), write)], Shape::Counter);
        }
        if let Some([voluntary, involuntary]) = usage.switches {
            let kind = |kind| ("process.context_switch.type", Value::Str(kind));
            let points = [(kind("voluntary"), voluntary), (kind("involuntary"), involuntary)];
            let described =
                ("process.context_switches", "Context switches, by kind.", "{context_switch}");
            self.pair(described, points, Shape::Counter);
        }
        if let Some(count) = usage.descriptors {
            let described =
                ("process.unix.file_descriptor.count", "Open descriptors.", "{file_descriptor}");
            self.one(described, count, Shape::Level);
        }
    }

    /// Each point is a metric message of its own, as batches count them.
    fn pair(&mut self, described: Described, points: Labelled, shape: Shape) {
        for (attribute, value) in points {
            self.emit(described, &[attribute], value, shape);
        }
    }

    fn one(&mut self, described: Described, value: u64, shape: Shape) {
        self.emit(described, &[], value, shape);
    }

    fn emit(
        &mut self,
        (name, description, unit): Described,
        attributes: &[Attribute<'_>],
        value: u64,
        shape: Shape,
    ) {
        let Report { start_unix_ns, unix_ns, resource, .. } = *self;
        let points = [Point { attributes, start_unix_ns, unix_ns, value }];
        let data = shape.of(&points);
        let temporality = Temporality::Cumulative;
        self.out.metric(&Metric { name, description, unit, data, temporality, resource });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::span::{LogRecord, Span};

    /// Metric, attribute's value, number, and its start and time.
    type Seen = (String, String, u64, [u64; 2]);

    #[derive(Default)]
    struct Kept(Vec<Seen>);

    impl Output for Kept {
        fn span(&mut self, _: &Span<'_>) {}
        fn log(&mut self, _: &LogRecord<'_>) {}
        fn metric(&mut self, metric: &Metric<'_>) {
            let (Data::Counter(points)
            | Data::Gauge(points)
            | Data::Level(points)
            | Data::Seconds(points)) = metric.data
            else {
                panic!("no points in {metric:?}");
            };
            let [point] = points else { panic!("one point each: {metric:?}") };
            let label = match point.attributes {
                [(_, Value::Str(text))] => (*text).to_owned(),
                _ => String::new(),
            };
            let times = [point.start_unix_ns, point.unix_ns];
            self.0.push((metric.name.to_owned(), label, point.value, times));
        }
    }

    #[test]
    fn every_number_has_its_name_and_what_could_not_be_read_is_left_out() {
        let resource =
            Resource { id: 1, service: "shop".to_owned(), attributes: Vec::new(), part_of: None };
        let usage = Usage {
            key: ProcessKey { tgid: 7, start_ns: 1_000_000_000 },
            at_ns: 4_500_000_000,
            user_ns: 11,
            system_ns: 12,
            resident: 13,
            address_space: 14,
            threads: 15,
            faults: [16, 17],
            disk: Some([18, 19]),
            switches: Some([20, 21]),
            descriptors: Some(22),
        };
        let report = |usage: Usage| {
            let mut kept = Kept::default();
            usage.report(&resource, 100, &mut kept);
            kept.0
        };
        let seen = report(usage);
        let times = [1_000_000_100, 4_500_000_100];
        let expected = [
            ("process.cpu.time", "user", 11),
            ("process.cpu.time", "system", 12),
            ("process.uptime", "", 3),
            ("process.memory.usage", "", 13),
            ("process.memory.virtual", "", 14),
            ("process.paging.faults", "minor", 16),
            ("process.paging.faults", "major", 17),
            ("process.thread.count", "", 15),
            ("process.disk.io", "read", 18),
            ("process.disk.io", "write", 19),
            ("process.context_switches", "voluntary", 20),
            ("process.context_switches", "involuntary", 21),
            ("process.unix.file_descriptor.count", "", 22),
        ]
        .map(|(name, label, value)| (name.to_owned(), label.to_owned(), value, times));
        assert_eq!(seen, expected);
        let blind = Usage { disk: None, switches: None, descriptors: None, ..usage };
        assert_eq!(report(blind), expected[..8]);
    }
}
