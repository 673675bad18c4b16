//! What protocols tell the trace stage: a request that [`Started`] and, later, [`Finished`].
//!
//! Texts lie in one reused buffer per message ([`Head`]), so that the steady path allocates
//! nothing: the trace stage hands the box back and the shard fills it again.

use crate::event::ProcessKey;
use crate::id::{SpanId, TraceId};

/// Which end of the conversation was observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// The program received the request.
    Server,
    /// The program sent the request.
    Client,
}

/// The thread at work, and its runtime context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Thread {
    /// Its process.
    pub process: ProcessKey,
    /// Thread number in the initial pid namespace.
    pub tid: u32,
    /// Goroutine, as [`agent_common::runtime`] packs it; 0 when there is none.
    pub context: u64,
}

/// A trace context that a thread has published (OTEP 4947).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// The trace.
    pub trace: TraceId,
    /// The span that is active on the thread.
    pub span: SpanId,
    /// W3C trace flags.
    pub flags: u8,
}

/// A text within [`Head::text`]. Empty and absent are different.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Field {
    /// First byte.
    pub start: u32,
    /// Length; [`Field::ABSENT`] has `u32::MAX`.
    pub len: u32,
}

impl Field {
    /// No such text.
    pub const ABSENT: Field = Field { start: 0, len: u32::MAX };

    /// True unless absent.
    pub fn is_present(self) -> bool {
        self.len != u32::MAX
    }
}

/// Names the texts that a request's head may carry. The discriminant indexes [`Head::fields`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Name {
    /// Method as sent.
    Method,
    /// Scheme of an absolute target, else absent.
    Scheme,
    /// Authority of an absolute or CONNECT target, else absent.
    Authority,
    /// Path of the target; `*` for the asterisk form; absent for CONNECT.
    Path,
    /// Query without its `?`; absent when there is none. Not yet redacted.
    Query,
    /// `Host` header.
    Host,
    /// `User-Agent` header.
    UserAgent,
    /// `traceparent` header.
    Traceparent,
    /// `tracestate` header.
    Tracestate,
    /// `b3` single header, or `X-B3-*` put together as `trace-span-sampled-parent`.
    B3,
    /// `X-Request-Id` header.
    RequestId,
    /// `Forwarded` header.
    Forwarded,
    /// `X-Forwarded-For` header.
    ForwardedFor,
    /// `X-Forwarded-Host` header.
    ForwardedHost,
    /// `X-Forwarded-Proto` header.
    ForwardedProto,
}

/// Number of [`Name`]s.
pub const NAMES: usize = 15;

/// The texts of one request head.
#[derive(Clone, Debug)]
pub struct Head {
    /// All texts, one after the other. Bytes as captured: not necessarily UTF-8.
    pub text: Vec<u8>,
    /// Where each lies, by [`Name`].
    pub fields: [Field; NAMES],
}

impl Default for Head {
    fn default() -> Self {
        Head { text: Vec::new(), fields: [Field::ABSENT; NAMES] }
    }
}

impl Head {
    /// Forgets all texts and keeps the buffer.
    pub fn clear(&mut self) {
        self.text.clear();
        self.fields = [Field::ABSENT; NAMES];
    }

    /// Keeps `bytes` as the text called `name`; the first of several wins.
    pub fn set(&mut self, name: Name, bytes: &[u8]) {
        let slot = &mut self.fields[name as usize];
        let (Ok(start), Ok(len)) = (u32::try_from(self.text.len()), u32::try_from(bytes.len()))
        else {
            return;
        };
        if !slot.is_present() {
            *slot = Field { start, len };
            self.text.extend_from_slice(bytes);
        }
    }

    /// The text called `name`.
    pub fn get(&self, name: Name) -> Option<&[u8]> {
        let field = self.fields[name as usize];
        if !field.is_present() {
            return None;
        }
        let start = field.start as usize;
        self.text.get(start..start + field.len as usize)
    }
}

/// A request whose head has been seen. Its span id is fixed from here on.
#[derive(Clone, Debug, Default)]
pub struct Started {
    /// Id of the span that this request becomes.
    pub span: SpanId,
    /// Socket cookie.
    pub cookie: u64,
    /// Which end this is.
    pub role: Option<Role>,
    /// Position of the request's first byte in its direction.
    pub position: u64,
    /// Position of the opposite direction at that moment: with `position` the key by which both
    /// ends of a TCP conversation meet.
    pub opposite: u64,
    /// Boot-time ns. Client: the first byte entered the socket. Server: it became readable.
    pub start_ns: u64,
    /// When the program took the first byte (server), or the call returned (client).
    pub taken_ns: u64,
    /// The thread that sent (client) or received (server) the request's first byte.
    pub thread: Thread,
    /// What that thread had published when it began to send.
    pub published: Option<Published>,
    /// Minor version: HTTP/1.`version`.
    pub version: u8,
    /// `start_ns` is the true time and not the call's end.
    pub true_start: bool,
    /// Texts.
    pub head: Head,
}

