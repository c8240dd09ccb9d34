//! The admin's door to a running daemon: who may use it, what it does no harm with, what the
//! commands say, and what it tells of those who tried to change things.

mod expiry;

use std::fs::File;
use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use rustix::process::Uid;
use serde_json::Value;
use system_tests::binary;
use system_tests::binary::Output;
use system_tests::daemon::Daemon;

fn put(path: &Path, bytes: &[u8]) {
    File::create_new(path).unwrap().write_all(bytes).unwrap();
}

/// Waits until `look` finds something. What a daemon does beside its answers comes in its own time.
#[track_caller]
fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A line of the daemon's log, once it is there.
#[track_caller]
fn logged(daemon: &Daemon, words: &[&str]) -> String {
    eventually(&format!("a line of the log with {words:?}"), || {
        let log = daemon.log();
        let mut lines = log.lines();
        lines.find(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned)
    })
}

#[test]
fn a_refusal_is_logged_with_who_tried_what_where() {
    let daemon = Daemon::start();
    let file = daemon.active().join("daily/kept");
    put(&file, b"whole");
    daemon.wait(&file);
    // The kernel names the thread.
    let pid = rustix::thread::gettid().as_raw_nonzero();
    std::fs::remove_file(&file).unwrap_err();
    let line = logged(&daemon, &["refused", "request=\"unlink\"", "path=daily/kept"]);
    let cgroup = std::fs::read_to_string("/proc/thread-self/cgroup").unwrap();
    let cgroup = cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let cgroup = cgroup.min_by_key(|path| *path == "/").unwrap();
    for word in [
        "uid=0".to_owned(),
        format!("pid={pid}"),
        format!("cgroup=\"{cgroup}\""),
        "reason=\"retained\"".to_owned(),
        "count=1".to_owned(),
        "the file is under retention".to_owned(),
    ] {
        assert!(line.contains(&word), "{word}: {line}");
    }
    // Where nothing is, the name that was asked for is told; and an open file has its name too.
    File::create(daemon.active().join("at-the-root")).unwrap_err();
    logged(&daemon, &["request=\"create\"", "path=at-the-root", "reason=\"not_a_class\""]);
    let open = File::create_new(daemon.active().join("daily/open")).unwrap();
    File::options().write(true).open(daemon.active().join("daily/open")).unwrap_err();
    logged(&daemon, &["request=\"open\"", "path=daily/open", "reason=\"busy\"", "count=3"]);
    drop(open);
}

/// Runs `worm` with these words and the daemon's run directory.
fn worm(daemon: &Daemon, words: &[&str]) -> Output {
    let mut command = binary::command("worm");
    command.args(words).arg("--run-dir").arg(daemon.run_directory());
    binary::run(&mut command)
}

/// What a command prints with `--json`.
#[track_caller]
fn json(daemon: &Daemon, words: &[&str]) -> Value {
    let printed = worm(daemon, &[words, &["--json"]].concat()).success();
    serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"))
}

fn socket(daemon: &Daemon) -> PathBuf {
    let entries = std::fs::read_dir(daemon.run_directory()).unwrap().flatten();
    let mut sockets = entries.map(|entry| entry.path());
    sockets.find(|path| path.extension().is_some_and(|e| e == "sock")).expect("a socket")
}

/// Everything that is answered to these bytes, until the other side closes.
fn answered(socket: &Path, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    // It may be closed before all of it was taken.
    drop(stream.write_all(bytes));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    String::from_utf8(answer).unwrap()
}

const STATUS: &[u8] = b"{\"version\":1,\"ask\":\"status\"}\n";

#[test]
fn another_user_cannot_use_the_socket() {
    let daemon = Daemon::start();
    let socket = socket(&daemon);
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&socket), 0o600);
    std::fs::set_permissions(daemon.directory(), PermissionsExt::from_mode(0o755)).unwrap();
    let as_nobody = |socket: PathBuf| {
        let ask = move || {
            let nobody = Uid::from_raw(65_534);
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
            let mut stream = UnixStream::connect(&socket)?;
            stream.write_all(STATUS)?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).map(|_| answer)
        };
        // The credentials are those of a thread that ends with them.
        std::thread::spawn(ask).join().unwrap()
    };
    let refused = as_nobody(socket.clone()).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    // The mode is one lock, the kernel's word for who connects is the other.
    std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o666)).unwrap();
    let answer = as_nobody(socket.clone()).unwrap();
    assert!(answer.contains("uid 65534 may not use this socket"), "{answer}");
    assert!(answer.contains("\"exit\":4"), "{answer}");
    assert!(!answer.contains("ledger"), "{answer}");
    assert!(answered(&socket, STATUS).contains("\"done\""), "root may");
}

