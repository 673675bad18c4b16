//! Calls into TLS libraries: what a probe on one of their functions is told.
//!
//! One program serves the entries of all functions of all libraries and one their returns. What differs
//! is a number that the attachment carries ([`Site`]), so that a library is a table of symbols and
//! argument conventions in userspace.

/// What a probed function does, and where its arguments are. Packed into the attachment's cookie.
///
/// Arguments are numbered from 0 in the order of the System V calling convention (rdi, rsi, rdx, rcx,
/// r8, r9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site(pub u64);

/// The call gives plaintext to the program (else it takes some from it).
const RECEIVES: u64 = 1 << 0;
/// No plaintext passes, but the library may use its socket: handshakes, peeks.
const SILENT: u64 = 1 << 1;
/// The object that the handle names is new or gone after the call.
const FORGETS: u64 = 1 << 2;
/// Ciphertext on its way into a buffer of the program (`BIO_write`).
const CIPHERTEXT: u64 = 1 << 3;
/// The call returns 1 for success, and the number of bytes through a pointer.
const COUNTS_BY_POINTER: u64 = 1 << 4;
/// The number of bytes is returned in 64 bits (else in 32).
const WIDE: u64 = 1 << 5;
/// The bytes are in no memory of the program.
const UNSEEN: u64 = 1 << 6;
/// The function serves other things than TLS as well.
const PERHAPS: u64 = 1 << 7;
/// Of ciphertext: every record passes there.
const PAST_ALL: u64 = 1 << 21;
/// A method of rustls's cipher traits: its arguments are Rust's, and programs of their own read them.
const RUST: u64 = 1 << 20;
/// A place in Go's `crypto/tls`, one of [`go`].
const GO: u64 = 1 << 32;
/// Of [`go::COPIED`]: see [`Site::is_framed`].
const FRAMED: u64 = 1 << 33;

const HANDLE_SHIFT: u64 = 8;
const BUFFER_SHIFT: u64 = 12;
const COUNT_SHIFT: u64 = 16;

impl Site {
    /// Plaintext goes in: `int write(handle, buffer, …)`, or of type `ssize_t` when `wide`.
    pub const fn send(handle: u8, buffer: u8, wide: bool) -> Site {
        Site(if wide { WIDE } else { 0 } | args(handle, buffer, 0))
    }

    /// Plaintext comes out: as [`Site::send`].
    pub const fn receive(handle: u8, buffer: u8, wide: bool) -> Site {
        Site(RECEIVES | Site::send(handle, buffer, wide).0)
    }

    /// Plaintext goes in; the call returns 1, and the number of bytes in `*count` (`size_t`).
    pub const fn send_counted(handle: u8, buffer: u8, count: u8) -> Site {
        Site(COUNTS_BY_POINTER | args(handle, buffer, count))
    }

    /// Plaintext comes out: as [`Site::send_counted`].
    pub const fn receive_counted(handle: u8, buffer: u8, count: u8) -> Site {
        Site(RECEIVES | Site::send_counted(handle, buffer, count).0)
    }

    /// Plaintext of a file goes in; the number of bytes is returned as `ssize_t`.
    pub const fn send_file(handle: u8) -> Site {
        Site(UNSEEN | Site::send(handle, 0, true).0)
    }

    /// The same for a function that serves other things than TLS as well: without a socket that carries
    /// TLS, nothing is missing.
    pub const fn perhaps(self) -> Site {
        Site(self.0 | PERHAPS)
    }

    /// The library may use its socket.
    pub const fn silent(handle: u8) -> Site {
        Site(SILENT | args(handle, 0, 0))
    }

    /// The object is new or gone.
    pub const fn forget(handle: u8) -> Site {
        Site(FORGETS | args(handle, 0, 0))
    }

    /// Ciphertext at `buffer`, inside one of the calls above.
    pub const fn ciphertext(buffer: u8) -> Site {
        Site(CIPHERTEXT | args(0, buffer, 0))
    }

    /// The same where every record passes, on its way to a socket too.
    pub const fn past_all(self) -> Site {
        Site(self.0 | PAST_ALL)
    }

    /// A place in Go's `crypto/tls`, one of [`go`].
    pub const fn go(place: u8) -> Site {
        Site(GO | place as u64)
    }

    /// The same; the function's receiver lies above its frame.
    pub const fn framed(self) -> Site {
        Site(self.0 | FRAMED)
    }

    /// A place in Go's `crypto/tls`.
    pub const fn is_go(self) -> bool {
        self.0 & GO != 0
    }

    /// Which: one of [`go`].
    #[inline(always)]
    pub const fn place(self) -> u8 {
        self.0 as u8
    }

    /// The function's receiver lies 16 bytes above where its frame pointer points.
    #[inline(always)]
    pub const fn is_framed(self) -> bool {
        self.0 & FRAMED != 0
    }

    /// `MessageEncrypter::encrypt` of rustls: plaintext becomes one record.
    pub const fn rust_encrypt() -> Site {
        Site(RUST)
    }

