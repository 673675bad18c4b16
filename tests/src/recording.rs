//! A recording as the scenarios read it: records by kind, sequence numbers, gaps.

use crate::streams::Piece;
use agent_common::counter;
use agent_common::record::{Header, direction, flag};
use agent_core::event::{Event, decode};
use agent_core::recording::{Item, Reader};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use zerocopy::IntoBytes;

/// The ring of processes; those after it carry payload.
const PROCESS_RING: u8 = 0;

/// Numbers of records, by ring and CPU.
pub type Sequences = BTreeMap<(u8, u16), BTreeSet<u64>>;

/// All records of a recording, as they lay in the rings.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    /// Whole words, so that records are aligned.
    words: Vec<u64>,
    /// Ring, first word and bytes of each record.
    records: Vec<(u8, usize, usize)>,
    /// How many records each CPU tried to write to a payload ring, where the recording says so.
    tried: BTreeMap<(u8, u16), u64>,
    /// What the kernel side counted, where the recording says so.
    counters: Vec<u64>,
}

/// One payload ring's account, from the kernel's counters and from its records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingCounts {
    /// From 1.
    pub ring: u8,
    /// Records tried, by the kernel's counter.
    pub tried: u64,
    /// Records lost, by the kernel's counter.
    pub lost: u64,
    /// Records that came out.
    pub decoded: u64,
    /// Records that a sequence number is missing for.
    pub missing: u64,
}

/// What is known of one socket from its records.
#[derive(Clone, Debug, Default)]
struct Socket {
    ports: Option<(u16, u16)>,
    /// Ranges seen, and points that records name, by direction (sent, received).
    ranges: [Vec<(u64, u64)>; 2],
    points: [Vec<u64>; 2],
    closed: bool,
}

impl Recording {
    /// Reads a file of `kernspan record`.
    ///
    /// # Panics
    /// When it cannot be read to its end, or is damaged.
    pub fn load(path: &Path) -> Recording {
        let name = path.display();
        let file = File::open(path).unwrap_or_else(|error| panic!("{name}: {error}"));
        let (mut reader, _) =
            Reader::new(BufReader::new(file)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut recording = Recording::default();
        while let Some(item) = reader.item().unwrap_or_else(|error| panic!("{name}: {error}")) {
            match item {
                Item::Record { ring, bytes } => recording.push(ring, bytes),
                Item::Settle { ring, cpu, next } if ring != PROCESS_RING => {
                    recording.tried.insert((ring, cpu), next);
                }
                Item::Counters(counters) => recording.counters = counters,
                _ => {}
            }
        }
        recording
    }

    fn push(&mut self, ring: u8, record: &[u8]) {
        let (start, len) = (self.words.len(), record.len());
        self.words.resize(start + len.div_ceil(8), 0);
        self.words[start..].as_mut_bytes()[..len].copy_from_slice(record);
        self.records.push((ring, start, len));
    }

    fn events(&self) -> impl Iterator<Item = Event<'_>> {
        self.by_ring().map(|(_, event)| event)
    }

    fn by_ring(&self) -> impl Iterator<Item = (u8, Event<'_>)> {
        self.records.iter().map(|(ring, start, len)| {
            match decode(&self.words[*start..].as_bytes()[..*len]) {
                Ok(event) => (*ring, event),
                Err(error) => panic!("a record of the recording: {error}"),
            }
        })
    }

    /// Records that the kernel side tried to write to the payload rings, as told at the end.
    pub fn payload_tried(&self) -> u64 {
        self.tried.values().sum()
    }

    /// Records of the payload rings that a number is missing for.
    pub fn payload_missing(&self) -> u64 {
        let seen = self.payload_sequences();
        let places: BTreeSet<_> = seen.keys().chain(self.tried.keys()).copied().collect();
        places.into_iter().map(|place| self.missing_at(&seen, place)).sum()
    }

    fn missing_at(&self, seen: &Sequences, place: (u8, u16)) -> u64 {
        let numbers = seen.get(&place);
        let last = numbers.and_then(|numbers| numbers.last().copied()).map_or(0, |n| n + 1);
        let next = self.tried.get(&place).copied().unwrap_or(0).max(last);
        next - numbers.map_or(0, |numbers| numbers.len() as u64)
    }

    /// Each payload ring that the recording knows, by itself.
    pub fn payload_rings(&self) -> Vec<RingCounts> {
        let seen = self.payload_sequences();
        let mut rings: BTreeMap<u8, RingCounts> = BTreeMap::new();
        for place in seen.keys().chain(self.tried.keys()).copied().collect::<BTreeSet<_>>() {
            let ring = rings.entry(place.0).or_default();
            ring.decoded += seen.get(&place).map_or(0, |numbers| numbers.len() as u64);
            ring.missing += self.missing_at(&seen, place);
        }
        let counter = |index: u32| self.counters.get(index as usize).copied().unwrap_or(0);
        let complete = rings.into_iter().map(|(ring, counts)| RingCounts {
            ring,
            tried: counter(counter::tried(ring.into())),
            lost: counter(counter::lost(ring.into())),
            ..counts
        });
        complete.collect()
    }

