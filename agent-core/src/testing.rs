//! Record streams made by hand: for tests and benchmarks, here and in other crates.
//!
//! A [`Tape`] is one ring. [`Socket`]s write to it what the kernel side would: positions, turns,
//! and as much of the bytes as it captures.

use crate::event::{Event, ProcessKey, decode};
use agent_common::record::{
    Closing, Connection, Header, Payload, VERSION, direction, flag, kind, role,
};
use zerocopy::IntoBytes;

/// One record's bytes, aligned as in a ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    words: Vec<u64>,
    len: usize,
}

impl Slot {
    /// A fixed part and its tail.
    pub fn new(fixed: &[u8], tail: &[u8]) -> Slot {
        let len = fixed.len() + tail.len();
        let mut words = vec![0; len.div_ceil(8)];
        let bytes: &mut [u8] = words.as_mut_bytes();
        bytes[..fixed.len()].copy_from_slice(fixed);
        bytes[fixed.len()..len].copy_from_slice(tail);
        Slot { words, len }
    }

    /// The record.
    pub fn bytes(&self) -> &[u8] {
        &self.words.as_bytes()[..self.len]
    }

    /// The record, decoded.
    pub fn event(&self) -> Event<'_> {
        decode(self.bytes()).expect("a slot holds a whole record")
    }
}

/// A ring, as records in the order of their numbers.
#[derive(Clone, Debug)]
pub struct Tape {
    /// What has been written.
    pub slots: Vec<Slot>,
    /// Boot-time ns of the next record.
    pub now: u64,
    /// Time from one record to the next, ns.
    pub step: u64,
    /// CPU of the next record.
    pub cpu: u16,
    seq: Vec<u64>,
}

impl Default for Tape {
    fn default() -> Self {
        Tape { slots: Vec::new(), now: 1_000_000_000, step: 1_000, cpu: 0, seq: Vec::new() }
    }
}

impl Tape {
    /// Takes the latest record back, as if the ring had been full: its number stays used.
    pub fn lose_last(&mut self) {
        self.slots.pop();
    }

    /// Writes any record: `make` gets the common part, filled except for kind and lengths.
    pub fn write(&mut self, process: ProcessKey, make: impl FnOnce(Header) -> Slot) {
        let cpu = usize::from(self.cpu);
        if self.seq.len() <= cpu {
            self.seq.resize(cpu + 1, 0);
        }
        let header = Header {
            version: VERSION,
            cpu: self.cpu,
            seq: self.seq[cpu],
            boot_ns: self.now,
            tgid: process.tgid,
            tid: process.tgid,
            start_ns: process.start_ns,
            ..Header::default()
        };
        self.seq[cpu] += 1;
        self.now += self.step;
        self.slots.push(make(header));
    }
}

/// One end of a connection, with what the kernel side remembers of it.
#[derive(Clone, Debug)]
pub struct Socket {
    /// As the kernel reports it; its ends and role may be changed before [`Socket::open`].
    pub connection: Connection,
    /// Who uses it.
    pub process: ProcessKey,
    /// Thread of the next call; 0 for the process's first.
    pub tid: u32,
    /// Bytes captured from where the direction turns.
    pub head_bytes: usize,
    /// Bytes captured of later calls of a turn.
    pub later_bytes: usize,
    /// Further flags of the next payload records.
    pub flags: u16,
    /// Next byte to be sent and to be received.
    pub positions: [u64; 2],
    latest: Option<u8>,
}

