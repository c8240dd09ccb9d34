//! Promise 8: Shared writable mappings are impossible. Only the kernel maps, so these go through a
//! mount.

use rustix::fs::OFlags;
use rustix::io::Errno;
use system_tests::session::Mounted;
use system_tests::session::Session;
use system_tests::session::raw;
use worm_fs::fs::Control;

#[test]
fn a_file_being_written_cannot_be_mapped_for_writing() {
    let session = Mounted::default();
    let worm: &dyn Session = &session;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR;
    let fd = worm.open(b"hourly/x", flags, 0o644).unwrap();
    worm.write(fd, &[b'x'; 8192]).unwrap();
    let writer = session.owned(fd);
    assert_eq!(raw::map_shared(&writer), Err(Errno::NODEV));
    worm.control(fd, Control::Commit).unwrap();
    assert_eq!(raw::map_shared(&writer), Err(Errno::NODEV), "after the seal neither");
}

#[test]
fn a_sealed_file_cannot_be_mapped_for_writing() {
    let session = Mounted::default();
    let worm: &dyn Session = &session;
    worm.put(b"hourly/x", &[b'x'; 8192]);
    let fd = worm.open_to_read(b"hourly/x").unwrap();
    assert_eq!(raw::map_shared(session.owned(fd)), Err(Errno::ACCESS));
}
