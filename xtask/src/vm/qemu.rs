//! One boot: virtiofsd for the files, QEMU for the machine.

use super::Output;
use super::cpio::Archive;
use super::fetch::Image;
use super::guest::{self, STATUS};
use crate::command::{self, command};
use crate::paths;
use crate::service::{Service, scratch};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const MEMORY: &str = "2G";

/// Files of one boot; gone with it.
struct Files(PathBuf);

impl Files {
    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    fn text(&self, name: &str) -> String {
        let bytes = fs::read(self.0.join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\r', "")
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // What is left in the temporary directory harms nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What a guest wrote to its two serial ports.
pub struct Boot {
    console: String,
    output: String,
}

impl Boot {
    /// What the script left, if it came to its end.
    pub fn output(&self) -> Option<Output> {
        let (text, status) = self.output.rsplit_once(STATUS)?;
        Some(Output { status: status.trim().parse().ok()?, text: text.to_owned() })
    }

    /// Whether the kernel panicked.
    pub fn panicked(&self) -> bool {
        self.console.contains("Kernel panic")
    }

    /// The end of what it said.
    pub fn tail(&self) -> String {
        let both = format!("{}\n{}", self.console, self.output);
        let lines: Vec<_> = both.lines().collect();
        lines.iter().skip(lines.len().saturating_sub(40)).copied().collect::<Vec<_>>().join("\n")
    }
}

/// Boots the kernel, runs the script, waits for the end; kills the guest at the limit.
pub fn boot(image: &Image, script: &str, processors: u32, limit: Duration) -> Result<Boot> {
    let files = Files(scratch(&format!("vm-{}", image.release))?);
    fs::write(files.0.join("init"), guest::init(script))?;
    make_executable(&files.0.join("init"))?;
    let _virtiofsd = start_virtiofsd(&files)?;
    let mut qemu = machine(&files, image, processors);
    if image.modules.is_empty() {
        let root = format!("rootfstype=virtiofs root=rootfs ro init={}", files.path("init"));
        qemu.arg("-append").arg(format!("{CONSOLE} {root}"));
    } else {
        fs::write(files.0.join("initramfs"), initramfs(image, &files.path("init"))?)?;
        qemu.args(["-initrd", &files.path("initramfs"), "-append", CONSOLE]);
    }
    let mut child = qemu.spawn().with_context(|| command::shown(&qemu))?;
    let status = command::wait(&mut child, limit)?;
    let boot = Boot { console: files.text("console"), output: files.text("output") };
    match status {
        Some(status) if status.success() => Ok(boot),
        Some(status) => bail!("QEMU ended with {status}:\n{}", boot.tail()),
        None => bail!("the guest hung for {} s; it said last:\n{}", limit.as_secs(), boot.tail()),
    }
}

/// BPF among the security modules: 5.10 and others do not enable it by themselves. A panic reboots,
/// which ends QEMU.
const CONSOLE: &str = "console=ttyS0 quiet panic=-1 lsm=landlock,lockdown,yama,bpf";

fn machine(files: &Files, image: &Image, processors: u32) -> Command {
    let mut qemu = command("qemu-system-x86_64", [] as [&str; 0]);
    qemu.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    qemu.args(["-accel", "tcg", "-cpu", "max", "-smp", &processors.to_string(), "-m", MEMORY]);
    qemu.args(["-machine", "q35,memory-backend=memory", "-object"]);
    qemu.arg(format!("memory-backend-memfd,id=memory,size={MEMORY},share=on"));
    qemu.args(["-chardev", &format!("socket,id=files,path={}", files.path("socket"))]);
    qemu.args(["-device", "vhost-user-fs-pci,chardev=files,tag=rootfs"]);
    qemu.args(["-serial", &format!("file:{}", files.path("console"))]);
    qemu.args(["-serial", &format!("file:{}", files.path("output"))]);
    qemu.arg("-kernel").arg(&image.kernel);
    qemu
}

fn start_virtiofsd(files: &Files) -> Result<Service> {
    let places = ["/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd"];
    let program = places.into_iter().find(|place| Path::new(place).is_file());
    let program = program.context("virtiofsd is missing: run `cargo xtask setup`")?;
    let socket = files.path("socket");
    let mut daemon = command(program, [format!("--socket-path={socket}")]);
    daemon.args(["-o", "source=/", "-o", "cache=always", "-o", "xattr", "-o", "sandbox=chroot"]);
    let mut service = Service::start("virtiofsd", &mut daemon, &files.0)?;
    service.until(Duration::from_secs(10), || Path::new(&socket).exists())?;
    Ok(service)
}

fn initramfs(image: &Image, init: &str) -> Result<Vec<u8>> {
    let busybox =
        paths::program("busybox").context("busybox is missing: run `cargo xtask setup`")?;
    let mut archive = Archive::default();
    for directory in ["bin", "dev", "root"] {
        archive.directory(directory);
    }
    archive.file("bin/busybox", &fs::read(busybox)?);
    let mut names = Vec::new();
    for module in &image.modules {
        let name = module.file_name().context("a module without a name")?.display().to_string();
        archive.file(&name, &fs::read(module)?);
        names.push(name);
    }
    archive.file("init", guest::initramfs_init(&names, init).as_bytes());
    Ok(archive.finish())
}

fn make_executable(file: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(file, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_without_a_status_has_no_output() {
        let boot = |output: &str| Boot { console: String::new(), output: output.to_owned() };
        assert!(boot("text\n").output().is_none());
        let output = boot("text\nkernspan-vm-exit: 3\n").output().unwrap();
        assert_eq!((output.text.as_str(), output.status), ("text\n", 3));
    }
}
