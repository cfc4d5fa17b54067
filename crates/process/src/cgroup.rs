//! Control groups (cgroup v2): hold a replica to its limits where the system lets this process make groups.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use coracle_base::ByteCount;
use coracle_serving::ProcessLimits;

/// Where replicas' groups are made.
#[derive(Clone, Debug)]
pub struct Cgroups {
    /// The group of this process, which replicas' groups are made in; or why none can be.
    parent: Result<PathBuf, String>,
}

/// The controllers that limits need.
const CONTROLLERS: [&str; 2] = ["cpu", "memory"];
/// The group that this process moves to: a group with groups in it may hold no process itself.
const OWN_GROUP: &str = "coracle-server";

impl Cgroups {
    /// Finds out whether groups can be made within this process's own.
    #[must_use]
    pub fn find() -> Self {
        let parent = own_group().and_then(|own| prepare(&own).map(|()| own));
        Self { parent }
    }

    /// Returns that no groups can be made.
    #[must_use]
    pub fn none(why: &str) -> Self {
        Self {
            parent: Err(why.to_owned()),
        }
    }

    /// Makes a group with these limits; returns it, and in words how the limits are held.
    pub(crate) fn create(&self, name: &str, limits: ProcessLimits) -> (Option<Cgroup>, String) {
        if limits == ProcessLimits::default() {
            return (None, String::new());
        }
        let made = match &self.parent {
            Ok(parent) => Cgroup::create(&parent.join(format!("coracle-{name}")), limits)
                .map_err(|error| format!("cannot make a control group: {error}")),
            Err(why) => Err(why.clone()),
        };
        match made {
            Ok(cgroup) => (
                Some(cgroup),
                format!("{}: held by a control group", in_words(limits)),
            ),
            Err(why) => (None, without_group(limits, &why)),
        }
    }
}

fn in_words(limits: ProcessLimits) -> String {
    let memory = limits
        .memory_bytes
        .map(|bytes| format!("memory {}", ByteCount::new(bytes).to_rounded()));
    let cpu = limits.cpu_millis.map(|millis| format!("cpu {millis}m"));
    let parts: Vec<String> = memory.into_iter().chain(cpu).collect();
    parts.join(", ")
}

fn without_group(limits: ProcessLimits, why: &str) -> String {
    let memory = ProcessLimits {
        cpu_millis: None,
        ..limits
    };
    let cpu = ProcessLimits {
        memory_bytes: None,
        ..limits
    };
    let memory = limits
        .memory_bytes
        .map(|_| format!("{}: looked at once a second", in_words(memory)));
    let cpu = limits
        .cpu_millis
        .map(|_| format!("{}: not held", in_words(cpu)));
    let parts: Vec<String> = memory.into_iter().chain(cpu).collect();
    format!("{} ({why})", parts.join("; "))
}

/// Returns the directory of this process's own group.
fn own_group() -> Result<PathBuf, String> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let mounts = read("/proc/self/mountinfo");
    let mount = mounts.lines().find_map(cgroup2_mount);
    let groups = read("/proc/self/cgroup");
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"));
    match (mount, own) {
        (Some(mount), Some(own)) => Ok(Path::new(&mount).join(own)),
        _ => Err("this system has no cgroup v2".to_owned()),
    }
}

/// Reads where a line of `/proc/self/mountinfo` mounts cgroup v2.
fn cgroup2_mount(line: &str) -> Option<String> {
    let (mount, file_system) = line.split_once(" - ")?;
    let is_cgroup2 = file_system.split(' ').next() == Some("cgroup2");
    let point = mount.split(' ').nth(4)?;
    is_cgroup2.then(|| point.to_owned())
}

/// Passes the controllers on to the groups within `own`.
fn prepare(own: &Path) -> Result<(), String> {
    let there = fs::read_to_string(own.join("cgroup.controllers")).unwrap_or_default();
    let missing: Vec<&str> = CONTROLLERS
        .into_iter()
        .filter(|controller| !there.split_ascii_whitespace().any(|one| one == *controller))
        .collect();
    if !missing.is_empty() {
        return Err(format!(
            "the cgroup v2 controllers {} are not at hand in {}",
            missing.join(" and "),
            own.display()
        ));
    }
    let enable = || fs::write(own.join("cgroup.subtree_control"), "+cpu +memory");
    let refused = |error: io::Error| {
        format!(
            "not permitted to make control groups in {}: {error}; with systemd, Delegate=yes permits it",
            own.display()
        )
    };
    match enable() {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
            move_into(&own.join(OWN_GROUP), own).map_err(refused)?;
            enable().map_err(refused)
        }
        result => result.map_err(refused),
    }
}

