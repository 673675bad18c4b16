//! Kernels out of Debian packages, kept in the cache. apt runs with a configuration, lists and
//! state of its own: the machine's are not touched.

use super::kernels::{Kernel, pick};
use super::mirror::{Mirror, signed_by};
use crate::command::{command, output};
use crate::paths;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Modules that an initramfs loads with all they depend on: the bus, and the file system.
const MODULES: [&str; 2] = ["virtio_pci", "virtiofs"];

/// A kernel ready to boot.
#[derive(Debug)]
pub struct Image {
    /// `uname -r` of it.
    pub release: String,
    /// The compressed kernel.
    pub kernel: PathBuf,
    /// Modules to load, in order; empty when virtio-fs is built in.
    pub modules: Vec<PathBuf>,
}

/// The kernel from the cache, else from the machine's Debian mirror.
pub fn image(kernel: &Kernel) -> Result<Image> {
    let home = paths::cache("kernels").join(kernel.series);
    // Two lines: the release that was wanted, the one that was had.
    let note = home.join("release");
    let had = fs::read_to_string(&note).unwrap_or_default();
    match had.trim().split_once('\n') {
        Some((wanted, release)) if wanted == kernel.pinned => return open(kernel, &home, release),
        _ => {}
    }
    let release = fetch(kernel, &home)?;
    fs::write(&note, format!("{}\n{release}\n", kernel.pinned))?;
    open(kernel, &home, &release)
}

fn open(kernel: &Kernel, home: &Path, release: &str) -> Result<Image> {
    let root = home.join(release);
    // Since 6.19 it lies beside the modules.
    let places = [format!("boot/vmlinuz-{release}"), format!("usr/lib/modules/{release}/vmlinuz")];
    let found = places.iter().map(|place| root.join(place)).find(|file| file.is_file());
    let file = found.with_context(|| format!("no kernel in {}: remove it", root.display()))?;
    let modules = if kernel.needs_modules { modules(&root)? } else { Vec::new() };
    Ok(Image { release: release.to_owned(), kernel: file, modules })
}

fn fetch(kernel: &Kernel, home: &Path) -> Result<String> {
    let apt = Apt::new(kernel.suite)?;
    println!("vm: fetching the lists of {}", kernel.suite);
    output(apt.get().args(["update", "-qq"]))?;
    let names = output(apt.cache().args(["pkgnames", "linux-image-"]))?;
    let (release, pinned) = pick(kernel, &names)?;
    if !pinned {
        println!("vm: {} is gone from {}: taking {release}", kernel.pinned, kernel.suite);
    }
    // Since 6.19 the image is a package of its own, and the modules, which checks load, are another.
    let split = output(apt.cache().args(["pkgnames", &format!("linux-binary-{release}")]))?;
    let kinds: &[&str] = if split.trim().is_empty() { &["image"] } else { &["binary", "modules"] };
    for kind in kinds {
        unpack(&apt, &format!("linux-{kind}-{release}"), &home.join(&release))?;
    }
    Ok(release)
}

fn unpack(apt: &Apt, package: &str, into: &Path) -> Result<()> {
    let downloads = into.join("download");
    fs::create_dir_all(&downloads)?;
    println!("vm: fetching {package}");
    output(apt.get().args(["download", "-qq", package]).current_dir(&downloads))?;
    let file = fs::read_dir(&downloads)?.flatten().next().context("apt-get fetched nothing")?;
    output(command("dpkg", ["-x"]).arg(file.path()).arg(into))?;
    fs::remove_dir_all(&downloads)?;
    Ok(())
}

/// Files of the modules in the order in which they can be loaded.
fn modules(root: &Path) -> Result<Vec<PathBuf>> {
    let text = output(command("find", [root]).args(["-name", "*.ko"]))?;
    let files: Vec<_> = text.lines().map(PathBuf::from).collect();
    let mut order = Vec::new();
    for name in MODULES {
        add_module(name, &files, &mut order)?;
    }
    ensure!(!order.is_empty(), "no virtio-fs module in {}", root.display());
    Ok(order)
}

/// Adds a module behind those it depends on. One without a file is built in.
fn add_module(name: &str, files: &[PathBuf], order: &mut Vec<PathBuf>) -> Result<()> {
    let named = |file: &&PathBuf| {
        file.file_stem().is_some_and(|stem| stem.to_string_lossy().replace('-', "_") == name)
    };
    let Some(file) = files.iter().find(named) else { return Ok(()) };
    if order.contains(file) {
        return Ok(());
    }
    for needed in dependencies(&fs::read(file)?) {
        add_module(&needed.replace('-', "_"), files, order)?;
    }
    order.push(file.clone());
    Ok(())
}

/// The `depends=a,b` entry of a module's `.modinfo` section (NUL-terminated strings).
fn dependencies(module: &[u8]) -> Vec<String> {
    let mut entries = module.split(|&byte| byte == 0);
    let found = entries.find_map(|entry| entry.strip_prefix(b"depends="));
    let names = String::from_utf8_lossy(found.unwrap_or_default()).into_owned();
    names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// apt with everything it reads and writes in one directory of the cache, for one suite.
struct Apt(PathBuf);

impl Apt {
    fn new(suite: &str) -> Result<Apt> {
        let home = paths::cache("apt").join(suite);
        for directory in ["lists/partial", "cache/archives/partial", "none"] {
            fs::create_dir_all(home.join(directory))?;
        }
        let mirror = Mirror::of_this_machine()?;
        let source = format!("deb {} {} {suite} main\n", signed_by(), mirror.of(suite));
        fs::write(home.join("sources.list"), source)?;
        fs::write(home.join("status"), "")?;
        Ok(Apt(home))
    }

    fn get(&self) -> Command {
        self.configured("apt-get")
    }

    fn cache(&self) -> Command {
        self.configured("apt-cache")
    }

    /// The machine's settings (proxies, certificates) stay in force; only places change.
    fn configured(&self, program: &str) -> Command {
        let home = self.0.display();
        let mut apt = command(program, [] as [&str; 0]);
        for setting in [
            format!("Dir::Etc::sourcelist={home}/sources.list"),
            format!("Dir::Etc::sourceparts={home}/none"),
            format!("Dir::Etc::preferences={home}/none/preferences"),
            format!("Dir::Etc::preferencesparts={home}/none"),
            format!("Dir::State::lists={home}/lists"),
            format!("Dir::State::status={home}/status"),
            format!("Dir::Cache={home}/cache"),
            "Acquire::Languages=none".into(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".into(),
            "APT::Sandbox::User=root".into(),
        ] {
            apt.arg("-o").arg(setting);
        }
        apt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_of_a_module_are_read() {
        let module = b"\x7fELF\0name=virtiofs\0depends=fuse,virtio-ring\0retpoline=Y\0";
        assert_eq!(dependencies(module), ["fuse", "virtio-ring"]);
        assert!(dependencies(b"depends=\0").is_empty());
        assert!(dependencies(b"no such entry").is_empty());
    }
}
