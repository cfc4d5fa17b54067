//! What Linux tells of running processes: who descends from whom, what they use, which ports they listen on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

/// What a process and its descendants use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The processor time since they were started, that of descendants which have ended included.
    pub cpu: Duration,
    /// The memory they hold; pages that several of them share count for each.
    pub memory_bytes: u64,
    /// How many there are.
    pub n_processes: u32,
}

/// A line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) pid: u32,
    pub(crate) parent: u32,
    cpu_ticks: u64,
    memory_pages: u64,
}

/// Reads `/proc/PID/stat`. The name, in parentheses, may hold anything, parentheses too.
fn parse_stat(text: &str) -> Option<Entry> {
    let (pid, rest) = text.split_once(" (")?;
    let (_name, rest) = rest.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    let times: Option<Vec<u64>> = (11..15).map(number).collect();
    Some(Entry {
        pid: pid.parse().ok()?,
        parent: u32::try_from(number(1)?).ok()?,
        cpu_ticks: times?.iter().fold(0, |sum, time| sum.saturating_add(*time)),
        memory_pages: number(21)?,
    })
}

/// Returns every process; none where there is no `/proc`.
pub(crate) fn table() -> Vec<Entry> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?))
        .collect()
}

/// Returns the children of a process.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    let table = table().into_iter();
    table
        .filter(|entry| entry.parent == parent)
        .map(|entry| entry.pid)
        .collect()
}

/// Returns the descendants of a process, itself included.
fn tree(table: &[Entry], root: u32) -> BTreeSet<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in table {
        children.entry(entry.parent).or_default().push(entry.pid);
    }
    let mut found = BTreeSet::new();
    let mut open = vec![root];
    while let Some(pid) = open.pop() {
        if found.insert(pid) {
            open.extend(children.get(&pid).into_iter().flatten());
        }
    }
    found
}

/// Returns the descendants of a process, itself included.
pub(crate) fn tree_of(root: u32) -> BTreeSet<u32> {
    tree(&table(), root)
}

/// Returns what each of these processes uses together with its descendants; one that is gone uses nothing.
#[must_use]
pub fn usage(roots: &[u32]) -> Vec<Usage> {
    let table = table();
    let tick = Duration::from_secs(1)
        / u32::try_from(rustix::param::clock_ticks_per_second().max(1)).unwrap_or(100);
    let page_bytes = rustix::param::page_size() as u64;
    let of = |root: &u32| {
        let tree = tree(&table, *root);
        let mut usage = Usage::default();
        for entry in table.iter().filter(|entry| tree.contains(&entry.pid)) {
            let ticks = u32::try_from(entry.cpu_ticks).unwrap_or(u32::MAX);
            usage.cpu = usage.cpu.saturating_add(tick.saturating_mul(ticks));
            usage.memory_bytes += entry.memory_pages.saturating_mul(page_bytes);
            usage.n_processes += 1;
        }
        usage
    };
    roots.iter().map(of).collect()
}

/// Returns the memory of a process and its descendants, shared pages counted once between those that share them;
/// slower than [`usage`].
pub(crate) fn proportional_memory(root: u32) -> u64 {
    let kibibytes = tree_of(root).into_iter().filter_map(|pid| {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.split_ascii_whitespace().next()?.parse::<u64>().ok()
    });
    kibibytes.sum::<u64>().saturating_mul(1_024)
}

/// Returns the TCP ports that a process or its descendants listen on.
pub(crate) fn listening_ports(root: u32) -> BTreeSet<u16> {
    let mut ports_by_inode = BTreeMap::new();
    for family in ["tcp", "tcp6"] {
        let text = fs::read_to_string(format!("/proc/{root}/net/{family}")).unwrap_or_default();
        ports_by_inode.extend(text.lines().skip(1).filter_map(parse_listener));
    }
    let mut ports = BTreeSet::new();
    for pid in tree_of(root) {
        let files = fs::read_dir(format!("/proc/{pid}/fd"));
        for file in files.into_iter().flatten().flatten() {
            let Ok(target) = fs::read_link(file.path()) else {
                continue;
            };
            let target = target.to_string_lossy();
            let inode = target
                .strip_prefix("socket:[")
                .and_then(|rest| rest.strip_suffix(']'));
            ports.extend(inode.and_then(|inode| ports_by_inode.get(inode)));
        }
    }
    ports
}

/// Reads a line of `/proc/net/tcp`: the inode and the port of a socket that listens.
fn parse_listener(line: &str) -> Option<(String, u16)> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (_, port) = fields.get(1)?.rsplit_once(':')?;
    let is_listening = *fields.get(3)? == "0A";
    let port = u16::from_str_radix(port, 16).ok()?;
    is_listening
        .then(|| (fields.get(9).map(|inode| (*inode).to_owned()), port))
        .and_then(|(inode, port)| Some((inode?, port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let rest = "S 41 42 42 0 -1 4194304 120 0 0 0 7 3 2 1 20 0 4 0 8890 17534976 990 18446744073709551615";
        let entry = parse_stat(&format!("43 (a) R 9 (b) {rest}\n")).unwrap();
        assert_eq!((entry.pid, entry.parent), (43, 41));
        assert_eq!((entry.cpu_ticks, entry.memory_pages), (13, 990));
        assert_eq!(parse_stat("43 (a"), None);
        assert_eq!(parse_stat("43 (a) S 41"), None);
    }

    #[test]
    fn this_process_is_found_with_what_it_uses_and_listens_on() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let pid = std::process::id();
        let [usage] = usage(&[pid])[..] else { panic!() };
        assert!(
            usage.n_processes >= 1 && usage.memory_bytes > 1 << 20,
            "{usage:?}"
        );
        assert!(listening_ports(pid).contains(&port));
        drop(listener);
        assert!(!listening_ports(pid).contains(&port));
    }

    #[test]
    fn a_tree_holds_all_descendants_and_no_others() {
        let entry = |pid, parent| Entry {
            pid,
            parent,
            cpu_ticks: 0,
            memory_pages: 0,
        };
        let table = [
            entry(2, 1),
            entry(3, 2),
            entry(5, 3),
            entry(4, 1),
            entry(6, 6),
        ];
        assert_eq!(tree(&table, 2), [2, 3, 5].into());
        assert_eq!(tree(&table, 6), [6].into());
    }
}
