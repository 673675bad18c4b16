//! The send and receive calls that `calls` makes, and what neither std nor rustix offers.

use rustix::net::{RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendFlags};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// Longest list of buffers in one call.
pub const PARTS: usize = 8;

/// Offset that means "no offset" to pwritev2 and preadv2, which sockets demand.
const CURRENT: u64 = u64::MAX;

/// A way to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the calls")]
pub enum Send {
    Write,
    Writev,
    Pwritev2,
    Send,
    Sendto,
    Sendmsg,
    Sendmmsg,
    Zerocopy,
}

/// A way to receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the calls")]
pub enum Receive {
    Read,
    Readv,
    Preadv2,
    Recv,
    Recvfrom,
    Recvmsg,
    Recvmmsg,
    Peek,
}

impl Send {
    /// All of them.
    pub const ALL: [Send; 8] = [
        Send::Write,
        Send::Writev,
        Send::Pwritev2,
        Send::Send,
        Send::Sendto,
        Send::Sendmsg,
        Send::Sendmmsg,
        Send::Zerocopy,
    ];

    /// True when it takes a list of buffers.
    pub fn gathers(self) -> bool {
        matches!(self, Send::Writev | Send::Pwritev2 | Send::Sendmsg | Send::Sendmmsg)
    }

    /// Sends `parts` (one, unless it [`gathers`](Send::gathers)); bytes that went.
    ///
    /// # Errors
    /// Those of the call.
    pub fn call(self, socket: impl AsFd, parts: &[&[u8]]) -> io::Result<usize> {
        let fd = socket.as_fd();
        let first = parts.first().copied().unwrap_or_default();
        let list: Vec<IoSlice> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let quiet = SendFlags::NOSIGNAL;
        Ok(match self {
            Send::Write => rustix::io::write(fd, first)?,
            Send::Writev => rustix::io::writev(fd, &list)?,
            Send::Pwritev2 => {
                rustix::io::pwritev2(fd, &list, CURRENT, rustix::io::ReadWriteFlags::empty())?
            }
            // The C library's send is this system call too.
            Send::Send => send_libc(fd, first, libc::MSG_NOSIGNAL)?,
            Send::Sendto => rustix::net::send(fd, first, quiet)?,
            Send::Sendmsg => {
                rustix::net::sendmsg(fd, &list, &mut SendAncillaryBuffer::default(), quiet)?
            }
            Send::Sendmmsg => sendmmsg(fd, &list)?,
            Send::Zerocopy => {
                let sent = send_libc(fd, first, libc::MSG_NOSIGNAL | libc::MSG_ZEROCOPY)?;
                drain_errors(fd);
                sent
            }
        })
    }
}

impl Receive {
    /// All of them.
    pub const ALL: [Receive; 8] = [
        Receive::Read,
        Receive::Readv,
        Receive::Preadv2,
        Receive::Recv,
        Receive::Recvfrom,
        Receive::Recvmsg,
        Receive::Recvmmsg,
        Receive::Peek,
    ];

    /// True when it takes a list of buffers.
    pub fn scatters(self) -> bool {
        matches!(self, Receive::Readv | Receive::Preadv2 | Receive::Recvmsg | Receive::Recvmmsg)
    }

    /// Receives into `parts` (one, unless it [`scatters`](Receive::scatters)), in their order.
    ///
    /// # Errors
    /// Those of the call.
    pub fn call(self, socket: impl AsFd, parts: &mut [Vec<u8>]) -> io::Result<usize> {
        let fd = socket.as_fd();
        if !self.scatters() {
            let first = parts.first_mut().map_or(&mut [][..], Vec::as_mut_slice);
            return self.single(fd, first);
        }
        let mut list: Vec<IoSliceMut> =
            parts.iter_mut().map(|part| IoSliceMut::new(part)).collect();
        Ok(match self {
            Receive::Readv => rustix::io::readv(fd, &mut list)?,
            Receive::Preadv2 => {
                rustix::io::preadv2(fd, &mut list, CURRENT, rustix::io::ReadWriteFlags::empty())?
            }
            Receive::Recvmmsg => recvmmsg(fd, &mut list)?,
            _ => {
                let mut control = RecvAncillaryBuffer::default();
                rustix::net::recvmsg(fd, &mut list, &mut control, RecvFlags::empty())?.bytes
            }
        })
    }