impl Socket {
    /// A TCP socket of process 100 with this cookie; `accepted` for a server's.
    pub fn tcp(cookie: u64, accepted: bool) -> Socket {
        let mut loopback = [0; 16];
        loopback[10..].copy_from_slice(&[0xff, 0xff, 127, 0, 0, 1]);
        let (local_port, remote_port) = if accepted { (8080, 50_000) } else { (50_000, 8080) };
        let positions = if accepted { [9_000, 5_000] } else { [5_000, 9_000] };
        let connection = Connection {
            cookie,
            local_addr: loopback,
            remote_addr: loopback,
            local_port,
            remote_port,
            family: 2,
            role: if accepted { role::ACCEPTED } else { role::CONNECTED },
            netns: 4_026_531_840,
            ..Connection::default()
        };
        Socket {
            connection,
            process: ProcessKey { tgid: 100, start_ns: 5 },
            tid: 0,
            head_bytes: 4096,
            later_bytes: 256,
            flags: flag::TRUE_FIRST,
            positions,
            latest: None,
        }
    }

    /// Reports the connection.
    pub fn open(&self, tape: &mut Tape) {
        let [send_position, receive_position] = self.positions;
        tape.write(self.process, |header| {
            let header = Header { kind: kind::CONNECTION, ..header };
            let record = Connection { header, send_position, receive_position, ..self.connection };
            Slot::new(record.as_bytes(), b"")
        });
    }

    /// One call that sends `bytes`.
    pub fn send(&mut self, tape: &mut Tape, bytes: &[u8]) {
        self.call(tape, direction::SEND, bytes, 0);
    }

    /// One call that receives `bytes`.
    pub fn receive(&mut self, tape: &mut Tape, bytes: &[u8]) {
        self.call(tape, direction::RECEIVE, bytes, 0);
    }

    /// A receive that returns 0.
    pub fn receive_end(&mut self, tape: &mut Tape) {
        self.call(tape, direction::RECEIVE, b"", flag::END);
    }

    /// Bytes that a call moved and that could not be read.
    pub fn unreachable(&mut self, tape: &mut Tape, way: u8, len: usize) {
        let head_bytes = std::mem::take(&mut self.head_bytes);
        let later_bytes = std::mem::take(&mut self.later_bytes);
        self.call(tape, way, &vec![0; len], flag::UNREACHABLE);
        (self.head_bytes, self.later_bytes) = (head_bytes, later_bytes);
    }

    /// This end will send no more.
    pub fn shutdown(&self, tape: &mut Tape) {
        self.closing(tape, flag::LOCAL_END, 0);
    }

    /// The socket is closed; `error` as `sk_err`.
    pub fn close(&self, tape: &mut Tape, error: u32) {
        self.closing(tape, flag::CLOSED, error);
    }

    fn call(&mut self, tape: &mut Tape, way: u8, bytes: &[u8], flags: u16) {
        let turned = self.latest.replace(way) != Some(way);
        let room = if turned { self.head_bytes } else { self.later_bytes };
        let captured = &bytes[..bytes.len().min(room)];
        let turn = if turned { flag::TURN } else { 0 };
        let (own, other) = (usize::from(way), usize::from(1 - way));
        let tid = if self.tid == 0 { self.process.tgid } else { self.tid };
        tape.write(self.process, |header| {
            let header = Header {
                kind: kind::PAYLOAD,
                direction: way,
                flags: self.flags | flags | turn,
                tid,
                total_len: bytes.len() as u32,
                captured_len: captured.len() as u32,
                ..header
            };
            let record = Payload {
                header,
                cookie: self.connection.cookie,
                position: self.positions[own],
                opposite: self.positions[other],
                first_ns: header.boot_ns - 100,
                last_ns: header.boot_ns - 100,
                context: 0,
            };
            Slot::new(record.as_bytes(), captured)
        });
        self.positions[own] = self.positions[own].wrapping_add(bytes.len() as u64);
    }

    fn closing(&self, tape: &mut Tape, flags: u16, error: u32) {
        let [send_position, receive_position] = self.positions;
        tape.write(ProcessKey::default(), |header| {
            let header = Header { kind: kind::CLOSING, flags, ..header };
            let cookie = self.connection.cookie;
            let record = Closing {
                header,
                cookie,
                send_position,
                receive_position,
                error,
                ..Closing::default()
            };
            Slot::new(record.as_bytes(), b"")
        });
    }
}
