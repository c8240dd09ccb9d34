//! Promise 1: A name can be created once; whoever holds the open file description may write it, at
//! any offset, until the last holder closes. Nobody else can open it for writing.

use std::process::Command;
use std::process::Stdio;
use std::sync::Barrier;

use rustix::fs::FallocateFlags;
use rustix::fs::OFlags;
use rustix::io::Errno;
use system_tests::binary;
use system_tests::session::Mounted;
use system_tests::session::Session;
use system_tests::worm_test;
use worm_fs::record::Digest;

worm_test!(a_name_can_be_created_once, |worm| {
    worm.put(b"hourly/x", b"first");
    assert_eq!(worm.create(b"hourly/x"), Err(Errno::EXIST));
    let sealed = worm.open(b"hourly/x", OFlags::CREATE | OFlags::WRONLY, 0o644);
    assert_eq!(sealed, Err(Errno::PERM), "O_CREAT without O_EXCL opens what is there");
    assert_eq!(worm.get(b"hourly/x").unwrap(), b"first");
});

worm_test!(creating_does_not_need_o_excl, |worm| {
    for (name, flags) in [
        (&b"hourly/a"[..], OFlags::CREATE | OFlags::WRONLY | OFlags::TRUNC),
        (b"hourly/b", OFlags::CREATE | OFlags::WRONLY | OFlags::APPEND),
        (b"hourly/c", OFlags::CREATE | OFlags::RDWR),
    ] {
        let fd = worm.open(name, flags, 0o644).unwrap();
        assert_eq!(worm.write(fd, b"one "), Ok(4));
        assert_eq!(worm.write(fd, b"two"), Ok(3));
        worm.close(fd).unwrap();
        worm.wait_sealed(name);
        assert_eq!(worm.get(name).unwrap(), b"one two");
    }
});

worm_test!(a_second_writer_is_turned_away_while_the_first_is_at_work, |worm| {
    let fd = worm.create(b"hourly/x").unwrap();
    for flags in [
        OFlags::WRONLY,
        OFlags::RDWR,
        OFlags::WRONLY | OFlags::APPEND,
        OFlags::WRONLY | OFlags::TRUNC,
        OFlags::WRONLY | OFlags::CREATE,
        OFlags::RDONLY | OFlags::TRUNC,
    ] {
        assert_eq!(worm.open(b"hourly/x", flags, 0o644), Err(Errno::BUSY), "{flags:?}");
    }
    assert_eq!(worm.create(b"hourly/x"), Err(Errno::EXIST));
    assert_eq!(worm.write(fd, b"mine"), Ok(4));
    worm.close(fd).unwrap();
    worm.wait_sealed(b"hourly/x");
    assert_eq!(worm.get(b"hourly/x").unwrap(), b"mine");
});

worm_test!(somebody_may_read_while_it_is_written, |worm| {
    let fd = worm.create(b"hourly/x").unwrap();
    worm.write(fd, b"so far").unwrap();
    assert_eq!(worm.get(b"hourly/x").unwrap(), b"so far");
    let reader = worm.open_to_read(b"hourly/x").unwrap();
    worm.write(fd, b" and on").unwrap();
    assert_eq!(worm.read_at(reader, 100, 3).unwrap(), b"far and on");
    worm.close(fd).unwrap();
    worm.wait_sealed(b"hourly/x");
    assert_eq!(worm.read_at(reader, 100, 3).unwrap(), b"far and on");
    assert_eq!(worm.write_at(reader, b"x", 0), Err(Errno::BADF));
    assert_eq!(worm.ftruncate(reader, 0), Err(Errno::INVAL));
    worm.close(reader).unwrap();
});

worm_test!(bytes_may_come_at_any_offset_and_the_digest_is_of_what_is_there, |worm| {
    let fd = worm.create(b"hourly/x").unwrap();
    worm.write_at(fd, b"world", 6).unwrap();
    worm.write_at(fd, b"hello ", 0).unwrap();
    worm.write_at(fd, b"W", 6).unwrap();
    worm.close(fd).unwrap();
    assert_eq!(worm.wait_sealed(b"hourly/x"), Digest::of(b"hello World").to_string());
    assert_eq!(worm.get(b"hourly/x").unwrap(), b"hello World");
});

worm_test!(a_sparse_file_has_zeros_in_its_holes_and_the_right_digest, |worm| {
    let mut expected = vec![0; 3 << 20];
    expected[..5].copy_from_slice(b"begin");
    expected.extend_from_slice(b"end");
    let fd = worm.create(b"hourly/x").unwrap();
    worm.write_at(fd, b"begin", 0).unwrap();
    worm.write_at(fd, b"end", 3 << 20).unwrap();
    worm.close(fd).unwrap();
    assert_eq!(worm.wait_sealed(b"hourly/x"), Digest::of(&expected).to_string());
    assert!(worm.get(b"hourly/x").unwrap() == expected);
    assert_eq!(worm.stat(b"hourly/x").unwrap().size, expected.len() as u64);
});

worm_test!(a_file_in_many_pieces_has_the_right_digest, |worm| {
    let all: Vec<u8> = (0..5_000_011_u32).map(|n| (n % 251) as u8).collect();
    let fd = worm.create(b"hourly/x").unwrap();
    for piece in all.chunks(300_007) {
        let mut left = piece;
        while !left.is_empty() {
            let written = worm.write(fd, left).unwrap();
            left = &left[written..];
        }
    }
    worm.close(fd).unwrap();
    assert_eq!(worm.wait_sealed(b"hourly/x"), Digest::of(&all).to_string());
    assert!(worm.get(b"hourly/x").unwrap() == all);
});