/// Moves every process of `from` that is this one or descends from it to the group at `to`.
fn move_into(to: &Path, from: &Path) -> io::Result<()> {
    match fs::create_dir(to) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let own = crate::proc_table::tree_of(std::process::id());
    let there = fs::read_to_string(from.join("cgroup.procs"))?;
    for pid in there.lines().filter_map(|line| line.parse::<u32>().ok()) {
        if own.contains(&pid) {
            fs::write(to.join("cgroup.procs"), pid.to_string())?;
        }
    }
    Ok(())
}

/// One replica's group.
#[derive(Debug)]
pub(crate) struct Cgroup {
    directory: PathBuf,
}

/// The period over which processor time is shared out, in microseconds.
const CPU_PERIOD_US: u64 = 100_000;

impl Cgroup {
    fn create(directory: &Path, limits: ProcessLimits) -> io::Result<Self> {
        match fs::create_dir(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let cgroup = Self {
            directory: directory.to_owned(),
        };
        let write = |file: &str, value: &str| fs::write(directory.join(file), value);
        if let Some(bytes) = limits.memory_bytes {
            write("memory.max", &bytes.to_string())?;
            // Not everywhere: without swap there is nothing to forbid.
            let _optional = write("memory.swap.max", "0");
            let _optional = write("memory.oom.group", "1");
        }
        if let Some(millis) = limits.cpu_millis {
            let quota = millis.saturating_mul(CPU_PERIOD_US / 1_000).max(1_000);
            write("cpu.max", &format!("{quota} {CPU_PERIOD_US}"))?;
        }
        Ok(cgroup)
    }

    /// Returns the file that a process writes to in order to enter.
    pub(crate) fn entrance(&self) -> PathBuf {
        self.directory.join("cgroup.procs")
    }

    /// Returns how many of its processes the kernel has ended for want of memory.
    pub(crate) fn n_out_of_memory(&self) -> u64 {
        let text = fs::read_to_string(self.directory.join("memory.events")).unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.and_then(|count| count.parse().ok()).unwrap_or(0)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A group that still holds a process stays, and is taken again by the next one of its name.
        let _removed = fs::remove_dir(&self.directory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ProcessLimits = ProcessLimits {
        cpu_millis: Some(1_500),
        memory_bytes: Some(256 << 20),
    };

    #[test]
    fn limits_are_written_in_the_kernels_units() {
        let directory = tempfile::tempdir().unwrap();
        let cgroups = Cgroups {
            parent: Ok(directory.path().to_owned()),
        };
        let (cgroup, words) = cgroups.create("a", LIMITS);
        assert_eq!(
            words,
            "memory 256.0 MiB, cpu 1500m: held by a control group"
        );
        let cgroup = cgroup.unwrap();
        let group = directory.path().join("coracle-a");
        let read = |file: &str| fs::read_to_string(group.join(file)).unwrap();
        assert_eq!(read("memory.max"), "268435456");
        assert_eq!(read("cpu.max"), "150000 100000");
        assert_eq!(cgroup.n_out_of_memory(), 0);
        fs::write(group.join("memory.events"), "low 0\noom 3\noom_kill 2\n").unwrap();
        assert_eq!(cgroup.n_out_of_memory(), 2);
    }

    #[test]
    fn what_is_not_held_is_said() {
        let cgroups = Cgroups::none("because");
        assert_eq!(
            cgroups.create("a", LIMITS).1,
            "memory 256.0 MiB: looked at once a second; cpu 1500m: not held (because)"
        );
        assert_eq!(cgroups.create("a", ProcessLimits::default()).1, "");
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("cgroup.controllers"), "cpu io\n").unwrap();
        let why = prepare(directory.path()).unwrap_err();
        assert!(why.contains("controllers memory are not at hand"), "{why}");
    }

    #[test]
    fn the_mount_is_found() {
        let line = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw";
        assert_eq!(cgroup2_mount(line).as_deref(), Some("/sys/fs/cgroup"));
        let other = "29 23 0:26 / /sys/fs/cgroup rw - cgroup cgroup rw,memory";
        assert_eq!(cgroup2_mount(other), None);
    }
}
