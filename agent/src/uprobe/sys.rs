//! System calls that have no safe wrapper: loading a program of the uprobe_multi kind (aya 0.14 cannot),
//! attaching it, and watching executable mappings.
//!
//! Layouts: `union bpf_attr` (include/uapi/linux/bpf.h), `struct perf_event_attr` and
//! `struct perf_event_mmap_page` (include/uapi/linux/perf_event.h).

use aya_obj::generated::bpf_insn;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

const BPF_PROG_LOAD: i32 = 5;
const BPF_LINK_CREATE: i32 = 28;
const BPF_PROG_TYPE_KPROBE: u32 = 2;
const BPF_PERF_EVENT: u32 = 41;
const BPF_TRACE_UPROBE_MULTI: u32 = 48;
const BPF_F_UPROBE_MULTI_RETURN: u32 = 1;

/// How a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// All places of a file by one link (Linux 6.6).
    Multi,
    /// One perf event a place (attachment cookies: Linux 5.15).
    Perf,
}

impl Way {
    /// As it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Way::Multi => "uprobe_multi",
            Way::Perf => "uprobe",
        }
    }
}

#[repr(C)]
#[derive(Default)]
struct ProgramLoad {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach_type: u32,
}

/// Loads a program of the kprobe type, to be attached in this way. `name`: as others see it, its first 15
/// bytes. The error's text is the verifier's last words.
pub fn load(name: &str, code: &[bpf_insn], license: &CStr, way: Way) -> Result<OwnedFd, String> {
    let mut log = vec![0_u8; 1 << 16];
    let mut shown = [0; 16];
    for (to, from) in shown.iter_mut().take(15).zip(name.bytes()) {
        *to = from;
    }
    let mut attr = ProgramLoad {
        kind: BPF_PROG_TYPE_KPROBE,
        name: shown,
        instruction_count: u32::try_from(code.len()).unwrap_or(u32::MAX),
        instructions: code.as_ptr() as u64,
        license: license.as_ptr() as u64,
        attach_type: if way == Way::Multi { BPF_TRACE_UPROBE_MULTI } else { 0 },
        ..ProgramLoad::default()
    };
    if let Ok(program) = bpf(BPF_PROG_LOAD, &attr) {
        return Ok(program);
    }
    // Again with a log, which costs time.
    attr.log_level = 1;
    attr.log_size = u32::try_from(log.len()).unwrap_or(0);
    attr.log = log.as_mut_ptr() as u64;
    bpf(BPF_PROG_LOAD, &attr).map_err(|error| {
        let text = String::from_utf8_lossy(&log);
        let lines = text.trim_end_matches('\0').lines().rev();
        let last: Vec<_> = lines.filter(|line| !line.trim().is_empty()).take(3).collect();
        format!("{error}: {}", last.into_iter().rev().collect::<Vec<_>>().join(" / "))
    })
}

#[repr(C)]
#[derive(Default)]
struct LinkMulti {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    path: u64,
    offsets: u64,
    reference_counters: u64,
    cookies: u64,
    count: u32,
    multi_flags: u32,
    pid: u32,
    pad: u32,
}

/// Attaches a program to places (offsets) of the file at `path`, each with its cookie.
pub fn link_multi(
    program: BorrowedFd<'_>,
    path: &CStr,
    offsets: &[u64],
    cookies: &[u64],
    on_return: bool,
) -> io::Result<OwnedFd> {
    let count = u32::try_from(offsets.len().min(cookies.len())).unwrap_or(0);
    let attr = LinkMulti {
        program: raw(program),
        attach_type: BPF_TRACE_UPROBE_MULTI,
        path: path.as_ptr() as u64,
        offsets: offsets.as_ptr() as u64,
        cookies: cookies.as_ptr() as u64,
        count,
        multi_flags: if on_return { BPF_F_UPROBE_MULTI_RETURN } else { 0 },
        ..LinkMulti::default()
    };
    bpf(BPF_LINK_CREATE, &attr)
}

#[repr(C)]
#[derive(Default)]
struct LinkPerf {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    cookie: u64,
}

/// Attaches a program to one place. Both descriptors hold it.
pub fn link_perf(
    program: BorrowedFd<'_>,
    path: &CStr,
    offset: u64,
    cookie: u64,
    kind: u32,
    config: u64,
) -> io::Result<[OwnedFd; 2]> {
    let mut attr = Attr::new(kind, config);
    attr.set(Attr::CONFIG1, path.as_ptr() as u64);
    attr.set(Attr::CONFIG2, offset);
    let event = attr.open(-1, 0)?;
    let attr = LinkPerf {
        program: raw(program),
        target: raw(event.as_fd()),
        attach_type: BPF_PERF_EVENT,
        cookie,
        ..LinkPerf::default()
    };
    let link = bpf(BPF_LINK_CREATE, &attr)?;
    Ok([link, event])
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    u32::try_from(fd.as_raw_fd()).unwrap_or(u32::MAX)
}

