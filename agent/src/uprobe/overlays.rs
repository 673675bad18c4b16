//! For tests: two overlays above one layer, as two containers of one image have them.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// `merged1` and `merged2` above `lower`, in a mount namespace that ends with this value.
pub(crate) struct Overlays {
    dir: PathBuf,
    /// Holds the namespace until its input ends.
    shell: Child,
}

impl Overlays {
    /// `lower`: names and contents of the layer's files. `then`: what a shell does in the directory of all
    /// three. `None`, said as a skip of `test`, where no overlay can be mounted.
    pub(crate) fn mount(test: &str, lower: &[(&str, &str)], then: &str) -> Option<Overlays> {
        if !rustix::process::geteuid().is_root() {
            println!("SKIP {test}: not root");
            return None;
        }
        let dir = std::env::temp_dir().join(format!("kernspan-{test}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(dir.join("lower")).unwrap();
        for (name, contents) in lower {
            std::fs::write(dir.join("lower").join(name), contents).unwrap();
        }
        let mut script = "set -e; mount --make-rprivate /; grep -q overlay /proc/filesystems \
                          || modprobe overlay || { echo absent; exit; }; "
            .to_owned();
        for number in 1..3 {
            for part in ["upper", "work", "merged"] {
                std::fs::create_dir(dir.join(format!("{part}{number}"))).unwrap();
            }
            script += &format!(
                "mount -t overlay none -o lowerdir=lower,upperdir=upper{number},workdir=work{number} \
                 merged{number}; "
            );
        }
        script += &format!("{then}\necho exists; cat");
        let mut shell = Command::new("unshare");
        shell.args(["--mount", "sh", "-c", &script]).current_dir(&dir);
        let shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut overlays = Overlays { dir, shell };
        let mut word = [0; 6];
        let said = overlays.shell.stdout.as_mut().unwrap().read_exact(&mut word);
        said.expect("the overlays are mounted");
        if &word == b"absent" {
            println!("SKIP {test}: no overlayfs");
            return None;
        }
        Some(overlays)
    }

    /// A file in one of the three.
    pub(crate) fn open(&self, directory: &str, name: &str) -> File {
        let root = Path::new("/proc").join(self.shell.id().to_string()).join("root");
        let dir = self.dir.strip_prefix("/").unwrap();
        File::open(root.join(dir).join(directory).join(name)).unwrap()
    }
}

impl Drop for Overlays {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
