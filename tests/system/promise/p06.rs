//! Promise 6: `user.worm.sha256` answers only when data, ledger and directory are synced; on an
//! open file `ENODATA`, at once.

use rustix::io::Errno;
use system_tests::session::End;
use system_tests::worm_test;
use worm_fs::record::Digest;
use worm_fs::store::Access;
use worm_fs::store::Store;

worm_test!(there_is_no_digest_while_a_file_is_open, |worm| {
    let fd = worm.create(b"hourly/x").unwrap();
    assert_eq!(worm.worm(b"hourly/x", "sha256"), Err(Errno::NODATA));
    worm.write(fd, b"bytes").unwrap();
    assert_eq!(worm.worm(b"hourly/x", "sha256"), Err(Errno::NODATA));
    let names = worm.listxattr(b"hourly/x").unwrap();
    assert!(!names.contains(&"user.worm.sha256".to_owned()), "{names:?}");
    worm.close(fd).unwrap();
    assert_eq!(worm.wait_sealed(b"hourly/x"), Digest::of(b"bytes").to_string());
});

worm_test!(when_the_digest_answers_the_signed_ledger_and_the_directory_have_the_file, |worm| {
    let digest = worm.put(b"hourly/x", b"bytes");
    assert_eq!(std::fs::read(worm.ground().data(b"hourly/x")).unwrap(), b"bytes");
    let (_, loaded) = Store::open(&worm.ground().store(), Access::Look).unwrap();
    assert_eq!(loaded.signed, loaded.catalog.seq, "every line is signed");
    let sealed = loaded.catalog.files().find(|(_, file)| file.name.as_bytes() == b"x").unwrap();
    assert_eq!(sealed.1.sha256.unwrap().to_string(), digest);
    worm.restart(End::Crash);
    assert_eq!(worm.worm(b"hourly/x", "sha256").unwrap(), digest);
});

worm_test!(a_directory_has_no_digest, |worm| {
    assert_eq!(worm.worm(b"hourly", "sha256"), Err(Errno::NODATA));
    assert_eq!(worm.worm(b"", "sha256"), Err(Errno::NODATA));
});
