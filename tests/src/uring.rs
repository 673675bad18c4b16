//! Socket calls through io_uring, one at a time.

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use std::io;
use std::os::fd::AsRawFd;

/// A way to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the operations")]
pub enum Send {
    Send,
    /// By a worker of the kernel's.
    SendAsync,
    SendMsg,
    Write,
    SendZc,
    /// From a registered buffer.
    SendZcFixed,
    /// From a registered buffer.
    WriteFixed,
}

/// A way to receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the operations")]
pub enum Receive {
    Recv,
    /// By a worker of the kernel's.
    RecvAsync,
    RecvMsg,
    Read,
    /// Into a registered buffer.
    ReadFixed,
    /// Again and again, into buffers that were provided.
    Multishot,
}

/// This machine lets programs have rings.
pub fn is_allowed() -> bool {
    let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    !disabled.is_ok_and(|value| value.trim() == "2")
}

impl Send {
    /// All of them.
    pub const ALL: [Send; 7] = [
        Send::Send,
        Send::SendAsync,
        Send::SendMsg,
        Send::Write,
        Send::SendZc,
        Send::SendZcFixed,
        Send::WriteFixed,
    ];
}

impl Receive {
    /// All of them.
    pub const ALL: [Receive; 6] = [
        Receive::Recv,
        Receive::RecvAsync,
        Receive::RecvMsg,
        Receive::Read,
        Receive::ReadFixed,
        Receive::Multishot,
    ];
}

/// Room of the registered buffer; what is sent begins somewhere inside it.
const ROOM: usize = 16 << 10;
/// Where it begins: not on a page's border.
const START: usize = 4000;
/// Provided buffers, and bytes of each.
const PROVIDED: u16 = 8;
const PROVIDED_LEN: usize = 1024;
/// Their group.
const GROUP: u16 = 7;
/// `user_data` of operations that are not waited for.
const ASIDE: u64 = 1;

/// An io_uring with one operation under way at a time.
pub struct Ring {
    ring: IoUring,
    registered: Vec<u8>,
    provided: Vec<u8>,
    /// A multishot receive is armed.
    armed: bool,
}

impl Ring {
    /// A ring whose operations are submitted by calls, or with `polled` taken up by a thread of the
    /// kernel's.
    ///
    /// # Errors
    /// The system's.
    pub fn new(polled: bool) -> io::Result<Ring> {
        let mut builder = IoUring::builder();
        if polled {
            builder.setup_sqpoll(2000);
        }
        let ring = builder.build(16)?;
        let mut registered = vec![0; ROOM];
        let buffer = libc::iovec { iov_base: registered.as_mut_ptr().cast(), iov_len: ROOM };
        // SAFETY: the buffer lives as long as the ring, which ends before it.
        unsafe { ring.submitter().register_buffers(&[buffer])? };
        let provided = vec![0; usize::from(PROVIDED) * PROVIDED_LEN];
        Ok(Ring { ring, registered, provided, armed: false })
    }

    /// Sends `bytes`, in `SendMsg` as two parts; bytes that went.
    ///
    /// # Errors
    /// Those of the operation.
    pub fn send(&mut self, how: Send, socket: &impl AsRawFd, bytes: &[u8]) -> io::Result<usize> {
        let fd = types::Fd(socket.as_raw_fd());
        let (start, len) = (bytes.as_ptr(), bytes.len() as u32);
        let (one, two) = bytes.split_at(bytes.len() / 2);
        let mut list = [io_slice(one), io_slice(two)];
        // SAFETY: all-zero is a valid `msghdr`.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = list.as_mut_ptr();
        message.msg_iovlen = 2;
        if matches!(how, Send::SendZcFixed | Send::WriteFixed) {
            self.registered[START..START + bytes.len()].copy_from_slice(bytes);
        }
        let fixed = self.registered[START..].as_ptr();
        let entry = match how {
            Send::Send => opcode::Send::new(fd, start, len).build(),
            Send::SendAsync => {
                opcode::Send::new(fd, start, len).build().flags(squeue::Flags::ASYNC)
            }
            Send::SendMsg => opcode::SendMsg::new(fd, &raw const message).build(),
            Send::Write => opcode::Write::new(fd, start, len).build(),
            Send::SendZc => opcode::SendZc::new(fd, start, len).build(),
            Send::SendZcFixed => opcode::SendZc::new(fd, fixed, len).buf_index(Some(0)).build(),
            Send::WriteFixed => opcode::WriteFixed::new(fd, fixed, len, 0).build(),
        };
        self.run(&entry).map(|(result, _)| result)
    }

