//! What a file costs the daemon in memory. A program of its own, so that nothing else is counted.

use worm_fs::catalog::Catalog;
use worm_fs::clock::Reading;
use worm_fs::config::Config;
use worm_fs::policy::name::StorePath;
use worm_fs::record::Digest;
use worm_fs::record::Event;
use worm_fs::record::FORMAT;
use worm_fs::record::Line;

/// As docs/operations.md says of the limit `files`.
const BYTES_MAX: u64 = 300;
const FILES: u64 = 100_000;

/// What this process has in memory of its own.
fn memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
}

fn line(seq: u64, event: Event) -> Line {
    Line { seq, prev: Digest::ZERO, clock_ms: 0, time: String::new(), event }
}

/// Backups of three files each, one after the other in one directory.
#[test]
fn a_file_costs_less_than_300_bytes() {
    let reading = Reading { boot: "b".into(), raw_ms: 0, suspend_ms: 0, system_ms: 0 };
    let (store, key) = ("s".into(), "k".into());
    let first = line(1, Event::Created { format: FORMAT, store, key, reading });
    let mut catalog = Catalog::new(&first).unwrap();
    let mut tell = |line: &Line| catalog.apply(line, Digest::ZERO).unwrap();
    tell(&first);
    let rule = Config::default().classes.remove("hourly").unwrap();
    let path = StorePath::decode("hourly").unwrap();
    tell(&line(2, Event::Class { id: 2, path, rule }));
    let before = memory().unwrap();
    for number in 0..FILES {
        let ending = ["", ".sha256", ".manifest.json"][usize::try_from(number % 3).unwrap()];
        let path = format!("hourly/2026-01-18_{:06}.sql.gz{ending}", number / 3);
        let event = Event::Sealed {
            id: 4 + number,
            path: StorePath::decode(&path).unwrap(),
            size: 1,
            sha256: Digest::ZERO,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime_ns: 0,
            retain_until_ms: 10,
            committed: false,
            governance: false,
        };
        tell(&line(3 + number, event));
    }
    let each = (memory().unwrap() - before) / FILES;
    println!("memory: {each} bytes a file");
    assert_eq!(catalog.files().count() as u64, FILES);
    assert!(each > 100, "nothing was measured: {each} bytes");
    assert!(each < BYTES_MAX, "{each} bytes a file");
}
