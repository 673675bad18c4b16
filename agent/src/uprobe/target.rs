//! A file to its functions that are probed.

use super::bio;
use super::boringssl;
use super::go;
use super::library::{BLIND, INSIDE, Inner, LIBRARIES, Library};
use super::place;
use super::rustls;
use crate::runtime::context::Exported;
use agent_common::tls::Site;
use agent_core::elf::{Elf, Functions, Image};
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// A file for good: its inode may be used again, hence the times. As the kernel's probes see it: they sit on
/// the file of a layer, which is the same for all overlays above it, whereas each of these has a device number
/// of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileKey {
    /// Device; 0 on an overlay.
    pub device: u64,
    /// Inode: on an overlay that of the layer's file.
    pub inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileKey {
    /// Of an open file.
    pub fn of(file: &File) -> Option<FileKey> {
        let meta = file.metadata().ok()?;
        meta.is_file().then(|| FileKey {
            device: if is_on_overlay(file) { 0 } else { meta.dev() },
            inode: meta.ino(),
            size: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }
}

fn is_on_overlay(file: &File) -> bool {
    /// `OVERLAYFS_SUPER_MAGIC`.
    const OVERLAY: u64 = 0x794c_7630;
    rustix::fs::fstatfs(file).is_ok_and(|system| u64::try_from(system.f_type) == Ok(OVERLAY))
}

/// What a file turned out to be.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Libraries in it that are covered.
    pub covered: Vec<&'static str>,
    /// Libraries in it that are known and not covered.
    pub blind: Vec<&'static str>,
    /// Where to put a probe: offset in the file, and what is there. Each offset once.
    pub sites: Vec<(u64, Site)>,
    /// More places, which are of use only once a program with buffers of its own has been met: until then
    /// they would tax all others.
    pub spare: Vec<(u64, Site)>,
    /// It exports the variable by which trace contexts are published.
    pub context: Option<Exported>,
}

impl Findings {
    /// Go's TLS cannot be probed here: it is named like any other that is not covered.
    pub fn without_go(&mut self) {
        self.sites.retain(|(_, site)| !site.is_go());
        if self.covered.contains(&go::NAME) {
            self.covered.retain(|library| *library != go::NAME);
            self.blind.push(go::NAME);
        }
    }
}

/// Looks into a file that is, or may be, a library or a program.
pub fn examine(file: &File, path: &Path) -> Findings {
    let mut findings = Findings::default();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let blind = BLIND.iter().filter(|blind| name.starts_with(blind.file));
    findings.blind.extend(blind.map(|blind| blind.name));
    let Some(elf) = Elf::parse(Pieces(file)) else { return findings };
    findings.context = Exported::by(&elf);
    // What is linked into a program is not exported as a rule, but named in its full symbol table.
    let hidden = elf.functions(&|name| is_librarys(name) || rustls::is_method(name));
    for library in LIBRARIES {
        look_for(library, &elf, &hidden, &mut findings);
    }
    let methods = rustls::methods(&hidden);
    if !methods.is_empty() {
        findings.sites.extend(methods);
        findings.covered.push(rustls::NAME);
    }
    if elf.is_program() {
        go::look(file, &elf, &mut findings);
    }
    let is_small = file.metadata().is_ok_and(|meta| meta.len() <= MAX_SEARCHED);
    if findings.covered.is_empty() && (elf.is_program() || is_small) {
        look_inside(&elf, &mut findings);
    }
    if elf.is_too_large() {
        tracing::debug!(
            "{}: too much to look through, what is behind stays unknown",
            path.display()
        );
    }
    findings.sites.sort_unstable_by_key(|(offset, _)| *offset);
    findings.sites.dedup_by_key(|(offset, _)| *offset);
    findings
}

/// Longest shared library that is searched for texts: its programs' first calls wait meanwhile.
const MAX_SEARCHED: u64 = 64 << 20;

/// For what has no name that is known.
fn look_inside(elf: &Elf<Pieces<'_>>, findings: &mut Findings) {
    let marks = INSIDE.map(|inside| inside.mark);
    for (mark, places) in elf.marks(&marks) {
        let Some(inside) = INSIDE.iter().find(|inside| inside.mark == mark) else { continue };
        let functions = match mark {
            boringssl::MARK => boringssl::functions(elf, &places),
            _ => Vec::new(),
        };
        if functions.is_empty() {
            findings.blind.push(inside.name);
            continue;
        }
        // As for functions with names; all of them begin with a return to come.
        let placed = functions.into_iter().map(|(offset, site)| {
            (place::with_stack(offset, &elf.bytes(offset, place::LOOKED_AT)), site)
        });
        findings.sites.extend(placed);
        findings.covered.push(inside.name);
    }
}

fn is_librarys(name: &str) -> bool {
    let mut functions = LIBRARIES.iter().flat_map(|library| library.functions);
    functions.any(|function| function.symbol == name)
}

fn look_for(library: &Library, elf: &Elf<Pieces<'_>>, hidden: &Functions, findings: &mut Findings) {
    let exported;
    let found = if elf.exported(library.marks).len() == library.marks.len() {
        let names: Vec<&str> = library.functions.iter().map(|function| function.symbol).collect();
        exported = elf.exported(&names);
        &exported
    } else if library.marks.iter().all(|mark| hidden.contains_key(*mark)) {
        hidden
    } else {
        return;
    };
    let code = |symbol: &str| {
        let offset = *found.get(symbol)?;
        Some((offset, elf.bytes(offset, place::LOOKED_AT)))
    };
    let mut left_out = Vec::new();
    for inner in library.inner {
        let Some((offset, callers)) = shared(inner, elf, code) else { continue };
        if !callers.iter().any(|caller| left_out.contains(caller)) {
            findings.sites.push((offset, inner.site));
            left_out.extend(callers);
        }
    }
    left_out.extend(library.forwards.iter().filter_map(|(symbol, to)| {
        let (_, code) = code(symbol)?;
        (found.contains_key(*to) && place::adds_zeros(&code)).then_some(*symbol)
    }));
    let sites = library.functions.iter().filter_map(|function| {
        let (offset, code) = code(function.symbol)?;
        let place = match function.site.has_return() {
            true => place::with_stack(offset, &code),
            false => place::with_arguments(offset, &code),
        };
        (!left_out.contains(&function.symbol)).then_some((place, function.site))
    });
    let (ciphertext, sites): (Vec<_>, Vec<_>) = sites.partition(|(_, site)| site.is_ciphertext());
    findings.sites.extend(sites);
    // A program has it for itself, and has no use for it without buffers.
    match if ciphertext.is_empty() || elf.is_program() { None } else { bio::writers(elf) } {
        Some(writers) => {
            let place =
                |offset| place::with_arguments(offset, &elf.bytes(offset, place::LOOKED_AT));
            let sites = writers.map(|offset| (place(offset), Site::ciphertext(1)));
            findings.sites.extend(sites);
            let spare = ciphertext.into_iter().map(|(at, site)| (at, site.past_all()));
            findings.spare.extend(spare);
        }
        None => findings.sites.extend(ciphertext),
    }
    findings.covered.push(library.name);
}

/// Where to probe a function that has no name, and those with names that it does the work of. `None`
/// where that is not certain, or costs no less.
fn shared(
    inner: &Inner,
    elf: &Elf<Pieces<'_>>,
    code: impl Fn(&str) -> Option<(u64, Vec<u8>)>,
) -> Option<(u64, Vec<&'static str>)> {
    let (offset, exact) = code(inner.exact)?;
    let callee = place::passes_on(offset, &exact)?;
    let calls_it = |symbol: &&&str| {
        code(symbol).and_then(|(offset, code)| place::passes_two_on(offset, &code)) == Some(callee)
    };
    let mut callers: Vec<&str> = inner.others.iter().filter(calls_it).copied().collect();
    // One function alone may call anything first.
    if callers.is_empty() {
        return None;
    }
    callers.push(inner.exact);
    let code = elf.bytes(callee, place::LOOKED_AT);
    let place = place::with_stack(callee, &code);
    let at = usize::try_from(place - callee).ok()?;
    place::is_cheap(code.get(at..)?).then_some((place, callers))
}

/// An open file, read where it is needed: it may shrink while it is read.
#[derive(Clone, Copy)]
pub struct Pieces<'a>(&'a File);