    fn single(self, fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(match self {
            Receive::Read => rustix::io::read(fd, buffer)?,
            Receive::Recv => recv_libc(fd, buffer, 0)?,
            Receive::Peek => {
                let seen = recv_libc(fd, buffer, libc::MSG_PEEK)?;
                recv_libc(fd, &mut buffer[..seen], 0)?
            }
            _ => rustix::net::recvfrom(fd, buffer, RecvFlags::empty())?.0,
        })
    }
}

/// `send` of the C library.
///
/// # Errors
/// Those of the call.
pub fn send_libc(fd: BorrowedFd<'_>, bytes: &[u8], flags: i32) -> io::Result<usize> {
    // SAFETY: pointer and length are those of a slice that outlives the call.
    check(unsafe { libc::send(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) })
}

/// `recv` of the C library.
///
/// # Errors
/// Those of the call.
pub fn recv_libc(fd: BorrowedFd<'_>, buffer: &mut [u8], flags: i32) -> io::Result<usize> {
    let (start, len) = (buffer.as_mut_ptr().cast(), buffer.len());
    // SAFETY: pointer and length are those of a slice that outlives the call.
    check(unsafe { libc::recv(fd.as_raw_fd(), start, len, flags) })
}

/// A send and a receive whose buffers lie at an address that is never mapped: both must fail.
pub fn bad_address(fd: BorrowedFd<'_>) -> [io::Result<usize>; 2] {
    let nowhere = std::ptr::without_provenance_mut::<libc::c_void>(16);
    let fd = fd.as_raw_fd();
    // SAFETY: the kernel refuses the address (page 0 is never mapped); nothing is written to it.
    let sent = check(unsafe { libc::send(fd, nowhere, 100, libc::MSG_NOSIGNAL) });
    // SAFETY: as above.
    let received = check(unsafe { libc::recv(fd, nowhere, 100, libc::MSG_DONTWAIT) });
    [sent, received]
}

/// Sends the list as two messages of one call.
fn sendmmsg(fd: BorrowedFd<'_>, list: &[IoSlice<'_>]) -> io::Result<usize> {
    let (one, two) = list.split_at(list.len() / 2);
    let lists = [one, two].map(|list| (list.as_ptr().cast_mut().cast(), list.len()));
    let mut messages = lists.map(|(start, len)| message(start, len));
    let flags = libc::MSG_NOSIGNAL;
    // SAFETY: `IoSlice` is an iovec by its documentation; all lists outlive the call.
    let count =
        check(unsafe { libc::sendmmsg(fd.as_raw_fd(), messages.as_mut_ptr(), 2, flags as _) })?;
    Ok(messages[..count].iter().map(|message| message.msg_len as usize).sum())
}

/// Receives into the list as two messages of one call, without waiting for the second.
fn recvmmsg(fd: BorrowedFd<'_>, list: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
    let middle = list.len().div_ceil(2);
    let room: usize = list[..middle].iter().map(|part| part.len()).sum();
    let (one, two) = list.split_at_mut(middle);
    let lists = [one, two].map(|list| (list.as_mut_ptr().cast(), list.len()));
    let mut messages = lists.map(|(start, len)| message(start, len));
    // A first message that is cut short would leave a hole before the second.
    let vlen = if two_fit(fd, room) { 2 } else { 1 };
    let (start, flags) = (messages.as_mut_ptr(), libc::MSG_WAITFORONE);
    // SAFETY: `IoSliceMut` is an iovec by its documentation; all lists outlive the call.
    let count = check(unsafe {
        libc::recvmmsg(fd.as_raw_fd(), start, vlen, flags as _, std::ptr::null_mut())
    })?;
    Ok(messages[..count].iter().map(|message| message.msg_len as usize).sum())
}