    /// Payload records of the sockets' own bytes.
    pub fn pieces(&self) -> Vec<Piece> {
        self.pieces_of(false)
    }

    /// Payload records of TLS libraries' plaintext.
    pub fn plaintext(&self) -> Vec<Piece> {
        self.pieces_of(true)
    }

    fn pieces_of(&self, plaintext: bool) -> Vec<Piece> {
        let wanted = |header: &Header| (header.flags & flag::PLAINTEXT != 0) == plaintext;
        let payloads = self.events().filter_map(|event| match event {
            Event::Payload(payload, bytes) if wanted(&payload.header) => Some(Piece {
                cookie: payload.cookie,
                sent: payload.header.direction == direction::SEND,
                position: payload.position,
                len: payload.header.total_len.into(),
                bytes: bytes.to_vec(),
            }),
            _ => None,
        });
        payloads.collect()
    }

    /// Sequence numbers on the payload rings, by ring and CPU.
    pub fn payload_sequences(&self) -> Sequences {
        let mut seen = Sequences::new();
        for (ring, event) in self.by_ring().filter(|(ring, _)| *ring != PROCESS_RING) {
            let (cpu, number) = (event.header().cpu, event.header().seq);
            let fresh = seen.entry((ring, cpu)).or_default().insert(number);
            assert!(fresh, "ring {ring}: sequence number {number} of CPU {cpu} twice");
        }
        seen
    }

    /// The ring of each socket; one whose records lie in several is named twice.
    pub fn rings_of_sockets(&self) -> BTreeSet<(u64, u8)> {
        let sockets = self.by_ring().filter_map(|(ring, event)| match event {
            Event::Connection(record, _) => Some((record.cookie, ring)),
            Event::Payload(record, _) => Some((record.cookie, ring)),
            Event::Closing(record) => Some((record.cookie, ring)),
            _ => None,
        });
        sockets.collect()
    }

    /// Ports `remote` of the sockets with the local port `local` whose records have a hole: bytes
    /// that no record has, but that a later record, or the closing one, counts.
    pub fn ports_with_gaps(&self, local: u16) -> BTreeSet<u16> {
        let mut sockets: BTreeMap<u64, Socket> = BTreeMap::new();
        self.events().for_each(|event| note(&mut sockets, &event));
        let holed = sockets.values().filter(|socket| socket.has_gap());
        holed
            .filter_map(|s| s.ports.filter(|ports| ports.0 == local).map(|ports| ports.1))
            .collect()
    }

    /// Ports `remote` of all sockets with the local port `local` that have a record of their own.
    pub fn known_ports(&self, local: u16) -> BTreeSet<u16> {
        let connections = self.events().filter_map(|event| match event {
            Event::Connection(c, _) if c.local_port == local => Some(c.remote_port),
            _ => None,
        });
        connections.collect()
    }
}

fn note(sockets: &mut BTreeMap<u64, Socket>, event: &Event<'_>) {
    match event {
        Event::Connection(c, _) => {
            let socket = sockets.entry(c.cookie).or_default();
            socket.ports = Some((c.local_port, c.remote_port));
            socket.points[0].push(c.send_position);
            socket.points[1].push(c.receive_position);
        }
        Event::Payload(p, _) => {
            let socket = sockets.entry(p.cookie).or_default();
            let own = usize::from(p.header.direction != direction::SEND);
            socket.ranges[own].push((p.position, p.position + u64::from(p.header.total_len)));
            socket.points[1 - own].push(p.opposite);
        }
        Event::Closing(c) => {
            let socket = sockets.entry(c.cookie).or_default();
            socket.points[0].push(c.send_position);
            socket.points[1].push(c.receive_position);
            socket.closed |= c.header.flags & flag::CLOSED != 0;
        }
        _ => {}
    }
}

impl Socket {
    /// Without its closing record a socket's end is unknown: that is a hole too.
    fn has_gap(&self) -> bool {
        !self.closed || (0..2).any(|way| hole(&self.ranges[way], &self.points[way]))
    }
}

