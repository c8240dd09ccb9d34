//! Promise 7: Only plain files and directories exist. Directories may be made inside a class; an
//! empty one may be removed; none may be renamed. Class directories are fixed.

use rustix::fs::FileType;
use rustix::fs::OFlags;
use rustix::fs::RenameFlags;
use rustix::io::Errno;
use system_tests::session::End;
use system_tests::session::GUEST;
use system_tests::worm_test;

const NOTHING: RenameFlags = RenameFlags::empty();

worm_test!(nothing_but_plain_files_and_directories_can_be_made, |worm| {
    worm.put(b"hourly/x", b"bytes");
    for kind in [
        FileType::RegularFile,
        FileType::Fifo,
        FileType::Socket,
        FileType::CharacterDevice,
        FileType::BlockDevice,
    ] {
        assert_eq!(worm.mknod(b"hourly/node", kind), Err(Errno::PERM), "{kind:?}");
    }
    for at in [&b"hourly/link"[..], b"link"] {
        assert_eq!(worm.symlink(b"hourly/x", at), Err(Errno::PERM));
        assert_eq!(worm.link(b"hourly/x", at), Err(Errno::PERM));
    }
    assert_eq!(worm.link(b"hourly", b"hourly/link"), Err(Errno::PERM));
    assert_eq!(worm.list(b"hourly").unwrap(), [&b".incomplete"[..], b"x"]);
});

worm_test!(directories_are_made_inside_a_class_and_last, |worm| {
    worm.mkdir(b"hourly/a", 0o750).unwrap();
    worm.mkdir(b"hourly/a/b", 0o700).unwrap();
    assert_eq!(worm.mkdir(b"hourly/a", 0o755), Err(Errno::EXIST));
    assert_eq!(worm.mkdir(b"hourly/none/b", 0o755), Err(Errno::NOENT));
    worm.put(b"hourly/a/b/x", b"deep");
    worm.restart(End::Crash);
    let stat = worm.stat(b"hourly/a").unwrap();
    assert_eq!((stat.is_directory, stat.mode), (true, 0o750));
    assert_eq!(worm.stat(b"hourly/a/b").unwrap().mode, 0o700);
    assert_eq!(worm.get(b"hourly/a/b/x").unwrap(), b"deep");
    assert_eq!(worm.mkdir(b"hourly/a/b/x/c", 0o755), Err(Errno::NOTDIR));
});

worm_test!(an_empty_directory_may_be_removed_and_no_other, |worm| {
    worm.mkdir(b"hourly/a", 0o755).unwrap();
    worm.mkdir(b"hourly/a/b", 0o755).unwrap();
    assert_eq!(worm.rmdir(b"hourly/a"), Err(Errno::NOTEMPTY));
    assert_eq!(worm.unlink(b"hourly/a/b"), Err(Errno::ISDIR));
    assert_eq!(worm.rmdir(b"hourly/a/b"), Ok(()));
    let fd = worm.create(b"hourly/a/x").unwrap();
    assert_eq!(worm.rmdir(b"hourly/a"), Err(Errno::NOTEMPTY), "a file is being written in it");
    worm.close(fd).unwrap();
    worm.wait_sealed(b"hourly/a/x");
    assert_eq!(worm.rmdir(b"hourly/a"), Err(Errno::NOTEMPTY));
    worm.mkdir(b"hourly/c", 0o755).unwrap();
    assert_eq!(worm.rmdir(b"hourly/c"), Ok(()));
    assert_eq!(worm.rmdir(b"hourly/c"), Err(Errno::NOENT));
    worm.put(b"hourly/c", b"now a file");
    worm.restart(End::Crash);
    assert_eq!(worm.get(b"hourly/c").unwrap(), b"now a file");
    assert_eq!(worm.stat(b"hourly/a/b"), Err(Errno::NOENT));
});

worm_test!(no_directory_is_ever_renamed, |worm| {
    worm.mkdir(b"hourly/a", 0o755).unwrap();
    worm.mkdir(b"hourly/b", 0o755).unwrap();
    for to in [&b"hourly/free"[..], b"hourly/b", b"daily/a", b"free"] {
        assert_eq!(worm.rename(b"hourly/a", to, NOTHING), Err(Errno::PERM));
    }
    let exchanged = worm.rename(b"hourly/a", b"hourly/b", RenameFlags::EXCHANGE);
    assert_eq!(exchanged, Err(Errno::PERM));
    for class in [&b"hourly"[..], b"daily"] {
        assert_eq!(worm.rename(class, b"renamed", NOTHING), Err(Errno::PERM));
    }
    assert_eq!(worm.rename(b"hourly", b"daily", RenameFlags::EXCHANGE), Err(Errno::PERM));
});