#[test]
fn garbage_and_floods_get_no_further_than_the_door() {
    let daemon = Daemon::start();
    let socket = socket(&daemon);
    for (bytes, says) in [
        (&b"garbage\n"[..], "not understood"),
        (b"{\"version\":1,\"ask\":\"unseal\"}\n", "not understood"),
        (b"{\"version\":9,\"ask\":\"status\"}\n", "use its worm"),
        (b"{\"version\":1,\"ask\":\"describe\",\"path\":\"../../etc\"}\n", "not valid"),
    ] {
        let answer = answered(&socket, bytes);
        assert!(answer.contains("failed") && answer.contains(says), "{answer}");
    }
    // A question without an end, and one that nests: neither fills the memory nor the stack.
    let huge = answered(&socket, &vec![b'x'; 8 << 20]);
    assert!(huge.is_empty() || huge.contains("no line"), "{huge}");
    let nested = answered(&socket, &[&[b'['; 60_000][..], b"\n"].concat());
    assert!(nested.contains("not understood"), "{nested}");
    assert!(answered(&socket, STATUS).contains("\"done\""), "and it still answers");
}

#[test]
fn whoever_holds_the_door_open_holds_up_nobody_for_long() {
    let daemon = Daemon::start();
    let socket = socket(&daemon);
    let mut idle: Vec<UnixStream> = Vec::new();
    // One after the other until one is turned away: then all places are taken.
    let turned_away = eventually("the door is full", || {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let closed = matches!(stream.read(&mut [0]), Ok(0));
        idle.push(stream);
        closed.then_some(idle.len())
    });
    assert!(turned_away > 4, "{turned_away}");
    let file = daemon.active().join("daily/meanwhile");
    put(&file, b"whole");
    daemon.wait(&file);
    // Who says nothing is sent away, and then there is room again.
    let mut said = String::new();
    idle[0].set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    idle[0].read_to_string(&mut said).unwrap();
    assert!(said.is_empty() || said.contains("read the question"), "{said}");
    eventually("an answer", || {
        worm(&daemon, &["why", &file.to_string_lossy()]).status.success().then_some(())
    });
}

