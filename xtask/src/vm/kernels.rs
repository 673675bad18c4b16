//! Which kernels are tested.

use anyhow::{Context, Result};

/// One series of Debian's cloud kernels.
#[derive(Debug)]
pub struct Kernel {
    /// How it is called here: `6.1`, or `newest`.
    pub series: &'static str,
    /// The Debian suite that has it.
    pub suite: &'static str,
    /// The release this was last run with. When it is gone, the newest of the series is taken.
    pub pinned: &'static str,
    /// virtio-fs is a module there, so that an initramfs has to load it.
    pub needs_modules: bool,
    /// Whether payload is promised; otherwise only processes are.
    pub payload: bool,
    /// Ways to attach payload capture (`--hooks`), each run once by the scenario; none: it is left out.
    pub hooks: &'static [&'static str],
    /// The scenario also has probes in user space under load: where the core scenario does not run.
    pub uprobes: bool,
    /// `hooks` for the core scenario; `btf` is `auto` with `--btf` and no type information.
    pub core: &'static [&'static str],
    /// … in full, outside continuous integration.
    pub full: &'static [&'static str],
}

/// The kernels of `cargo xtask vm`.
pub const KERNELS: [Kernel; 5] = [
    Kernel {
        series: "5.10",
        suite: "bullseye-security",
        pinned: "5.10.0-46-cloud-amd64",
        needs_modules: true,
        payload: true,
        hooks: &["auto"],
        uprobes: false,
        core: &[],
        full: &["auto", "btf"],
    },
    Kernel {
        series: "6.1",
        suite: "bookworm-security",
        pinned: "6.1.0-56-cloud-amd64",
        needs_modules: true,
        payload: true,
        hooks: &["auto", "auto/4"],
        uprobes: false,
        core: &["auto"],
        full: &["auto", "kprobe"],
    },
    Kernel {
        series: "6.12",
        suite: "trixie-security",
        pinned: "6.12.117+deb13-cloud-amd64",
        needs_modules: false,
        payload: true,
        hooks: &["auto", "fexit", "auto/4"],
        uprobes: false,
        core: &["auto", "fexit", "kprobe", "btf"],
        full: &["auto", "fexit", "kprobe", "btf"],
    },
    Kernel {
        series: "6.18",
        suite: "trixie-backports",
        pinned: "6.18.15+deb13-cloud-amd64",
        needs_modules: false,
        payload: true,
        hooks: &[],
        uprobes: false,
        core: &[],
        full: &["auto", "fexit", "kprobe"],
    },
    Kernel {
        series: "newest",
        suite: "trixie-backports",
        pinned: "7.3.4+deb13-cloud-amd64",
        needs_modules: false,
        payload: true,
        hooks: &["auto", "auto/4"],
        uprobes: true,
        // From 7.0 on a program may be put off its processor, and calls of others there are then not shown
        // to it (counted as kernel_skipped): under emulation that is one in a hundred.
        core: &[],
        full: &["auto", "fexit", "kprobe"],
    },
];

/// The kernels of these names, or all that the scenario is run on.
pub fn choose(names: &[String]) -> Result<Vec<&'static Kernel>> {
    if names.is_empty() {
        return Ok(KERNELS.iter().filter(|kernel| !kernel.hooks.is_empty()).collect());
    }
    let find = |name: &String| {
        let known = KERNELS.map(|kernel| kernel.series).join(", ");
        KERNELS
            .iter()
            .find(|kernel| kernel.series == name)
            .with_context(|| format!("no kernel {name}: there are {known}"))
    };
    names.iter().map(find).collect()
}

/// The release to take out of a suite's package names, and whether it is the pinned one.
pub fn pick(kernel: &Kernel, packages: &str) -> Result<(String, bool)> {
    let releases: Vec<_> = packages
        .lines()
        .filter_map(|name| name.strip_prefix("linux-image-"))
        .filter(|release| release.ends_with("-cloud-amd64") && of_series(kernel, release))
        .collect();
    if releases.contains(&kernel.pinned) {
        return Ok((kernel.pinned.to_owned(), true));
    }
    let newest = releases.into_iter().max_by_key(|release| version(release));
    let newest =
        newest.with_context(|| format!("no cloud kernel {} in {}", kernel.series, kernel.suite))?;
    Ok((newest.to_owned(), false))
}

/// Three numbers at least: `6.1-cloud-amd64` is an empty package that names another.
fn of_series(kernel: &Kernel, release: &str) -> bool {
    let upstream = release.split(['-', '+']).next().unwrap_or(release);
    let whole = upstream.split('.').count() >= 3;
    let prefix = format!("{}.", kernel.series);
    whole && (kernel.series == "newest" || release.starts_with(&prefix))
}

/// Every number in it, so that 6.12.9 comes before 6.12.10.
fn version(release: &str) -> Vec<u64> {
    release
        .split(|byte: char| !byte.is_ascii_digit())
        .filter_map(|part| part.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pinned_release_is_taken_while_it_is_there() {
        let kernel = &KERNELS[1];
        let all = "linux-image-6.1.0-56-cloud-amd64\nlinux-image-6.1.0-57-cloud-amd64\n";
        assert_eq!(pick(kernel, all).unwrap(), (kernel.pinned.to_owned(), true));
    }

    #[test]
    fn otherwise_the_newest_of_the_series_by_number() {
        let packages = "linux-image-6.1-cloud-amd64\nlinux-image-6.1.0-9-cloud-amd64\n\
                        linux-image-6.1.0-10-cloud-amd64\nlinux-image-6.1.0-99-amd64\n\
                        linux-image-6.12.1+deb13-cloud-amd64\nlinux-image-6.1.0-60-cloud-amd64-dbg";
        let (release, pinned) = pick(&KERNELS[1], packages).unwrap();
        assert_eq!((release.as_str(), pinned), ("6.1.0-10-cloud-amd64", false));
        let (release, _) = pick(&KERNELS[4], packages).unwrap();
        assert_eq!(release, "6.12.1+deb13-cloud-amd64");
        assert!(pick(&KERNELS[0], packages).is_err());
    }
}