worm_test!(an_empty_directory_may_be_adjusted_and_no_other, |worm| {
    worm.mkdir(b"hourly/a", 0o755).unwrap();
    worm.chmod(b"hourly/a", 0o700).unwrap();
    worm.chown(b"hourly/a", 7, 8).unwrap();
    let check = || {
        let stat = worm.stat(b"hourly/a").unwrap();
        assert_eq!((stat.mode, stat.uid, stat.gid), (0o700, 7, 8));
    };
    check();
    worm.put(b"hourly/a/x", b"bytes");
    assert_eq!(worm.chmod(b"hourly/a", 0o755), Err(Errno::PERM));
    assert_eq!(worm.chown(b"hourly/a", 0, 0), Err(Errno::PERM));
    assert_eq!(worm.utimes(b"hourly/a", 0), Err(Errno::PERM));
    check();
    worm.restart(End::Crash);
    check();
});

worm_test!(classes_are_as_configured_and_fixed, |worm| {
    let classes = [&b"daily"[..], b"guest", b"hourly"];
    assert_eq!(worm.list(b"").unwrap(), classes);
    for class in classes {
        let before = worm.stat(class).unwrap();
        assert_eq!(worm.chmod(class, 0o777), Err(Errno::PERM));
        assert_eq!(worm.chown(class, 1, 1), Err(Errno::PERM));
        assert_eq!(worm.utimes(class, 0), Err(Errno::PERM));
        assert_eq!(worm.rmdir(class), Err(Errno::PERM));
        assert!(worm.setxattr(class, "user.x", b"1").is_err());
        assert_eq!(worm.stat(class).unwrap(), before);
        assert_eq!(worm.list(class).unwrap(), [b".incomplete"]);
    }
    let guest = worm.stat(b"guest").unwrap();
    assert_eq!((guest.mode, guest.uid, guest.gid), (0o755, GUEST, GUEST));
});

worm_test!(nothing_is_made_or_changed_at_the_root, |worm| {
    assert_eq!(worm.create(b"x"), Err(Errno::PERM));
    assert_eq!(worm.mkdir(b"x", 0o755), Err(Errno::PERM));
    assert_eq!(worm.mknod(b"x", FileType::Fifo), Err(Errno::PERM));
    assert_eq!(worm.symlink(b"hourly", b"x"), Err(Errno::PERM));
    assert_eq!(worm.chmod(b"", 0o777), Err(Errno::PERM));
    assert_eq!(worm.chown(b"", 1, 1), Err(Errno::PERM));
    assert_eq!(worm.list(b"").unwrap().len(), 3);
});

worm_test!(a_directory_is_not_opened_for_writing, |worm| {
    for flags in [OFlags::WRONLY, OFlags::RDWR, OFlags::CREATE | OFlags::RDONLY] {
        assert_eq!(worm.open(b"hourly", flags, 0o644), Err(Errno::ISDIR), "{flags:?}");
    }
});

worm_test!(names_are_any_bytes_up_to_255, |worm| {
    let long = [&b"hourly/"[..], &[b'n'; 255]].concat();
    let names = [
        &long[..],
        b"hourly/\xff\xfe not utf-8",
        b"hourly/new\nline \"quoted\" \\ %41",
        b"hourly/...",
        b"hourly/ ",
        b"hourly/\xf0\x9f\x90\x98",
    ];
    for name in names {
        worm.put(name, name);
    }
    worm.restart(End::Crash);
    for name in names {
        assert_eq!(worm.get(name).unwrap(), name);
    }
    let too_long = [&b"hourly/"[..], &[b'n'; 256]].concat();
    assert_eq!(worm.create(&too_long), Err(Errno::NAMETOOLONG));
    assert_eq!(worm.mkdir(&too_long, 0o755), Err(Errno::NAMETOOLONG));
    assert_eq!(worm.stat(&too_long), Err(Errno::NAMETOOLONG));
    assert_eq!(worm.rename(&long, &too_long, NOTHING), Err(Errno::NAMETOOLONG));
});

worm_test!(the_longest_name_can_be_left_incomplete, |worm| {
    let long = [&b"hourly/"[..], &[b'n'; 255]].concat();
    let fd = worm.create(&long).unwrap();
    worm.write(fd, b"half").unwrap();
    worm.restart(End::Crash);
    assert_eq!(worm.stat(&long), Err(Errno::NOENT));
    let kept = worm.list(b"hourly/.incomplete").unwrap();
    assert_eq!(kept.len(), 1);
    assert!(kept[0].starts_with(&[b'n'; 240]) && kept[0].len() <= 255, "{kept:?}");
});

worm_test!(directories_are_nested_only_so_deep, |worm| {
    let mut path = b"hourly".to_vec();
    let refused = (0..40).find_map(|_| {
        path.extend_from_slice(b"/d");
        worm.mkdir(&path, 0o755).err()
    });
    assert_eq!(refused, Some(Errno::NAMETOOLONG));
});