    /// `MessageDecrypter::decrypt` of rustls: one record becomes plaintext.
    pub const fn rust_decrypt() -> Site {
        Site(RUST | RECEIVES)
    }

    /// One of the two.
    pub const fn is_rust(self) -> bool {
        self.0 & RUST != 0
    }

    /// Plaintext comes out.
    #[inline(always)]
    pub const fn receives(self) -> bool {
        self.0 & RECEIVES != 0
    }

    /// No plaintext passes.
    #[inline(always)]
    pub const fn is_silent(self) -> bool {
        self.0 & SILENT != 0
    }

    /// The object is new or gone.
    #[inline(always)]
    pub const fn forgets(self) -> bool {
        self.0 & FORGETS != 0
    }

    /// Ciphertext passes.
    #[inline(always)]
    pub const fn is_ciphertext(self) -> bool {
        self.0 & CIPHERTEXT != 0
    }

    /// Every record passes.
    #[inline(always)]
    pub const fn is_past_all(self) -> bool {
        self.0 & PAST_ALL != 0
    }

    /// The number of bytes comes through a pointer.
    #[inline(always)]
    pub const fn counts_by_pointer(self) -> bool {
        self.0 & COUNTS_BY_POINTER != 0
    }

    /// The number of bytes has 64 bits.
    #[inline(always)]
    pub const fn is_wide(self) -> bool {
        self.0 & WIDE != 0
    }

    /// The bytes are in no memory of the program.
    #[inline(always)]
    pub const fn is_unseen(self) -> bool {
        self.0 & UNSEEN != 0
    }

    /// It may not be TLS.
    #[inline(always)]
    pub const fn is_perhaps(self) -> bool {
        self.0 & PERHAPS != 0
    }

    /// The entry is all there is to see: no probe on the return.
    pub const fn has_return(self) -> bool {
        self.0 & (FORGETS | CIPHERTEXT) == 0
    }

    /// Number of the argument that names the connection's object.
    #[inline(always)]
    pub const fn handle(self) -> u64 {
        self.0 >> HANDLE_SHIFT & 0xf
    }

    /// Number of the argument that points to the bytes.
    #[inline(always)]
    pub const fn buffer(self) -> u64 {
        self.0 >> BUFFER_SHIFT & 0xf
    }

    /// Number of the argument that points to the number of bytes.
    #[inline(always)]
    pub const fn count(self) -> u64 {
        self.0 >> COUNT_SHIFT & 0xf
    }
}

const fn args(handle: u8, buffer: u8, count: u8) -> u64 {
    (handle as u64) << HANDLE_SHIFT
        | (buffer as u64) << BUFFER_SHIFT
        | (count as u64) << COUNT_SHIFT
}

/// Places in functions of Go's `crypto/tls`. Arguments and results are in registers (Go's internal ABI): the
/// first in rax, rbx, rcx; the running goroutine in r14.
pub mod go {
    /// `func (c *Conn) Read(b []byte) (int, error)` begins.
    pub const READ: u8 = 1;
    /// `func (c *Conn) Write(b []byte) (int, error)` begins.
    pub const WRITE: u8 = 2;
    /// A handshake of a `*Conn` begins.
    pub const HANDSHAKE: u8 = 3;
    /// `func (c *Conn) Close() error` begins.
    pub const CLOSE: u8 = 4;
    /// `Read` is about to copy plaintext: to rax, from rbx, as many bytes as rcx says; then it returns.
    pub const COPIED: u8 = 5;
    /// `Write` has written all of it, unless rbx (an error) is something; then it returns.
    pub const WRITTEN: u8 = 6;
    /// `Read` or `Write` returns.
    pub const RETURN: u8 = 7;
}

/// Places of what the kernel side tells userspace of TLS. 0: nothing; userspace sets them back.
pub mod note {
    /// A process that has a library send into buffers of the process's own making.
    pub const OWN_BUFFERS: u32 = 0;
    /// 1: a table of sockets or objects has had no room.
    pub const FULL: u32 = 1;
    /// How many there are.
    pub const COUNT: u32 = 2;
}

/// Length of what is kept of a socket's plaintext streams.
pub const STREAMS_LEN: usize = 64;
/// Where in it 32 bits say when plaintext was last moved: boot time in ns, without the lowest [`USED_SHIFT`]
/// bits.
pub const USED_AT: usize = 60;
/// See [`USED_AT`].
pub const USED_SHIFT: u32 = 30;

/// Bytes of a TLS record by which ciphertext is known again: the header (5), what TLS 1.2 may count up
/// (8), and 19 that no two records share but by chance (2^-152).
pub const FINGERPRINT: usize = 32;

/// What the calls of rustls's methods in one process looked like.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RustProcess {
    /// Calls whose arguments and results were as expected.
    pub fit: u64,
    /// Calls that were not: nothing of them is reported.
    pub strange: u64,
}