#[test]
fn a_dead_daemons_socket_is_replaced_and_nobody_takes_it_for_a_living_one() {
    let daemon = Daemon::start();
    let file = daemon.active().join("daily/kept");
    put(&file, b"whole");
    daemon.wait(&file);
    let hold =
        |file: &str| worm(&daemon, &["hold", file, "--name", "audit", "--reason", "court order"]);
    daemon.kill();
    // What only a daemon can do is refused; what the ledger tells is told.
    let said = hold(&file.to_string_lossy()).expect_code(4);
    assert!(said.stderr.contains("no daemon serves store"), "{}", said.stderr);
    assert!(said.stderr.contains("worm mount it first"), "{}", said.stderr);
    let why = worm(&daemon, &["why", &file.to_string_lossy()]).success();
    assert!(why.starts_with("daily/kept: sealed "), "{why}");
    assert!(
        worm(&daemon, &["log", &daemon.store().to_string_lossy()]).success().contains("daily/kept")
    );
    daemon.mount(&[]).success();
    let held = hold(&file.to_string_lossy()).success();
    assert!(held.contains("hold \"audit\" by uid 0 since "), "{held}");
    daemon.worm("umount", &daemon.active(), &[]).success();
    let sockets = std::fs::read_dir(daemon.run_directory()).unwrap().flatten();
    let left: Vec<_> =
        sockets.filter(|f| f.path().extension().is_some_and(|e| e == "sock")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_socket_can_stand_elsewhere() {
    let daemon = Daemon::prepare();
    let elsewhere = daemon.directory().join("door");
    let elsewhere = elsewhere.to_str().unwrap();
    daemon.mount(&["--socket", elsewhere]).success();
    let status = |more: &[&str]| {
        worm(&daemon, &[&["status", &*daemon.store().to_string_lossy()], more].concat())
    };
    assert!(status(&["--socket", elsewhere]).success().contains("serving since"));
    let said = status(&[]).expect_code(4);
    assert!(said.stderr.contains("give its --run-dir or --socket"), "{}", said.stderr);
    // Something that is no socket is not taken away for one.
    daemon.worm("umount", &daemon.active(), &[]).success();
    std::fs::remove_file(elsewhere).unwrap();
    put(Path::new(elsewhere), b"precious");
    let said = daemon.mount(&["--socket", elsewhere]).expect_code(7);
    assert!(said.stderr.contains("no socket"), "{}", said.stderr);
    assert_eq!(std::fs::read(elsewhere).unwrap(), b"precious");
}

#[test]
fn p11_a_hold_is_put_shown_and_lifted_with_who_and_why() {
    let daemon = Daemon::start();
    let file = daemon.active().join("daily/x.sql.gz");
    put(&file, b"whole");
    daemon.wait(&file);
    put(&daemon.active().join("daily/x.sql.gz.sha256"), b"digest");
    daemon.wait(&daemon.active().join("daily/x.sql.gz.sha256"));
    let file = file.to_str().unwrap();
    // The person behind sudo is known by the login that the kernel keeps.
    let worm_path = binary::path("worm");
    let mut sudo = std::process::Command::new("sh");
    sudo.args(["-c", "echo 4321 > /proc/self/loginuid && exec \"$@\"", "sh"]).arg(worm_path);
    sudo.args(["hold", file, "--name", "audit-7", "--reason", "court order 12"]);
    let said = binary::run(sudo.arg("--run-dir").arg(daemon.run_directory())).success();
    assert!(said.contains("hold \"audit-7\" by uid 0 (login 4321) since "), "{said}");
    let said =
        worm(&daemon, &["hold", file, "--name", "audit-7", "--reason", "again"]).expect_code(4);
    assert!(said.stderr.contains("is on it already"), "{}", said.stderr);
    // Named by its place in the store as well, and on the whole group.
    let store = daemon.store();
    let store = store.to_str().unwrap();
    let why = worm(&daemon, &["why", "daily/x.sql.gz.sha256", "--store", store]).success();
    assert!(why.contains("hold \"audit-7\"") && why.contains("\"court order 12\""), "{why}");
    let shown = json(&daemon, &["show", file]);
    assert_eq!(shown["standing"], "sealed");
    let hold = &shown["kept"]["holds"][0];
    assert_eq!((&hold["name"], &hold["reason"]), (&"audit-7".into(), &"court order 12".into()));
    assert_eq!(hold["by"]["login_uid"], 4321);
    let said =
        worm(&daemon, &["hold", "--lift", file, "--name", "other", "--reason", "x"]).expect_code(6);
    assert!(said.stderr.contains("no hold \"other\" is on it"), "{}", said.stderr);
    worm(&daemon, &["hold", "--lift", file, "--name", "audit-7", "--reason", "case closed"])
        .success();
    assert!(!worm(&daemon, &["why", file]).success().contains("audit-7"));
    let log = worm(&daemon, &["log", store, "--path", "daily"]).success();
    for line in [
        "daily/x.sql.gz was closed and sealed: 5 B, uid 0, kept until ",
        "daily/x.sql.gz: hold \"audit-7\" was put by uid 0 (login 4321): \"court order 12\"",
        "daily/x.sql.gz: hold \"audit-7\" was lifted by uid 0: \"case closed\"",
    ] {
        assert!(log.contains(line), "{line}\n{log}");
    }
    daemon.verify();
}

#[test]
fn p09_only_governance_is_released_and_only_within_the_limit_is_extended() {
    let daemon = Daemon::prepare();
    let config = daemon.directory().join("worm.toml");
    put(
        &config,
        b"[class.strict]\nretention = \"2d\"\nmax_retention = \"4d\"\n\
          [class.soft]\nretention = \"2d\"\nmode = \"governance\"\n",
    );
    daemon.mount(&["--config", config.to_str().unwrap()]).success();
    let path = |name: &str| daemon.active().join(name).to_str().unwrap().to_owned();
    let (strict, soft) = (path("strict/x"), path("soft/x"));
    for file in [&strict, &soft] {
        put(Path::new(file), b"whole");
        daemon.wait(Path::new(file));
    }
    let why = worm(&daemon, &["why", &soft]).success();
    assert!(why.contains("the admin may release it"), "{why}");
    let said = worm(&daemon, &["release", &strict, "--reason", "x"]).expect_code(4);
    assert!(said.stderr.contains("compliance mode"), "{}", said.stderr);
    let said = worm(&daemon, &["release", &soft, "--reason", "wrong\nfile"]).expect_code(4);
    assert!(said.stderr.contains("a reason is one line"), "{}", said.stderr);
    let said = worm(&daemon, &["release", &soft, "--reason", "wrong file"]).success();
    assert!(said.contains("nothing keeps it"), "{said}");
    std::fs::remove_file(&soft).unwrap();

    let before = json(&daemon, &["show", &strict])["kept"]["left_seconds"].as_i64().unwrap();
    let after = json(&daemon, &["extend", &strict, "--by", "1d", "--reason", "audit"]);
    let left = after["kept"]["left_seconds"].as_i64().unwrap();
    assert!((86_400 - 60..=86_400).contains(&(left - before)), "{before} {left}");
    let said = worm(&daemon, &["extend", &strict, "--by", "9d"]).expect_code(4);
    assert!(said.stderr.contains("at most to 4d after its seal"), "{}", said.stderr);
    let said =
        worm(&daemon, &["extend", &strict, "--until", "2026-01-01T00:00:00Z"]).expect_code(4);
    assert!(said.stderr.contains("can only be moved later"), "{}", said.stderr);
    let store = daemon.store();
    let log = worm(&daemon, &["log", store.to_str().unwrap()]).success();
    for line in [
        "soft/x and its group were released early by uid 0: \"wrong file\"",
        "soft/x was removed by uid 0 (unlink)",
        "strict/x is kept longer, until ",
        ", by uid 0: \"audit\"",
    ] {
        assert!(log.contains(line), "{line}\n{log}");
    }
}

#[test]
fn why_tells_what_stands_at_every_kind_of_path() {
    let daemon = Daemon::start();
    let daily = daemon.active().join("daily");
    put(&daily.join("sealed"), b"x");
    daemon.wait(&daily.join("sealed"));
    let open = File::create_new(daily.join("open")).unwrap();
    std::fs::create_dir(daily.join("empty")).unwrap();
    std::fs::create_dir(daily.join("full")).unwrap();
    put(&daily.join("full/x"), b"x");
    for (path, says) in [
        ("daily/sealed", "daily/sealed: sealed 2"),
        ("daily/sealed", ", kept until 2"),
        ("daily/open", "daily/open: being written: only the descriptor that made it"),
        ("daily/free", "daily/free: free: a file can be made here, once, and is then kept 7d"),
        ("free", "free: free, but nothing can be made here: files live in classes"),
        ("daily/.incomplete/x", "nothing can be made here"),
        ("daily/none/x", "its directory is not there"),
        ("daily/empty", "an empty directory: it can be changed and removed, but never renamed"),
        ("daily/full", "a directory with something in it (1)"),
        ("daily", "daily: a class: it cannot be changed, renamed or removed"),
        ("", "the root of the store"),
    ] {
        let why = worm(&daemon, &["why", &daemon.active().join(path).to_string_lossy()]).success();
        assert!(why.contains(says), "{path}: {why}");
        assert_eq!(why.lines().count(), 1, "{why}");
    }
    drop(open);
    daemon.wait(&daily.join("open"));
    let by_view = worm(&daemon, &["why", &daemon.view().join("daily/open").to_string_lossy()]);
    assert!(by_view.success().starts_with("daily/open: sealed "));
    let said = worm(&daemon, &["show", &daily.join("free").to_string_lossy()]).expect_code(6);
    assert!(said.stderr.contains("nothing has this name"), "{}", said.stderr);
    let said = worm(&daemon, &["why", "/etc/hostname"]).expect_code(10);
    assert!(said.stderr.contains("CLASS/NAME, with --store"), "{}", said.stderr);
    let said = worm(&daemon, &["why", "/etc", "--store", &daemon.store().to_string_lossy()]);
    assert!(said.expect_code(2).stderr.contains("CLASS/NAME"));
}

#[test]
fn the_log_goes_on_as_things_happen_and_its_raw_lines_are_the_ledgers() {
    let daemon = Daemon::start();
    let store = daemon.store();
    let store = store.to_str().unwrap();
    let out = daemon.directory().join("followed");
    let mut command = binary::command("worm");
    command.args(["log", store, "--follow"]).arg("--run-dir").arg(daemon.run_directory());
    let mut follower = command.stdout(File::create(&out).unwrap()).spawn().unwrap();
    let file = daemon.active().join("daily/late");
    put(&file, b"x");
    let seen = std::panic::catch_unwind(|| {
        eventually("the log goes on", || {
            let text = std::fs::read_to_string(&out).unwrap();
            text.contains("daily/late was closed and sealed").then_some(text)
        })
    });
    follower.kill().unwrap();
    follower.wait().unwrap();
    assert!(seen.unwrap().contains(" was made, format 1"));
    let ledger = std::fs::read_to_string(daemon.store().join("ledger/000001.jsonl")).unwrap();
    assert_eq!(worm(&daemon, &["log", store, "--json"]).success(), ledger);
    let since = worm(&daemon, &["log", store, "--since", "2200-01-01T00:00:00Z"]).success();
    assert_eq!(since, "");
    let said = worm(&daemon, &["log", store, "--since", "soon"]).expect_code(2);
    assert!(said.stderr.contains("how long ago as 24h"), "{}", said.stderr);
}

#[test]
fn the_clock_is_shown_and_cannot_be_moved_beyond_the_system_clock() {
    let daemon = Daemon::start();
    // The only store that is served is meant when none is named.
    let shown = worm(&daemon, &["clock"]).success();
    assert!(shown.starts_with("retention clock  2") && shown.contains("\nlag "), "{shown}");
    let report = json(&daemon, &["clock"]);
    assert!(report["lag_ms"].as_i64().unwrap().abs() < 60_000, "{report}");
    let said = worm(&daemon, &["clock", "credit", "3d", "--reason", "moved house"]).expect_code(4);
    assert!(said.stderr.contains("at most the lag"), "{}", said.stderr);
}

/// What is answered to a request of HTTP.
fn get(mut stream: impl std::io::Read + std::io::Write, request: &str) -> String {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn metrics_count_and_clear() {
    let daemon = Daemon::prepare();
    daemon.mount(&["--metrics", "127.0.0.1:0"]).success();
    let line = logged(&daemon, &["metrics", "address=127.0.0.1:"]);
    let address = line.rsplit("address=").next().unwrap().trim().to_owned();
    let ask = |request: &str| get(TcpStream::connect(&address).unwrap(), request);
    let numbers = || ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    let open = File::create_new(daemon.active().join("daily/x")).unwrap();
    std::fs::remove_file(daemon.active().join("daily/x")).unwrap_err();
    let before = numbers();
    assert!(before.starts_with("HTTP/1.1 200 OK\r\n"), "{before}");
    for line in [
        "worm_open_files 1",
        "worm_refusals_total{request=\"unlink\",reason=\"not_the_writer\"} 1",
        "worm_class_files{class=\"daily\"} 0",
        "worm_alarms 0",
        "worm_class_used{class=\"daily\",limit=\"open_files\"} 1",
    ] {
        assert!(before.lines().any(|written| written == line), "{line}\n{before}");
    }
    drop(open);
    daemon.wait(&daemon.active().join("daily/x"));
    let after = eventually("the gauge clears", || {
        let numbers = numbers();
        numbers.contains("\nworm_open_files 0\n").then_some(numbers)
    });
    assert!(after.contains("\nworm_class_files{class=\"daily\"} 1\n"), "{after}");
    let length = after.split("Content-Length: ").nth(1).unwrap().split('\r').next().unwrap();
    let body = after.split("\r\n\r\n").nth(1).unwrap();
    assert_eq!(length.parse::<usize>().unwrap(), body.len());
    assert!(ask("GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404"));
    assert!(ask("POST /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405"));
    // The status shows the same.
    let status = json(&daemon, &["status", daemon.store().to_str().unwrap()]);
    assert_eq!(status["daemon"]["refusals"][0]["reason"], "not_the_writer");
    let used = &status["daemon"]["usage"][0];
    assert!(used["limits"][0]["limit"].as_u64().unwrap() > 0, "{used}");
    let shown = worm(&daemon, &["status", daemon.store().to_str().unwrap()]).success();
    assert!(shown.contains("LIMITS USED") && shown.contains("BYTES PER DAY"), "{shown}");
    assert_eq!(status["daemon"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&status["lines"], &status["served"]), (&status["signed"], &true.into()));
    assert!(status["room"]["free_bytes"].as_u64() < status["room"]["bytes"].as_u64());
}

#[test]
fn metrics_are_never_offered_to_other_machines_and_may_have_a_socket() {
    let daemon = Daemon::prepare();
    let said = daemon.mount(&["--metrics", "0.0.0.0:0"]).expect_code(2);
    assert!(said.stderr.contains("only loopback"), "{}", said.stderr);
    let socket = daemon.directory().join("metrics.sock");
    daemon.mount(&["--metrics", &format!("unix:{}", socket.display())]).success();
    let numbers = get(UnixStream::connect(&socket).unwrap(), "GET /metrics HTTP/1.0\r\n\r\n");
    assert!(numbers.contains("\nworm_build_info{version="), "{numbers}");
    daemon.worm("umount", &daemon.active(), &[]).success();
    // Out of the daemon's reach, so it stays; nobody listens there.
    let refused = UnixStream::connect(&socket).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}