/// True when the ranges leave out bytes between the first and the last position that is named.
/// One byte is forgiven at the end: a FIN takes a sequence number.
fn hole(ranges: &[(u64, u64)], points: &[u64]) -> bool {
    let mut ranges = ranges.to_vec();
    ranges.sort_unstable();
    let first = points.iter().chain(ranges.iter().map(|(from, _)| from)).min().copied();
    let last = points.iter().chain(ranges.iter().map(|(_, to)| to)).max().copied();
    let mut next = first.unwrap_or(0);
    for (from, to) in ranges {
        if from > next {
            return true;
        }
        next = next.max(to);
    }
    last.unwrap_or(0) > next + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_common::record::{Closing, Connection, Header, Payload, VERSION, kind};

    fn recording(records: &[Vec<u8>]) -> Recording {
        let mut recording = Recording::default();
        records.iter().for_each(|record| recording.push(1, record));
        recording
    }

    fn header(kind: u8, seq: u64) -> Header {
        Header { version: VERSION, kind, seq, ..Header::default() }
    }

    fn opened() -> Vec<u8> {
        let header = header(kind::CONNECTION, 0);
        let ports = Connection { local_port: 80, remote_port: 4000, ..Connection::default() };
        Connection { header, cookie: 7, send_position: 100, ..ports }.as_bytes().to_vec()
    }

    fn sent(seq: u64, position: u64, bytes: &[u8]) -> Vec<u8> {
        let len = u32::try_from(bytes.len()).unwrap();
        let header = Header { total_len: len, captured_len: len, ..header(kind::PAYLOAD, seq) };
        let payload = Payload { header, cookie: 7, position, ..Payload::default() };
        [payload.as_bytes(), bytes].concat()
    }

    fn closed(seq: u64, position: u64) -> Vec<u8> {
        let header = Header { flags: flag::CLOSED, ..header(kind::CLOSING, seq) };
        let closing = Closing { header, cookie: 7, send_position: position, ..Closing::default() };
        closing.as_bytes().to_vec()
    }

    #[test]
    fn gaps_show_in_positions_and_sequence_numbers() {
        for (why, slots, gap, missing) in [
            ("whole", vec![opened(), sent(1, 100, b"abc"), closed(2, 104)], false, 0),
            (
                "hole",
                vec![opened(), sent(1, 100, b"abc"), sent(3, 110, b"d"), closed(4, 111)],
                true,
                1,
            ),
            ("lost at the begin", vec![opened(), sent(2, 103, b"abc"), closed(3, 106)], true, 1),
            ("lost at the end", vec![opened(), sent(1, 100, b"abc"), closed(3, 110)], true, 1),
            ("end unknown", vec![opened(), sent(1, 100, b"abc")], true, 0),
        ] {
            let recording = recording(&slots);
            assert_eq!(!recording.ports_with_gaps(80).is_empty(), gap, "{why}");
            assert_eq!(recording.ports_with_gaps(81), BTreeSet::new(), "{why}");
            assert_eq!(recording.payload_missing(), missing, "{why}");
        }
    }

    #[test]
    fn a_lost_last_record_is_missing_once_the_kernel_told_its_count() {
        let mut recording = recording(&[opened(), sent(1, 100, b"abc")]);
        assert_eq!(recording.payload_missing(), 0);
        recording.tried.insert((1, 0), 4);
        assert_eq!((recording.payload_missing(), recording.payload_tried()), (2, 4));
    }

    #[test]
    fn each_ring_has_numbers_and_counters_of_its_own() {
        let mut recording = recording(&[opened(), sent(1, 100, b"abc")]);
        recording.push(2, &closed(0, 104));
        recording.tried = BTreeMap::from([((1, 0), 2), ((2, 0), 3), ((2, 1), 1)]);
        recording.counters = vec![9, 9, 2, 0, 4, 3];
        let first = RingCounts { ring: 1, tried: 2, lost: 0, decoded: 2, missing: 0 };
        let second = RingCounts { ring: 2, tried: 4, lost: 3, decoded: 1, missing: 3 };
        assert_eq!(recording.payload_rings(), [first, second]);
        assert_eq!(recording.rings_of_sockets(), BTreeSet::from([(7, 1), (7, 2)]));
        assert_eq!((recording.payload_tried(), recording.payload_missing()), (6, 3));
    }

    #[test]
    fn a_written_file_is_read_back() {
        use agent_core::recording::{Preamble, Writer};
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.rec");
        let version = Preamble { record_version: VERSION, ..Preamble::default() };
        let mut writer = Writer::new(File::create(&path).unwrap(), &version).unwrap();
        for record in [opened(), sent(1, 100, b"abc")] {
            writer.item(&Item::Record { ring: 1, bytes: &record }).unwrap();
        }
        writer.item(&Item::Settle { ring: 0, cpu: 0, next: 99 }).unwrap();
        writer.item(&Item::Settle { ring: 1, cpu: 0, next: 3 }).unwrap();
        writer.finish().unwrap();
        let recording = Recording::load(&path);
        assert_eq!((recording.pieces().len(), recording.payload_missing()), (1, 1));
        assert_eq!(recording.known_ports(80), BTreeSet::from([4000]));
    }

    #[test]
    fn payload_becomes_pieces() {
        let recording = recording(&[opened(), sent(1, 100, b"abc")]);
        let piece = &recording.pieces()[0];
        assert_eq!((piece.cookie, piece.sent, piece.position, piece.len), (7, true, 100, 3));
        assert_eq!(piece.bytes, b"abc");
    }
}