fn bpf<T>(command: i32, attr: &T) -> io::Result<OwnedFd> {
    // SAFETY: `attr` is a prefix of `union bpf_attr` for this command (the kernel takes the rest as 0);
    // what its addresses name lives until the call returns.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of::<T>()) };
    owned(result)
}

fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    match i32::try_from(result) {
        // SAFETY: the kernel has just made this descriptor for nobody else.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// `struct perf_event_attr` of 112 bytes (`PERF_ATTR_SIZE_VER5`), as words.
struct Attr([u64; 14]);

impl Attr {
    const FLAGS: usize = 5;
    const WAKEUP: usize = 6;
    const CONFIG1: usize = 7;
    const CONFIG2: usize = 8;

    fn new(kind: u32, config: u64) -> Attr {
        let mut words = [0; 14];
        words[0] = u64::from(kind) | 112 << 32;
        words[1] = config;
        Attr(words)
    }

    fn set(&mut self, word: usize, value: u64) {
        if let Some(slot) = self.0.get_mut(word) {
            *slot = value;
        }
    }

    fn open(&self, pid: i32, cpu: i32) -> io::Result<OwnedFd> {
        const CLOEXEC: u64 = 8;
        // SAFETY: the attribute says its own size; the addresses in it live until the call returns.
        let result = unsafe {
            libc::syscall(libc::SYS_perf_event_open, self.0.as_ptr(), pid, cpu, -1, CLOEXEC)
        };
        owned(result)
    }
}

/// Pages of a ring's data, a power of two: 64 KiB hold some 500 mappings.
const DATA_PAGES: usize = 16;

/// The kernel's ring of executable mappings on one CPU.
pub struct MappingRing {
    event: OwnedFd,
    base: *mut u8,
    page: usize,
}

// SAFETY: the ring has one reader at a time (`&mut`), whichever thread that is on.
unsafe impl Send for MappingRing {}

impl MappingRing {
    const SOFTWARE: u32 = 1;
    const DUMMY: u64 = 9;
    /// `mmap`, `watermark`, `mmap2`.
    const FLAGS: u64 = 1 << 8 | 1 << 14 | 1 << 23;
    /// Offsets in `struct perf_event_mmap_page`.
    const HEAD: usize = 1024;
    const TAIL: usize = 1032;

    /// Watches the mappings that are made on `cpu`.
    pub fn open(cpu: i32) -> io::Result<MappingRing> {
        let mut attr = Attr::new(Self::SOFTWARE, Self::DUMMY);
        attr.set(Attr::FLAGS, Self::FLAGS);
        // Wakes its reader with the first byte.
        attr.set(Attr::WAKEUP, 1);
        let event = attr.open(-1, cpu)?;
        let page = rustix::param::page_size();
        // SAFETY: a new mapping at a place of the kernel's choice.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                (1 + DATA_PAGES) * page,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                event.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(MappingRing { event, base: base.cast(), page })
    }

    /// Takes all records that are there, each with its header.
    pub fn drain(&mut self, mut take: impl FnMut(&[u8])) {
        // SAFETY: both counters lie in the first page, which is mapped as long as `self` lives; the
        // kernel writes one, this side the other.
        let (head, tail) = unsafe {
            (
                &*self.base.add(Self::HEAD).cast::<AtomicU64>(),
                &*self.base.add(Self::TAIL).cast::<AtomicU64>(),
            )
        };
        let end = head.load(Ordering::Acquire);
        let mut at = tail.load(Ordering::Relaxed);
        let mut record = Vec::new();
        while at < end {
            self.copy(at, 8, &mut record);
            let size = record.get(6..8).and_then(|size| size.first_chunk().copied());
            let size = u64::from(size.map_or(0, u16::from_le_bytes));
            if size < 8 || size > end - at {
                at = end;
                break;
            }
            self.copy(at, size as usize, &mut record);
            take(&record);
            at += size;
        }
        tail.store(at, Ordering::Release);
    }

    fn copy(&self, at: u64, len: usize, to: &mut Vec<u8>) {
        let size = DATA_PAGES * self.page;
        to.clear();
        for index in 0..len {
            let place = (at as usize).wrapping_add(index) & (size - 1);
            // SAFETY: the data follow the first page, and `place` is within them. The kernel does not
            // write there before `tail` is raised.
            to.push(unsafe { self.base.add(self.page + place).read_volatile() });
        }
    }
}

impl AsFd for MappingRing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

impl Drop for MappingRing {
    fn drop(&mut self) {
        // SAFETY: mapped in `open` with this length, and never handed out.
        unsafe { libc::munmap(self.base.cast(), (1 + DATA_PAGES) * self.page) };
    }
}
