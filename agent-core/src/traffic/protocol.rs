//! Protocols that are known by their first bytes and not parsed: named only where nothing else begins so.

/// A protocol with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.x.
    Http1,
    /// TLS.
    Tls,
    /// HTTP/2 in clear, or within TLS that is read.
    Http2,
    /// Whatever a connection became by an Upgrade or CONNECT of HTTP/1.
    Upgraded,
    /// RESP.
    Redis,
    /// PostgreSQL, version 3.
    PostgreSql,
    /// MySQL and MariaDB.
    MySql,
    /// SSH.
    Ssh,
    /// AMQP 0-9-1 and 1.0.
    Amqp,
    /// MQTT.
    Mqtt,
    /// MongoDB.
    MongoDb,
    /// NATS.
    Nats,
    /// SMTP.
    Smtp,
    /// D-Bus.
    DBus,
}

/// PostgreSQL's first messages (protocol.h): version 3.0, and what is asked instead of it.
const POSTGRESQL: [u32; 4] = [196_608, 80_877_102, 80_877_103, 80_877_104];

/// Longest first message that a PostgreSQL server takes (`MAX_STARTUP_PACKET_LENGTH`).
const POSTGRESQL_LONGEST: u32 = 10_000;

/// `OP_MSG` and `OP_QUERY` of MongoDB.
const MONGODB: [u32; 2] = [2013, 2004];

impl Protocol {
    /// All of them.
    pub const ALL: [Protocol; 14] = [
        Protocol::Http1,
        Protocol::Tls,
        Protocol::Http2,
        Protocol::Upgraded,
        Protocol::Redis,
        Protocol::PostgreSql,
        Protocol::MySql,
        Protocol::Ssh,
        Protocol::Amqp,
        Protocol::Mqtt,
        Protocol::MongoDb,
        Protocol::Nats,
        Protocol::Smtp,
        Protocol::DBus,
    ];

    /// As shown.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Http1 => "HTTP/1",
            Protocol::Tls => "TLS",
            Protocol::Http2 => "HTTP/2",
            Protocol::Upgraded => "upgraded",
            Protocol::Redis => "Redis",
            Protocol::PostgreSql => "PostgreSQL",
            Protocol::MySql => "MySQL",
            Protocol::Ssh => "SSH",
            Protocol::Amqp => "AMQP",
            Protocol::Mqtt => "MQTT",
            Protocol::MongoDb => "MongoDB",
            Protocol::Nats => "NATS",
            Protocol::Smtp => "SMTP",
            Protocol::DBus => "D-Bus",
        }
    }

    /// Of `bytes`, the first of a turn in which a call moved `len`. `first`: the first of the connection.
    pub(crate) fn of(bytes: &[u8], len: u64, first: bool) -> Option<Protocol> {
        if is_redis(bytes) {
            return Some(Protocol::Redis);
        }
        if is_mongodb(bytes, len) {
            return Some(Protocol::MongoDb);
        }
        if !first {
            return None;
        }
        match bytes {
            _ if is_postgresql(bytes) => Some(Protocol::PostgreSql),
            _ if is_mysql(bytes, len) => Some(Protocol::MySql),
            [b'S', b'S', b'H', b'-', b'1' | b'2', b'.', ..] => Some(Protocol::Ssh),
            [b'A', b'M', b'Q', b'P', 0, 0, 9, 1] | [b'A', b'M', b'Q', b'P', 0 | 3, 1, 0, 0] => {
                Some(Protocol::Amqp)
            }
            [0x10, _, 0, 4, b'M', b'Q', b'T', b'T', ..]
            | [0x10, _, 0, 6, b'M', b'Q', b'I', b's', b'd', b'p', ..] => Some(Protocol::Mqtt),
            _ if bytes.starts_with(b"INFO {\"server_id\"") => Some(Protocol::Nats),
            _ if bytes.starts_with(b"220 ") && memchr::memmem::find(bytes, b"SMTP").is_some() => {
                Some(Protocol::Smtp)
            }
            _ if bytes.starts_with(b"\0AUTH ") || bytes.starts_with(b"AUTH EXTERNAL") => {
                Some(Protocol::DBus)
            }
            _ => None,
        }
    }
}

/// An array of bulk strings, as each client sends its commands: `*2\r\n$4\r\n`.
fn is_redis(bytes: &[u8]) -> bool {
    let number = |bytes: &[u8], mark: u8| -> Option<usize> {
        let rest = bytes.strip_prefix(&[mark])?;
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let ends = rest.get(digits..)?.starts_with(b"\r\n");
        (ends && (1..=9).contains(&digits)).then_some(1 + digits + 2)
    };
    number(bytes, b'*')
        .and_then(|at| bytes.get(at..))
        .is_some_and(|rest| number(rest, b'$').is_some())
}

