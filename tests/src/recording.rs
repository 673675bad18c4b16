//! A recording as the scenarios read it: records by kind, sequence numbers, gaps.

use crate::streams::Piece;
use agent_common::record::{direction, flag};
use agent_core::event::{Event, decode};
use agent_core::recording::{Item, Reader};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use zerocopy::IntoBytes;

/// The ring of processes; those after it carry payload.
const PROCESS_RING: u8 = 0;

/// All records of a recording, as they lay in the rings.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    /// Whole words, so that records are aligned.
    words: Vec<u64>,
    /// First word and bytes of each record.
    records: Vec<(usize, usize)>,
    /// How many records each CPU tried to write to the payload ring, where the recording says so.
    tried: BTreeMap<u16, u64>,
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
                Item::Record { bytes, .. } => recording.push(bytes),
                Item::Settle { ring, cpu, next } if ring != PROCESS_RING => {
                    recording.tried.insert(cpu, next);
                }
                _ => {}
            }
        }
        recording
    }

    fn push(&mut self, record: &[u8]) {
        let (start, len) = (self.words.len(), record.len());
        self.words.resize(start + len.div_ceil(8), 0);
        self.words[start..].as_mut_bytes()[..len].copy_from_slice(record);
        self.records.push((start, len));
    }

    fn events(&self) -> impl Iterator<Item = Event<'_>> {
        self.records.iter().map(|(start, len)| {
            match decode(&self.words[*start..].as_bytes()[..*len]) {
                Ok(event) => event,
                Err(error) => panic!("a record of the recording: {error}"),
            }
        })
    }

    /// Records that the kernel side tried to write to the payload ring, as told at the end.
    pub fn payload_tried(&self) -> u64 {
        self.tried.values().sum()
    }

    /// Records of the payload ring that a number is missing for.
    pub fn payload_missing(&self) -> u64 {
        let seen = self.payload_sequences();
        let cpus: BTreeSet<u16> = seen.keys().chain(self.tried.keys()).copied().collect();
        let missing = |cpu: u16| {
            let numbers = seen.get(&cpu);
            let last = numbers.and_then(|numbers| numbers.last().copied()).map_or(0, |n| n + 1);
            let next = self.tried.get(&cpu).copied().unwrap_or(0).max(last);
            next - numbers.map_or(0, |numbers| numbers.len() as u64)
        };
        cpus.into_iter().map(missing).sum()
    }

    /// Payload records.
    pub fn pieces(&self) -> Vec<Piece> {
        let payloads = self.events().filter_map(|event| match event {
            Event::Payload(payload, bytes) => Some(Piece {
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

    /// Sequence numbers on the payload ring, by CPU.
    pub fn payload_sequences(&self) -> BTreeMap<u16, BTreeSet<u64>> {
        let mut seen: BTreeMap<u16, BTreeSet<u64>> = BTreeMap::new();
        for event in self.events() {
            if matches!(event, Event::Connection(..) | Event::Payload(..) | Event::Closing(..)) {
                let header = event.header();
                let fresh = seen.entry(header.cpu).or_default().insert(header.seq);
                assert!(fresh, "sequence number {} of CPU {} twice", header.seq, header.cpu);
            }
        }
        seen
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
        records.iter().for_each(|record| recording.push(record));
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
        recording.tried.insert(0, 4);
        assert_eq!((recording.payload_missing(), recording.payload_tried()), (2, 4));
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