impl Image for Pieces<'_> {
    fn read(&self, offset: u64, len: usize) -> Option<Vec<u8>> {
        let size = self.0.metadata().ok()?.len();
        // Before memory is taken: a length in a forged file may be anything.
        if offset.checked_add(len as u64)? > size {
            return None;
        }
        let mut bytes = vec![0; len];
        self.0.read_exact_at(&mut bytes, offset).ok()?;
        Some(bytes)
    }

    fn stored(&self) -> u64 {
        self.0.metadata().map_or(0, |meta| meta.blocks().saturating_mul(512))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uprobe::overlays::Overlays;

    /// Two containers of one image map one file: one key. Another file, or one that a container has changed,
    /// has another.
    #[test]
    fn overlays_of_one_layer_have_one_key() {
        let lower = ["file", "changed", "twin"].map(|name| (name, "library"));
        let change = "chmod 700 merged2/changed";
        let Some(overlays) = Overlays::mount("overlay_keys", &lower, change) else { return };
        let device = |merged| overlays.open(merged, "file").metadata().unwrap().dev();
        assert_ne!(device("merged1"), device("merged2"), "what the key must not depend on");
        let key = |merged, name| FileKey::of(&overlays.open(merged, name)).unwrap();
        assert_eq!(key("merged1", "file"), key("merged2", "file"));
        assert_ne!(key("merged1", "file"), key("merged1", "twin"));
        assert_ne!(key("merged1", "changed"), key("merged2", "changed"));
        // Elsewhere the device counts.
        assert_ne!(key("lower", "file").device, 0);
    }

    /// An installed library; a skip that nobody has given leave for fails the run.
    fn installed(test: &str, path: &str) -> Option<File> {
        let file = File::open(path);
        if let Err(error) = &file {
            println!("SKIP {test}: {path}: {error}");
        }
        file.ok()
    }

    /// A file of holes: what is read of it hangs on what it takes on its disk.
    #[test]
    fn holes_of_a_file_are_not_stored() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(512 << 20).unwrap();
        file.write_all_at(&[1; 8192], 0).unwrap();
        file.sync_all().unwrap();
        assert!((8192..1 << 20).contains(&Pieces(&file).stored()), "{}", Pieces(&file).stored());
    }

    /// Debian 12's libcrypto, where it is installed: sockets' records pass none of the places.
    #[test]
    fn buffers_of_an_installed_library_are_probed_and_not_its_sockets() {
        let path = "/usr/lib/x86_64-linux-gnu/libcrypto.so.3";
        let Some(file) = installed("libcrypto_buffers", path) else { return };
        let findings = examine(&file, Path::new(path));
        let write = Elf::parse(Pieces(&file)).unwrap().exported(&["BIO_write"])["BIO_write"];
        let near = |at: u64| (write..write + place::LOOKED_AT as u64).contains(&at);
        let [(spare, _)] = findings.spare[..] else { panic!("{findings:?}") };
        assert!(near(spare), "{findings:?}");
        let [(one, _), (other, _)] = findings.sites[..] else { panic!("{findings:?}") };
        assert!(!near(one) && !near(other), "{findings:?}");
        for at in [one, other, spare] {
            assert!(place::is_cheap(&Pieces(&file).read(at, 8).unwrap()), "{at:#x}");
        }
    }

    /// Debian 12's libssl, where it is installed: it has the shapes that the tables know.
    #[test]
    fn calls_of_installed_libraries_are_probed_where_it_is_cheap() {
        let path = "/usr/lib/x86_64-linux-gnu/libssl.so.3";
        let Some(file) = installed("libssl_calls", path) else { return };
        let findings = examine(&file, Path::new(path));
        let pieces = Pieces(&file);
        for site in [Site::receive_counted(0, 1, 3), Site::send_counted(0, 1, 3)] {
            let of_site = findings.sites.iter().filter(|(_, one)| *one == site);
            let found: Vec<u64> = of_site.map(|(at, _)| *at).collect();
            let [at] = found[..] else { panic!("{path}: {found:?}") };
            assert!(place::is_cheap(&pieces.read(at, 8).unwrap()), "{path}: {at:#x}");
        }
    }
}