fn is_postgresql(bytes: &[u8]) -> bool {
    let Some((len, rest)) = bytes.split_first_chunk::<4>() else { return false };
    let Some(code) = rest.first_chunk::<4>() else { return false };
    (8..=POSTGRESQL_LONGEST).contains(&u32::from_be_bytes(*len))
        && POSTGRESQL.contains(&u32::from_be_bytes(*code))
}

/// The server's greeting: one packet of number 0, protocol 10, then its version as text.
fn is_mysql(bytes: &[u8], len: u64) -> bool {
    let [l0, l1, l2, 0, 10, b'1'..=b'9', rest @ ..] = bytes else { return false };
    let packet = u64::from(u32::from_le_bytes([*l0, *l1, *l2, 0]));
    packet + 4 == len && rest.iter().take(64).any(|byte| *byte == 0)
}

/// A message whose length is the call's, with an operation that is in use.
fn is_mongodb(bytes: &[u8], len: u64) -> bool {
    let word = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk::<4>()?));
    word(0).is_some_and(|said| u64::from(said) == len)
        && word(12).is_some_and(|operation| MONGODB.contains(&operation))
}

/// A set of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Protocols(u16);

impl Protocols {
    /// All of `other` as well.
    pub fn merge(&mut self, other: Protocols) {
        self.0 |= other.0;
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Protocol> {
        Protocol::ALL.into_iter().filter(move |protocol| self.0 & (1 << *protocol as u16) != 0)
    }
}

impl From<Option<Protocol>> for Protocols {
    fn from(protocol: Option<Protocol>) -> Protocols {
        Protocols(protocol.map_or(0, |protocol| 1 << protocol as u16))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_name_a_protocol_and_no_other_bytes_do() {
        let whole = |bytes: &[u8], first| Protocol::of(bytes, bytes.len() as u64, first);
        let mut mongodb = 33_u32.to_le_bytes().to_vec();
        mongodb.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        mongodb.extend(2013_u32.to_le_bytes());
        mongodb.extend([0; 17]);
        let mut postgresql = vec![0, 0, 0, 20, 0, 3, 0, 0];
        postgresql.extend(b"user\0a\0\0");
        let mysql = [&b"\x0d\0\0\0\x0a8.0.36\0"[..], &[1; 5]].concat();
        for (expected, bytes) in [
            (Protocol::Redis, &b"*1\r\n$4\r\nPING\r\n"[..]),
            (Protocol::PostgreSql, &postgresql),
            (Protocol::PostgreSql, b"\0\0\0\x08\x04\xd2\x16\x2f"),
            (Protocol::MySql, &mysql),
            (Protocol::Ssh, b"SSH-2.0-OpenSSH_9.2p1\r\n"),
            (Protocol::Amqp, b"AMQP\0\0\x09\x01"),
            (Protocol::Mqtt, b"\x10\x10\0\x04MQTT\x04\x02\0\x3c\0\x04abcd"),
            (Protocol::MongoDb, &mongodb),
            (Protocol::Nats, b"INFO {\"server_id\":\"N\"}\r\n"),
            (Protocol::Smtp, b"220 mail.example ESMTP\r\n"),
            (Protocol::DBus, b"\0AUTH EXTERNAL 30\r\n"),
        ] {
            assert_eq!(whole(bytes, true), Some(expected), "{bytes:?}");
            let anywhere = matches!(expected, Protocol::Redis | Protocol::MongoDb);
            assert_eq!(whole(bytes, false), anywhere.then_some(expected), "{bytes:?}");
            for end in 0..bytes.len().min(6) {
                assert_eq!(whole(&bytes[..end], true), None, "{:?}", &bytes[..end]);
            }
        }
        for other in [
            &b""[..],
            b"*",
            b"*2\r\n",
            b"*x\r\n$4\r\n",
            b"*9999999999\r\n$4\r\n",
            b"\0\0\0\x08\0\0\0\0",
            b"\x4a\0\0\0\x0a8.0.36\0",
            b"220 FTP server ready\r\n",
            b"hello",
            &[0; 64],
        ] {
            assert_eq!(whole(other, true), None, "{other:?}");
        }
    }

    #[test]
    fn a_set_has_each_once() {
        let mut set = Protocols::from(Some(Protocol::DBus));
        set.merge(Some(Protocol::Http1).into());
        set.merge(Some(Protocol::DBus).into());
        set.merge(None.into());
        assert!(set.iter().eq([Protocol::Http1, Protocol::DBus]));
    }
}