    /// Receives at most `most` bytes.
    ///
    /// # Errors
    /// Those of the operation.
    pub fn receive(
        &mut self,
        how: Receive,
        socket: &impl AsRawFd,
        most: usize,
    ) -> io::Result<Vec<u8>> {
        let fd = types::Fd(socket.as_raw_fd());
        if how == Receive::Multishot {
            return self.receive_provided(fd);
        }
        let mut buffer = vec![b'#'; most];
        let (start, len) = (buffer.as_mut_ptr(), most as u32);
        let mut list = [libc::iovec { iov_base: start.cast(), iov_len: most }];
        // SAFETY: all-zero is a valid `msghdr`.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = list.as_mut_ptr();
        message.msg_iovlen = 1;
        let fixed = self.registered[START..].as_mut_ptr();
        let entry = match how {
            Receive::RecvAsync => {
                opcode::Recv::new(fd, start, len).build().flags(squeue::Flags::ASYNC)
            }
            Receive::RecvMsg => opcode::RecvMsg::new(fd, &raw mut message).build(),
            Receive::Read => opcode::Read::new(fd, start, len).build(),
            Receive::ReadFixed => opcode::ReadFixed::new(fd, fixed, len, 0).build(),
            _ => opcode::Recv::new(fd, start, len).build(),
        };
        let (got, _) = self.run(&entry)?;
        if how == Receive::ReadFixed {
            buffer.copy_from_slice(&self.registered[START..START + most]);
        }
        buffer.truncate(got);
        Ok(buffer)
    }

    fn receive_provided(&mut self, fd: types::Fd) -> io::Result<Vec<u8>> {
        if !self.armed {
            self.provide(0, PROVIDED)?;
            self.push(&opcode::RecvMulti::new(fd, GROUP).build())?;
            self.armed = true;
        }
        let (got, flags) = self.complete()?;
        if !cqueue::more(flags) {
            return Err(io::Error::other("the multishot receive ended"));
        }
        let id = cqueue::buffer_select(flags).ok_or(io::Error::other("no buffer was chosen"))?;
        let from = usize::from(id) * PROVIDED_LEN;
        let bytes = self.provided[from..from + got].to_vec();
        self.provide(id, 1)?;
        Ok(bytes)
    }

    /// Provides `count` buffers from `id` on.
    fn provide(&mut self, id: u16, count: u16) -> io::Result<()> {
        let start = self.provided[usize::from(id) * PROVIDED_LEN..].as_mut_ptr();
        let provide =
            opcode::ProvideBuffers::new(start, PROVIDED_LEN as i32, count, GROUP, id).build();
        self.push(&provide.user_data(ASIDE))?;
        self.ring.submit().map(drop)
    }

    /// Runs one operation to its end, with the notice of a zero-copy send; its result and flags.
    fn run(&mut self, entry: &squeue::Entry) -> io::Result<(usize, u32)> {
        self.push(entry)?;
        let (result, flags) = self.complete()?;
        if cqueue::more(flags) {
            self.complete()?;
        }
        Ok((result, flags))
    }

    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        // SAFETY: what the entry points at outlives the operation: it is waited for, or belongs to the
        // ring.
        unsafe { self.ring.submission().push(entry) }.map_err(io::Error::other)
    }

    fn complete(&mut self) -> io::Result<(usize, u32)> {
        loop {
            let next = self.ring.completion().next();
            let Some(next) = next else {
                self.ring.submit_and_wait(1)?;
                continue;
            };
            if next.user_data() == ASIDE {
                continue;
            }
            let result = usize::try_from(next.result())
                .map_err(|_| io::Error::from_raw_os_error(-next.result()))?;
            return Ok((result, next.flags()));
        }
    }
}

fn io_slice(bytes: &[u8]) -> libc::iovec {
    libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
}
