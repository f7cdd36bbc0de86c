use super::*;

#[test]
fn controllers_are_found_in_both_hierarchies() {
    let v1 = "5:memory:/kubepods/pod1/abc\n4:cpu,cpuacct:/kubepods/pod1/abc\n0::/ignored\n";
    let found = parse_directories(v1, Path::new("/m"), false);
    assert_eq!(found["memory"], Path::new("/m/memory/kubepods/pod1/abc"));
    assert_eq!(found["cpuacct"], Path::new("/m/cpuacct/kubepods/pod1/abc"));
    assert!(!found.contains_key(""));
    let v2 = parse_directories("0::/kubepods/pod1/abc\n", Path::new("/m"), true);
    assert_eq!(v2[""], Path::new("/m/kubepods/pod1/abc"));
}

#[test]
fn usage_is_read_from_v1_and_v2_files() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("cpuacct.usage", "7000\n");
    write("cpuacct.stat", "user 3\nsystem 4\n");
    write("memory.usage_in_bytes", "5000\n");
    write("memory.stat", "total_inactive_file 1000\ntotal_rss 300\n");
    write("memory.limit_in_bytes", "9223372036854771712\n");
    let all: HashMap<_, _> =
        ["cpu", "cpuacct", "memory"].map(|c| (c.to_owned(), dir.path().to_path_buf())).into();
    let stats = v1_stats(&all);
    assert_eq!((stats.cpu_nanos, stats.cpu_user_nanos), (7000, 30_000_000));
    assert_eq!((stats.memory_working_set, stats.memory_rss, stats.memory_limit), (4000, 300, 0));
    write("cpu.stat", "usage_usec 9\nnr_throttled 2\n");
    write("memory.current", "600\n");
    write("memory.max", "max\n");
    write("memory.stat", "inactive_file 100\nanon 50\n");
    let stats = unified_stats(dir.path());
    assert_eq!((stats.cpu_nanos, stats.memory_working_set, stats.memory_limit), (9000, 500, 0));
    assert_eq!(stats.cpu_throttled_periods, 2);
}
