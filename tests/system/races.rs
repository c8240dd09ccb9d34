//! What happens at the same time, and what runs out. Each was found by trying it.

use std::ffi::CStr;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use system_tests::binary;
use system_tests::daemon::Daemon;
use system_tests::daemon::sha256;
use system_tests::session::ground::wait_compared;
use tempfile::TempDir;
use worm_fs::catalog::ROOT;
use worm_fs::clock::ManualClock;
use worm_fs::config::Config;
use worm_fs::error::Result;
use worm_fs::fs::Caller;
use worm_fs::fs::Content;
use worm_fs::fs::Control;
use worm_fs::fs::Descriptors;
use worm_fs::fs::Options;
use worm_fs::fs::Place;
use worm_fs::fs::SEGMENT_BYTES;
use worm_fs::fs::WormFs;
use worm_fs::store::Store;

const ROUNDS: u64 = 60;
const MINUTE_MS: i64 = 60_000;
const ROOT_USER: Caller = Caller { uid: 0, gid: 0 };

/// A store with one class that keeps for a minute and lets ends be moved by an hour.
struct Ground {
    directory: TempDir,
    clock: Arc<ManualClock>,
}

impl Ground {
    fn new() -> Self {
        let directory = TempDir::with_prefix("worm-races-").unwrap();
        let clock = Arc::new(ManualClock::new(1_768_694_400_000));
        let key = directory.path().join("key");
        Store::create(&directory.path().join("store"), |_| key, &*clock).unwrap();
        Self { directory, clock }
    }

    fn serve(&self) -> Arc<WormFs> {
        let rules = "[class.c]\nretention = \"1m\"\nmax_retention = \"1h\"\nkeep_last = 0";
        let fs = WormFs::serve(Options {
            store: self.directory.path().join("store"),
            key: self.directory.path().join("key"),
            config: Config::parse(rules).unwrap(),
            clock: self.clock.clone(),
            segment_bytes: SEGMENT_BYTES,
        })
        .unwrap();
        wait_compared(&fs);
        fs
    }
}

fn class(fs: &WormFs) -> u64 {
    fs.lookup(Place::Active, ROOT, b"c").unwrap().id
}

fn put(fs: &WormFs, parent: u64, name: &[u8], bytes: &[u8]) -> Result<u64> {
    let (made, handle) = fs.create(Place::Active, ROOT_USER, parent, name, 0o644)?;
    fs.write(handle, 0, bytes)?;
    fs.control(Place::Active, made.id, handle, Control::Commit)?;
    fs.release(handle)?;
    Ok(made.id)
}

fn get(fs: &WormFs, parent: u64, name: &[u8]) -> Vec<u8> {
    let id = fs.lookup(Place::Active, parent, name).unwrap().id;
    let (handle, content) = fs.open_to_read(Place::Active, id).unwrap();
    assert!(matches!(content, Content::Finished(_)));
    let mut bytes = vec![0; 16];
    let read = fs.read(handle, 0, &mut bytes).unwrap();
    fs.release(handle).unwrap();
    bytes.truncate(read);
    bytes
}

#[test]
fn extending_and_removing_at_once_leave_a_store_that_opens() {
    let ground = Ground::new();
    let fs = ground.serve();
    let class = class(&fs);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let extender = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                for n in 0..4_u8 {
                    let name = [b'a' + n];
                    let Ok(found) = fs.lookup(Place::Active, class, &name) else { continue };
                    let until = "user.worm.retain_until";
                    let later = worm_fs::clock::rfc3339(1_768_694_400_000 + 30 * MINUTE_MS);
                    for value in [
                        fs.xattr(Place::Active, found.id, until.as_bytes()).ok(),
                        Some(later.into()),
                    ] {
                        let Some(value) = value else { continue };
                        let set = fs.set_xattr(
                            Place::Active,
                            ROOT_USER,
                            found.id,
                            until.as_bytes(),
                            &value,
                        );
                        drop(set);
                    }
                }
            }
        });
        for round in 0..ROUNDS {
            for n in 0..4_u8 {
                drop(put(&fs, class, &[b'a' + n], b"x"));
            }
            ground.clock.advance(2 * MINUTE_MS);
            if round % 2 == 0 {
                drop(fs.housekeep());
            } else {
                for n in 0..4_u8 {
                    drop(fs.unlink(Place::Active, ROOT_USER, class, &[b'a' + n]));
                }
            }
        }
        over.store(true, Ordering::Relaxed);
        extender.join().unwrap();
    });
    assert_eq!(fs.alarms(), Vec::<String>::new());
    fs.shut_down(Descriptors::AllClosed);
    drop(fs);
    let again = ground.serve();
    assert_eq!(again.alarms(), Vec::<String>::new());
    put(&again, class, b"after", b"x").unwrap();
}

