//! The room for memory, over trees of files as kernels write them, and on this machine.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed set-up should fail the test"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use airssys_osl::{MemoryBound, MemoryGauge, MemoryProbe, MemoryRoom, MemoryShort, ProbeError};
use rustix::param::page_size;
use tempfile::TempDir;

const MIB: u64 = 1 << 20;

/// Files below a root of their own. Without more it is a machine of 8 GiB, half of them free.
struct Machine(TempDir);

impl Machine {
    fn new() -> Self {
        let machine = Self(tempfile::tempdir().unwrap());
        machine.file(
            "proc/meminfo",
            "MemTotal:        8388608 kB\nMemFree:          100000 kB\n\
             MemAvailable:    4194304 kB\n",
        );
        machine.file("proc/self/statm", "20000 1000 500 10 0 5000 0\n");
        machine.limits("unlimited", "unlimited");
        machine
    }

    fn file(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn limits(&self, data: &str, addresses: &str) {
        self.file(
            "proc/self/limits",
            &format!(
                "Limit                     Soft Limit           Hard Limit           Units     \n\
                 Max data size             {data:<20} unlimited            bytes     \n\
                 Max resident set          1                    1                    bytes     \n\
                 Max address space         {addresses:<20} unlimited            bytes     \n"
            ),
        );
    }

    /// A cgroup of version 2.
    fn v2(&self, directory: &str, max: &str, current: u64, inactive_file: u64) {
        self.file(&format!("{directory}/memory.max"), &format!("{max}\n"));
        self.file(
            &format!("{directory}/memory.current"),
            &format!("{current}\n"),
        );
        self.file(
            &format!("{directory}/memory.stat"),
            &format!("anon 1\ninactive_anon 2\ninactive_file {inactive_file}\n"),
        );
    }

    fn v1(&self, directory: &str, limit: u64, usage: u64, inactive_file: u64) {
        self.file(
            &format!("{directory}/memory.limit_in_bytes"),
            &format!("{limit}\n"),
        );
        self.file(
            &format!("{directory}/memory.usage_in_bytes"),
            &format!("{usage}\n"),
        );
        self.file(
            &format!("{directory}/memory.stat"),
            &format!("inactive_file 1\ntotal_inactive_file {inactive_file}\n"),
        );
    }

    fn read(&self) -> MemoryRoom {
        MemoryProbe::under(self.0.path()).read().unwrap()
    }

    fn bound_by(&self, room: &MemoryRoom, directory: &str) -> bool {
        room.bound_by
            == MemoryBound::Cgroup {
                path: self.path(directory),
            }
    }
}

#[test]
fn without_other_bounds_the_machine_is_the_bound() {
    let machine = Machine::new();
    let room = machine.read();
    assert_eq!(
        room,
        MemoryRoom {
            available: 4096 * MIB,
            limit: 8192 * MIB,
            used: 4096 * MIB,
            resident: 1000 * page_size() as u64,
            bound_by: MemoryBound::Machine,
        }
    );
}

#[test]
fn a_cgroup_bounds_by_what_it_uses_without_its_idle_file_pages() {
    let machine = Machine::new();
    machine.file("proc/self/cgroup", "0::/host.slice/airssys\n");
    machine.file(
        "proc/self/mountinfo",
        "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
    );
    let own = "sys/fs/cgroup/host.slice/airssys";
    machine.v2(own, &(512 * MIB).to_string(), 300 * MIB, 100 * MIB);
    let room = machine.read();
    assert!(machine.bound_by(&room, own), "{room:?}");
    assert_eq!(
        (room.available, room.limit, room.used),
        (312 * MIB, 512 * MIB, 200 * MIB)
    );
}

#[test]
fn the_tightest_of_all_ancestors_bounds() {
    let machine = Machine::new();
    machine.file("proc/self/cgroup", "0::/a/b/c\n");
    machine.file(
        "proc/self/mountinfo",
        "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
    );
    machine.v2("sys/fs/cgroup/a", &(400 * MIB).to_string(), 390 * MIB, 0);
    machine.v2("sys/fs/cgroup/a/b", "max", 380 * MIB, 0);
    machine.v2(
        "sys/fs/cgroup/a/b/c",
        &(300 * MIB).to_string(),
        200 * MIB,
        0,
    );
    let room = machine.read();
    assert!(machine.bound_by(&room, "sys/fs/cgroup/a"), "{room:?}");
    assert_eq!(room.available, 10 * MIB);
    // One that holds more than its limit, as after it was lowered, leaves nothing.
    machine.v2("sys/fs/cgroup/a/b/c", &MIB.to_string(), 200 * MIB, 0);
    let room = machine.read();
    assert!(machine.bound_by(&room, "sys/fs/cgroup/a/b/c"), "{room:?}");
    assert_eq!(room.available, 0);
}

#[test]
fn cgroups_without_limits_bound_nothing() {
    let machine = Machine::new();
    machine.file("proc/self/cgroup", "4:cpu,memory:/a\n0::/b\n");
    machine.file(
        "proc/self/mountinfo",
        "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
         41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
    );
    machine.v1(
        "sys/fs/cgroup/memory/a",
        9_223_372_036_854_771_712,
        8192 * MIB,
        0,
    );
    machine.v2("sys/fs/cgroup/unified/b", "max", 8192 * MIB, 0);
    assert_eq!(machine.read().bound_by, MemoryBound::Machine);
}

#[test]
fn version_1_bounds_through_its_memory_hierarchy_alone() {
    let machine = Machine::new();
    machine.file(
        "proc/self/cgroup",
        "7:cpu:/other\n4:memory,hugetlb:/pods/one\n1:name=systemd:/x\n0::/\n",
    );
    machine.file(
        "proc/self/mountinfo",
        "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
         35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory,hugetlb\n\
         41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
    );
    machine.v1("sys/fs/cgroup/cpu/pods/one", MIB, MIB, 0);
    machine.v1("sys/fs/cgroup/memory/other", MIB, MIB, 0);
    machine.v1("sys/fs/cgroup/memory/pods", 256 * MIB, 200 * MIB, 50 * MIB);
    machine.v1(
        "sys/fs/cgroup/memory/pods/one",
        9_223_372_036_854_771_712,
        MIB,
        0,
    );
    let room = machine.read();
    assert!(
        machine.bound_by(&room, "sys/fs/cgroup/memory/pods"),
        "{room:?}"
    );
    assert_eq!(room.available, 106 * MIB);
}

#[test]
fn inside_a_container_the_path_is_taken_below_the_mounted_cgroup() {
    for (shown, own, point) in [
        // The host's view of the path, of which the container sees the end.
        ("/docker/id", "/docker/id/inner", "sys/fs/cgroup/inner"),
        ("/docker/id", "/docker/id", "sys/fs/cgroup"),
        ("/", "/inner", "sys/fs/cgroup/inner"),
        // A path that leads out of what is seen: the mounted cgroup is the nearest one.
        ("/", "/../sibling", "sys/fs/cgroup"),
        ("/docker/id", "/docker/other", "sys/fs/cgroup"),
    ] {
        let machine = Machine::new();
        machine.file("proc/self/cgroup", &format!("0::{own}\n"));
        machine.file(
            "proc/self/mountinfo",
            &format!("30 23 0:26 {shown} /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n"),
        );
        machine.v2("sys/fs/cgroup", &(200 * MIB).to_string(), 50 * MIB, 0);
        machine.v2("sys/fs/cgroup/inner", &(100 * MIB).to_string(), 50 * MIB, 0);
        machine.v2("sys/fs/sibling", "1", 1, 0);
        let room = machine.read();
        assert!(machine.bound_by(&room, point), "{own}: {room:?}");
    }
}

#[test]
fn a_mount_point_with_blanks_is_found() {
    let machine = Machine::new();
    machine.file("proc/self/cgroup", "0::/\n");
    machine.file(
        "proc/self/mountinfo",
        "30 23 0:26 / /mnt/c\\040g\\134\\011 rw - cgroup2 cgroup2 rw\n",
    );
    machine.v2("mnt/c g\\\t", &MIB.to_string(), 0, 0);
    assert!(machine.bound_by(&machine.read(), "mnt/c g\\\t"));
}

#[test]
fn limits_of_the_process_bound_its_addresses_and_its_data() {
    let machine = Machine::new();
    let page = page_size() as u64;
    machine.limits("unlimited", &(20_000 * page + 77).to_string());
    let room = machine.read();
    assert_eq!((room.available, room.used), (77, 20_000 * page));
    assert_eq!(room.bound_by, MemoryBound::AddressSpace);
    machine.limits(&(5_000 * page + 7).to_string(), "unlimited");
    let room = machine.read();
    assert_eq!((room.available, room.used), (7, 5_000 * page));
    assert_eq!(room.bound_by, MemoryBound::Data);
}

#[test]
fn a_bound_that_cannot_be_understood_is_an_error_and_not_room() {
    let machine = Machine::new();
    let probe = MemoryProbe::under(machine.0.path());
    machine.file("proc/self/cgroup", "0::/a\n");
    machine.file(
        "proc/self/mountinfo",
        "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
    );
    machine.v2("sys/fs/cgroup/a", "1 GiB", 1, 0);
    let refused = probe.read().unwrap_err();
    assert!(
        matches!(&refused, ProbeError::Form { path, .. } if path.ends_with("a/memory.max")),
        "{refused}"
    );
    machine.v2("sys/fs/cgroup/a", "max", 1, 0);
    for (path, text) in [
        ("proc/self/limits", "Max data size 1 1 bytes\n"),
        ("proc/self/statm", "1 2 3\n"),
        ("proc/meminfo", "MemTotal: 1 kB\n"),
        ("proc/meminfo", "MemTotal: 1 kB\nMemAvailable: many kB\n"),
    ] {
        let was = fs::read_to_string(machine.path(path)).unwrap();
        machine.file(path, text);
        let refused = probe.read().unwrap_err();
        assert!(
            matches!(&refused, ProbeError::Form { path: told, .. } if told.ends_with(path)),
            "{refused}"
        );
        fs::remove_file(machine.path(path)).unwrap();
        assert!(matches!(probe.read(), Err(ProbeError::Io { .. })), "{path}");
        machine.file(path, &was);
    }
    probe.read().unwrap();
}

#[test]
fn the_probe_of_this_machine_agrees_with_its_kernel() {
    let room = MemoryProbe::default().read().unwrap();
    assert!(room.available <= room.limit, "{room:?}");
    // What is touched becomes resident.
    let before = room.resident;
    let touched = std::hint::black_box(vec![1_u8; 64 * MIB as usize]);
    let after = MemoryProbe::default().read().unwrap().resident;
    assert!(after >= before + 60 * MIB, "{before} and then {after}");
    drop(touched);
}

#[test]
fn a_gauge_reads_once_a_period_and_takes_off_what_it_admits() {
    let machine = Machine::new();
    let probe = || MemoryProbe::under(machine.0.path());
    let still = MemoryGauge::new(probe(), Duration::from_secs(3600)).unwrap();
    let lively = MemoryGauge::new(probe(), Duration::ZERO).unwrap();
    let all = 4096 * MIB;
    assert_eq!(
        (still.available(), lively.available()),
        (Some(all), Some(all))
    );
    still.admit(96 * MIB, 1000 * MIB).unwrap();
    assert_eq!(still.available(), Some(4000 * MIB));
    machine.file(
        "proc/meminfo",
        "MemTotal: 8388608 kB\nMemAvailable: 1024 kB\n",
    );
    assert_eq!(lively.available(), Some(MIB));
    assert_eq!(still.available(), Some(4000 * MIB));
    // The reserve stays, to the byte.
    assert_eq!(
        still.admit(3000 * MIB + 1, 1000 * MIB),
        Err(MemoryShort::Room {
            available: 4000 * MIB,
            wanted: 3000 * MIB + 1,
            reserve: 1000 * MIB,
        })
    );
    still.admit(3000 * MIB, 1000 * MIB).unwrap();
    assert!(still.admit(1, 1000 * MIB).is_err());
    assert!(still.admit(1001 * MIB, 0).is_err());
    fs::remove_file(machine.path("proc/meminfo")).unwrap();
    assert_eq!(lively.available(), None);
    assert_eq!(lively.admit(0, 0), Err(MemoryShort::Unknown));
    machine.file(
        "proc/meminfo",
        "MemTotal: 8388608 kB\nMemAvailable: 1024 kB\n",
    );
    assert_eq!(lively.available(), Some(MIB));
}

#[test]
fn a_gauge_never_admits_more_than_there_is_to_all_threads_together() {
    let machine = Machine::new();
    let probe = MemoryProbe::under(machine.0.path());
    let gauge = MemoryGauge::new(probe, Duration::from_secs(3600)).unwrap();
    let admitted: u64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    (0..1000)
                        .filter(|_| gauge.admit(MIB, 96 * MIB).is_ok())
                        .count() as u64
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    assert_eq!(admitted, 4000);
    assert_eq!(gauge.available(), Some(96 * MIB));
}

#[test]
fn a_gauge_over_nothing_is_refused() {
    let empty = tempfile::tempdir().unwrap();
    let missing = MemoryGauge::new(MemoryProbe::under(empty.path()), Duration::ZERO);
    assert!(matches!(missing, Err(ProbeError::Io { path, .. }) if path.starts_with(empty.path())));
    assert!(MemoryProbe::under(Path::new("/nowhere")).read().is_err());
}
