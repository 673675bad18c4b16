//! The only system calls here that nobody wraps: a kernel program on a tracing event.

#![expect(unsafe_code, reason = "perf_event_open and its ioctl have no safe wrapper")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// `PERF_TYPE_TRACEPOINT`, `PERF_ATTR_SIZE_VER0` (include/uapi/linux/perf_event.h).
const TRACEPOINT: u64 = 2;
const ATTRIBUTE_SIZE: u64 = 64;
/// `PERF_FLAG_FD_CLOEXEC`.
const CLOSE_ON_EXEC: libc::c_ulong = 1 << 3;
/// `PERF_EVENT_IOC_SET_BPF`, `PERF_EVENT_IOC_ENABLE`.
const SET_PROGRAM: libc::c_ulong = 0x4004_2408;
const ENABLE: libc::c_ulong = 0x2400;

/// Runs a kernel program at each tracing event of this number, on every CPU, until the descriptor is
/// closed.
///
/// # Errors
/// The system's word.
pub fn run_at_event(event: u64, program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // struct perf_event_attr: type and size, config; the rest 0.
    let mut attribute = [0_u64; ATTRIBUTE_SIZE as usize / 8];
    attribute[0] = TRACEPOINT | ATTRIBUTE_SIZE << 32;
    attribute[1] = event;
    // All processes. The CPU does not matter: the program runs on every one.
    let (process, cpu, group) = (-1, 0, -1);
    // SAFETY: the attribute is alive for the call, as long as it says, and only read.
    let fd = unsafe {
        let address = attribute.as_ptr();
        libc::syscall(libc::SYS_perf_event_open, address, process, cpu, group, CLOSE_ON_EXEC)
    };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: a new descriptor that nobody else owns.
    let opened = unsafe { OwnedFd::from_raw_fd(fd) };
    control(opened.as_fd(), SET_PROGRAM, program.as_raw_fd())?;
    control(opened.as_fd(), ENABLE, 0)?;
    Ok(opened)
}

fn control(event: BorrowedFd<'_>, request: libc::c_ulong, argument: i32) -> io::Result<()> {
    // SAFETY: both requests take a number, no pointer.
    let result = unsafe { libc::ioctl(event.as_raw_fd(), request as _, argument) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