#[test]
fn a_name_is_free_only_when_the_old_bytes_are_gone() {
    let ground = Ground::new();
    let fs = ground.serve();
    let class = class(&fs);
    let names: Vec<Vec<u8>> = (0..20).map(|n| format!("x{n}").into_bytes()).collect();
    for round in 0..ROUNDS / 10 {
        for name in &names {
            put(&fs, class, name, b"old").unwrap();
        }
        ground.clock.advance(2 * MINUTE_MS);
        std::thread::scope(|scope| {
            // All go in one batch: the last data is gone long after the record.
            let remover = scope.spawn(|| fs.housekeep());
            for name in names.iter().rev() {
                while put(&fs, class, name, b"new").is_err() {}
            }
            remover.join().unwrap().unwrap();
        });
        for name in &names {
            assert_eq!(get(&fs, class, name), b"new", "in round {round}");
        }
        ground.clock.advance(2 * MINUTE_MS);
        while fs.housekeep().unwrap() > 0 {}
    }
    assert_eq!(fs.alarms(), Vec::<String>::new());
}

#[test]
fn a_directory_can_be_made_again_while_it_is_removed() {
    let ground = Ground::new();
    let fs = ground.serve();
    let class = class(&fs);
    for round in 0..ROUNDS {
        let made = fs.make_directory(Place::Active, ROOT_USER, class, b"d", 0o755);
        made.unwrap();
        std::thread::scope(|scope| {
            let remover =
                scope.spawn(|| fs.remove_directory(Place::Active, ROOT_USER, class, b"d"));
            let again = loop {
                match fs.make_directory(Place::Active, ROOT_USER, class, b"d", 0o755) {
                    Ok(again) => break again,
                    Err(_taken) => {}
                }
            };
            remover.join().unwrap().unwrap();
            put(&fs, again.id, format!("{round}").as_bytes(), b"x").unwrap();
            ground.clock.advance(2 * MINUTE_MS);
            fs.unlink(Place::Active, ROOT_USER, again.id, format!("{round}").as_bytes()).unwrap();
        });
        fs.remove_directory(Place::Active, ROOT_USER, class, b"d").unwrap();
    }
    assert_eq!(fs.alarms(), Vec::<String>::new());
}

/// A small disk for a store, gone when the test ends.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn new(path: &'a Path, options: &CStr) -> Self {
        std::fs::create_dir(path).unwrap();
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("small", path, "tmpfs", flags, Some(options)).unwrap();
        Self(path)
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _gone = rustix::mount::unmount(self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn room_that_could_not_be_reserved_spoils_nothing() {
    let daemon = Daemon::prepare();
    let store = daemon.store();
    let _disk = SmallDisk::new(&store, c"size=16m");
    daemon.mount(&[]).success();
    let path = daemon.active().join("daily/x");
    let file = File::create_new(&path).unwrap();
    let room = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 64 << 20);
    assert_eq!(room, Err(rustix::io::Errno::NOSPC));
    file.write_all_at(b"small", 0).unwrap();
    drop(file);
    let digest = daemon.wait(&path);
    assert_eq!(sha256(&path), digest);
    assert_eq!(std::fs::read(&path).unwrap(), b"small");
    daemon.verify();
    daemon.worm("umount", &daemon.active(), &["--guard"]).success();
}

#[test]
fn a_disk_full_up_to_the_reserve_takes_nothing_new_and_seals_what_is_there() {
    const RESERVE: u64 = 2 << 20;
    let daemon = Daemon::prepare();
    let (store, config) = (daemon.store(), daemon.directory().join("worm.toml"));
    let _disk = SmallDisk::new(&store, c"size=16m");
    let mut toml = File::create_new(&config).unwrap();
    let shares = "bytes = \"100%\"\nbytes_per_day = \"100%\"";
    let text = format!(
        "reserve = \"2MiB\"\n[class.daily]\nretention = \"7d\"\n[class.daily.limits]\n{shares}\n"
    );
    toml.write_all(text.as_bytes()).unwrap();
    daemon.mount(&["--config", config.to_str().unwrap()]).success();
    let small = daemon.active().join("daily/small");
    let open = File::create_new(&small).unwrap();
    open.write_all_at(b"open before it was full", 0).unwrap();
    let big = File::create_new(daemon.active().join("daily/big")).unwrap();
    let mut end = 0;
    let full = loop {
        match big.write_all_at(&[7; 4096], end) {
            Ok(()) => end += 4096,
            Err(error) => break error.raw_os_error(),
        }
    };
    assert_eq!(full, Some(libc::ENOSPC));
    let free = |path: &Path| {
        let disk = rustix::fs::statvfs(path).unwrap();
        disk.f_bavail * disk.f_frsize
    };
    assert!((RESERVE..2 * RESERVE).contains(&free(&store)), "{}", free(&store));
    let new = File::create_new(daemon.active().join("daily/new")).unwrap_err();
    assert_eq!(new.raw_os_error(), Some(libc::ENOSPC));
    let directory = std::fs::create_dir(daemon.active().join("daily/d")).unwrap_err();
    assert_eq!(directory.raw_os_error(), Some(libc::ENOSPC));
    let room = rustix::fs::fallocate(&open, rustix::fs::FallocateFlags::KEEP_SIZE, 0, 64 << 10);
    assert_eq!(room, Err(rustix::io::Errno::NOSPC));
    drop((open, big));
    let digest = daemon.wait(&small);
    assert_eq!(sha256(&small), digest);
    daemon.verify();
    daemon.worm("umount", &daemon.active(), &["--guard"]).success();
}