impl Started {
    /// The process, and when it was the one whose request this is. A server's request may have waited while
    /// its reader was still another program, or yet to be forked: it is whose who took it.
    pub fn owner(&self) -> (ProcessKey, u64) {
        let at_ns = match self.role {
            Some(Role::Server) => self.taken_ns,
            Some(Role::Client) | None => self.start_ns,
        };
        (self.thread.process, at_ns)
    }
}

/// Why a request has no complete response, or one that counts as failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The connection ended before the response did.
    ConnectionClosed,
    /// The connection was reset.
    ConnectionReset,
    /// The connection timed out.
    Timeout,
    /// The bytes after the request are no response of the protocol.
    InvalidResponse,
    /// The agent lost sight: records were lost or the table was full. The span's end is unknown.
    Unobserved,
}

impl Failure {
    /// Low-cardinality value for `error.type`.
    pub fn error_type(self) -> &'static str {
        match self {
            Failure::ConnectionClosed => "connection_closed",
            Failure::ConnectionReset => "connection_reset",
            Failure::Timeout => "timeout",
            Failure::InvalidResponse => "invalid_response",
            Failure::Unobserved => "unobserved",
        }
    }
}

/// The end of a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Finished {
    /// The span that ends.
    pub span: SpanId,
    /// Socket cookie.
    pub cookie: u64,
    /// Boot-time ns. Client: the response's last byte became readable. Server: the last send of
    /// the response began.
    pub end_ns: u64,
    /// Boot-time ns of the response's first byte, same clock rule as `end_ns`.
    pub first_byte_ns: Option<u64>,
    /// Status code.
    pub status: Option<u16>,
    /// Exact size of the request's body, when framing or full capture gives it.
    pub request_body: Option<u64>,
    /// Exact size of the response's body, when framing or full capture gives it.
    pub response_body: Option<u64>,
    /// What went wrong on the connection, if anything did.
    pub failure: Option<Failure>,
}

/// Ends of a socket, as the trace stage needs them.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Endpoints {
    /// AF_INET 2, AF_INET6 10, AF_UNIX 1.
    pub family: u16,
    /// Local address, IPv4-mapped for IPv4.
    pub local_addr: [u8; 16],
    /// Remote address, IPv4-mapped for IPv4.
    pub remote_addr: [u8; 16],
    /// Local port.
    pub local_port: u16,
    /// Remote port.
    pub remote_port: u16,
    /// Network namespace.
    pub netns: u32,
    /// Unix: the peer's cookie, 0 while unknown.
    pub peer_cookie: u64,
    /// Unix: path of the socket (abstract names begin with NUL).
    pub path: Box<[u8]>,
    /// Its messages travel encrypted.
    pub encryption: Option<Box<Encryption>>,
}

/// What is known of an encrypted connection whose plaintext is seen.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Encryption {
    /// Positions of the ciphertext at turns of the direction, as both ends know them: low halves of what
    /// was sent and received then. A peer has one of them reversed.
    pub marks: Marks,
    /// Plaintext was counted from the connection's first byte on: its positions are the peer's.
    pub from_start: bool,
    /// What the handshake said.
    pub facts: crate::protocol::tls::Facts,
}

/// See [`Encryption::marks`]: bytes sent, bytes received.
pub type Marks = smallvec::SmallVec<[(u32, u32); 2]>;

/// What a shard tells the trace stage, in the order of its ring.
#[derive(Debug)]
pub enum Signal {
    /// A connection, or more known about one.
    Opened {
        /// Boot-time ns.
        at: u64,
        /// Socket cookie.
        cookie: u64,
        /// Its ends.
        endpoints: Box<Endpoints>,
    },
    /// A request begins. The box goes back to the shard when it has been used.
    Started(Box<Started>),
    /// A request ends.
    Finished(Finished),
    /// Requests of a process were shed in the kernel: its threads may work for some that nobody saw.
    Shed {
        /// Boot-time ns.
        at: u64,
        /// The process.
        process: ProcessKey,
    },
    /// A connection is gone.
    Gone {
        /// Boot-time ns.
        at: u64,
        /// Socket cookie.
        cookie: u64,
    },
}

impl Signal {
    /// Boot-time ns by which signals are ordered.
    pub fn at(&self) -> u64 {
        match self {
            Signal::Opened { at, .. } | Signal::Shed { at, .. } | Signal::Gone { at, .. } => *at,
            Signal::Started(started) => started.start_ns,
            Signal::Finished(finished) => finished.end_ns,
        }
    }
}