worm_test!(the_writer_may_set_the_length, |worm| {
    let fd = worm.create(b"hourly/x").unwrap();
    worm.write(fd, b"0123456789").unwrap();
    worm.ftruncate(fd, 4).unwrap();
    assert_eq!(worm.stat(b"hourly/x").unwrap().size, 4);
    worm.ftruncate(fd, 6).unwrap();
    worm.close(fd).unwrap();
    assert_eq!(worm.wait_sealed(b"hourly/x"), Digest::of(b"0123\0\0").to_string());
    assert_eq!(worm.get(b"hourly/x").unwrap(), b"0123\0\0");
});

worm_test!(the_writer_may_reserve_room_and_nothing_else, |worm| {
    let fd = worm.create(b"hourly/x").unwrap();
    worm.write(fd, b"abc").unwrap();
    worm.fallocate(fd, FallocateFlags::KEEP_SIZE, 0, 1 << 16).unwrap();
    assert_eq!(worm.stat(b"hourly/x").unwrap().size, 3);
    worm.fallocate(fd, FallocateFlags::empty(), 0, 5).unwrap();
    assert_eq!(worm.stat(b"hourly/x").unwrap().size, 5);
    worm.fallocate(fd, FallocateFlags::empty(), 0, 2).unwrap();
    for mode in [
        FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
        FallocateFlags::ZERO_RANGE,
        FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
        FallocateFlags::COLLAPSE_RANGE,
        FallocateFlags::INSERT_RANGE,
        FallocateFlags::UNSHARE_RANGE,
    ] {
        assert_eq!(worm.fallocate(fd, mode, 0, 4096), Err(Errno::OPNOTSUPP), "{mode:?}");
    }
    worm.close(fd).unwrap();
    assert_eq!(worm.wait_sealed(b"hourly/x"), Digest::of(b"abc\0\0").to_string());
});

worm_test!(of_two_who_create_one_name_at_the_same_time_exactly_one_wins, |worm| {
    for round in 0..20 {
        let name = format!("hourly/{round}");
        let together = Barrier::new(2);
        let create = |text: &'static [u8]| {
            together.wait();
            let fd = worm.create(name.as_bytes())?;
            worm.write(fd, text)?;
            worm.close(fd)?;
            Ok::<_, Errno>(text)
        };
        let outcomes = std::thread::scope(|scope| {
            let (one, two) = (scope.spawn(|| create(b"one")), scope.spawn(|| create(b"two")));
            [one.join().unwrap(), two.join().unwrap()]
        });
        let won: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.ok()).collect();
        assert_eq!(won.len(), 1, "{outcomes:?}");
        assert!(outcomes.contains(&Err(Errno::EXIST)), "{outcomes:?}");
        worm.wait_sealed(name.as_bytes());
        assert_eq!(worm.get(name.as_bytes()).unwrap(), won[0]);
    }
});

/// A descriptor in a child of the shell: only the kernel knows of those.
#[test]
fn inherited_descriptors_write_until_the_last_one_is_closed() {
    let session = Mounted::default();
    let worm: &dyn Session = &session;
    let fd = worm.create(b"hourly/x").unwrap();
    worm.write(fd, b"parent\n").unwrap();
    let mut child = Command::new("sh");
    child.args(["-c", "echo child; /bin/echo grandchild"]);
    let mut running = child.stdin(Stdio::null()).stdout(session.owned(fd)).spawn().unwrap();
    drop(child);
    let ended = binary::wait_within(&mut running, binary::PATIENCE);
    assert!(ended.unwrap().success());
    assert_eq!(worm.worm(b"hourly/x", "state").unwrap(), "writing");
    worm.write(fd, b"parent again\n").unwrap();
    worm.close(fd).unwrap();
    worm.wait_sealed(b"hourly/x");
    assert_eq!(worm.get(b"hourly/x").unwrap(), b"parent\nchild\ngrandchild\nparent again\n");
}

/// Closing one of two descriptors sends a FLUSH, and that is not the end.
#[test]
fn a_duplicate_keeps_the_file_open() {
    let session = Mounted::default();
    let worm: &dyn Session = &session;
    let fd = worm.create(b"hourly/x").unwrap();
    let duplicate = session.owned(fd);
    worm.close(fd).unwrap();
    assert_eq!(worm.worm(b"hourly/x", "sha256"), Err(Errno::NODATA));
    assert_eq!(rustix::io::write(&duplicate, b"late"), Ok(4));
    drop(duplicate);
    assert_eq!(worm.wait_sealed(b"hourly/x"), Digest::of(b"late").to_string());
}

/// Opening `/proc/self/fd/N` anew is a new open, not a duplicate.
#[test]
fn a_descriptor_cannot_be_opened_again_through_proc() {
    use std::os::fd::AsRawFd as _;

    let session = Mounted::default();
    let worm: &dyn Session = &session;
    let fd = worm.create(b"hourly/x").unwrap();
    let held = session.owned(fd);
    let path = format!("/proc/self/fd/{}", held.as_raw_fd());
    let again = || rustix::fs::open(&path, OFlags::WRONLY, rustix::fs::Mode::empty());
    assert_eq!(again().unwrap_err(), Errno::BUSY);
    worm.close(fd).unwrap();
    drop(held);
    worm.wait_sealed(b"hourly/x");
    let held = worm.open_to_read(b"hourly/x").unwrap();
    let reader = session.owned(held);
    let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
    for flags in [OFlags::WRONLY, OFlags::RDWR, OFlags::RDONLY | OFlags::TRUNC] {
        let again = rustix::fs::open(&path, flags, rustix::fs::Mode::empty());
        assert_eq!(again.unwrap_err(), Errno::PERM, "{flags:?}");
    }
}