#[test]
fn room_that_the_disk_refused_is_not_counted() {
    let daemon = Daemon::prepare();
    let (store, config) = (daemon.store(), daemon.directory().join("worm.toml"));
    let _disk = SmallDisk::new(&store, c"size=16m");
    let text = b"reserve = \"0B\"\n[class.daily]\nretention = \"7d\"\nlimits.bytes = \"1MiB\"\n";
    File::create_new(&config).unwrap().write_all(text).unwrap();
    daemon.mount(&["--config", config.to_str().unwrap()]).success();
    let file = File::create_new(daemon.active().join("daily/x")).unwrap();
    // The daemon asks the disk, and then not again for some MiB.
    file.write_all_at(b"bytes", 0).unwrap();
    let filler = store.join("filler");
    let mut fill = File::create_new(&filler).unwrap();
    while fill.write_all(&[7; 4096]).is_ok() {}
    let room = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::KEEP_SIZE, 0, 900 << 10);
    assert_eq!(room, Err(rustix::io::Errno::NOSPC));
    drop(fill);
    std::fs::remove_file(filler).unwrap();
    let other = daemon.active().join("daily/other");
    File::create_new(&other).unwrap().write_all(&[7; 600 << 10]).unwrap();
    drop(file);
    daemon.wait(&other);
    daemon.wait(&daemon.active().join("daily/x"));
    daemon.worm("umount", &daemon.active(), &["--guard"]).success();
}

#[test]
fn a_disk_without_inodes_takes_nothing_new_and_seals_what_is_there() {
    let daemon = Daemon::prepare();
    let store = daemon.store();
    let _disk = SmallDisk::new(&store, c"size=16m,nr_inodes=150");
    daemon.mount(&[]).success();
    let first = daemon.active().join("daily/first");
    let open = File::create_new(&first).unwrap();
    let full = (0..150)
        .find_map(|number| File::create_new(daemon.active().join(format!("daily/{number}"))).err());
    assert_eq!(full.and_then(|error| error.raw_os_error()), Some(libc::ENOSPC));
    let left = rustix::fs::statvfs(&store).unwrap().f_ffree;
    assert!((60..=64).contains(&left), "{left}");
    drop(open);
    daemon.wait(&first);
    daemon.verify();
    daemon.worm("umount", &daemon.active(), &["--guard"]).success();
}

#[test]
fn whoever_only_reads_cannot_stop_the_store() {
    let daemon = Daemon::prepare();
    let worm = daemon.mount_command();
    let mut limited = Command::new("prlimit");
    limited.arg("--nofile=1500:1500").arg(worm.get_program()).args(worm.get_args());
    binary::run(&mut limited).success();
    File::create_new(daemon.active().join("daily/x")).unwrap().write_all(b"x").unwrap();
    daemon.wait(&daemon.active().join("daily/x"));
    let seen = daemon.view().join("daily/x");
    let mut readers = Vec::new();
    let refused = loop {
        match File::open(&seen) {
            Ok(reader) => readers.push(reader),
            Err(error) => break error,
        }
        assert!(readers.len() < 1500, "there is no limit");
    };
    assert_eq!(refused.raw_os_error(), Some(libc::ENFILE));
    File::create_new(daemon.active().join("daily/y")).unwrap().write_all(b"y").unwrap();
    daemon.wait(&daemon.active().join("daily/y"));
    drop(readers);
    assert_eq!(std::fs::read(&seen).unwrap(), b"x");
}

#[test]
fn what_a_power_cut_left_of_unsigned_lines_is_kept_aside() {
    let ground = Ground::new();
    let fs = ground.serve();
    let class = class(&fs);
    put(&fs, class, b"x", b"kept").unwrap();
    drop(fs);
    // The length of the file survived, one of its pages did not.
    let segment = ground.directory.path().join("store/ledger/000001.jsonl");
    let mut ledger = File::options().append(true).open(&segment).unwrap();
    ledger.write_all(&[0; 5000]).unwrap();
    ledger.write_all(b"\"}\n{\"seq\":9}\n").unwrap();
    drop(ledger);
    let again = ground.serve();
    assert_eq!(get(&again, class, b"x"), b"kept");
    put(&again, class, b"y", b"new").unwrap();
    let beside = std::fs::read_dir(segment.parent().unwrap()).unwrap().flatten();
    let torn = beside.filter(|entry| entry.file_name().to_string_lossy().contains(".torn-"));
    assert_eq!(torn.count(), 1);
}