/// True when more than `room` bytes wait, so that the first message will be filled.
fn two_fit(fd: BorrowedFd<'_>, room: usize) -> bool {
    rustix::io::ioctl_fionread(fd).is_ok_and(|waiting| waiting > room as u64)
}

fn message(start: *mut libc::iovec, len: usize) -> libc::mmsghdr {
    // SAFETY: all-zero is a valid `mmsghdr`: null pointers with length 0.
    let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
    message.msg_hdr.msg_iov = start;
    message.msg_hdr.msg_iovlen = len as _;
    message
}

/// Takes notices of finished zero-copy sends: receive calls that return 0 and end nothing.
fn drain_errors(fd: BorrowedFd<'_>) {
    let mut control = [0_u64; 32];
    loop {
        let mut header = message(std::ptr::null_mut(), 0).msg_hdr;
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = size_of_val(&control) as _;
        let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
        // SAFETY: the header points at `control`, which outlives the call.
        if unsafe { libc::recvmsg(fd.as_raw_fd(), &mut header, flags) } < 0 {
            return;
        }
    }
}

/// Allows MSG_ZEROCOPY on a TCP socket.
///
/// # Errors
/// Those of the call.
pub fn allow_zerocopy(fd: BorrowedFd<'_>) -> io::Result<()> {
    set_option(fd, libc::SO_ZEROCOPY, 1)
}

/// Asks for a send buffer of `bytes` (the kernel doubles it and has a least size).
///
/// # Errors
/// Those of the call.
pub fn send_buffer(fd: BorrowedFd<'_>, bytes: i32) -> io::Result<()> {
    set_option(fd, libc::SO_SNDBUF, bytes)
}

fn set_option(fd: BorrowedFd<'_>, option: i32, value: i32) -> io::Result<()> {
    let (start, len) = ((&raw const value).cast(), size_of::<i32>() as libc::socklen_t);
    // SAFETY: pointer and length are those of a local integer.
    let result = unsafe { libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, option, start, len) };
    check(result as isize).map(drop)
}

/// The socket's cookie, as kernel programs see it too.
///
/// # Errors
/// Those of the call.
pub fn cookie(fd: impl AsFd) -> io::Result<u64> {
    let mut cookie = 0_u64;
    let mut len = size_of::<u64>() as libc::socklen_t;
    let (fd, start) = (fd.as_fd().as_raw_fd(), (&raw mut cookie).cast());
    // SAFETY: pointer and length are those of a local integer.
    let result =
        unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_COOKIE, start, &raw mut len) };
    check(result as isize)?;
    Ok(cookie)
}

/// Moves up to `len` bytes from `from` to `to`, one of them a pipe.
///
/// # Errors
/// Those of the call.
pub fn splice(from: impl AsFd, to: impl AsFd, len: usize) -> io::Result<usize> {
    let (from, to) = (from.as_fd().as_raw_fd(), to.as_fd().as_raw_fd());
    let none = std::ptr::null_mut();
    // SAFETY: no memory is passed; null offsets mean the current ones.
    check(unsafe { libc::splice(from, none, to, none, len, 0) })
}

/// Puts the pages of `bytes` into a pipe.
///
/// # Errors
/// Those of the call.
pub fn vmsplice(to: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    let list = IoSlice::new(bytes);
    let to = to.as_fd().as_raw_fd();
    // SAFETY: `IoSlice` is an iovec by its documentation; what is read from the pipe before `bytes` ends
    // is read from them.
    check(unsafe { libc::vmsplice(to, (&raw const list).cast(), 1, 0) })
}

/// The result of a call that returns −1 and sets errno.
///
/// # Errors
/// errno, when `result` is negative.
pub fn check(result: impl TryInto<isize>) -> io::Result<usize> {
    let result = result.try_into().unwrap_or(-1);
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
