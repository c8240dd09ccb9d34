//! What the model promises of a disk.

use super::*;

fn create(model: &mut Model, directory: u64, name: &str, is_directory: bool) -> u64 {
    let name = name.as_bytes().to_vec();
    model.apply(&Op::Create { directory, name, is_directory }).unwrap()
}

fn write(model: &mut Model, inode: u64, offset: usize, bytes: &[u8]) {
    model.apply(&Op::Write { inode, offset, bytes: bytes.into() }).unwrap();
}

fn names(model: &Model, inode: u64) -> Vec<String> {
    let names = model.entries(inode).unwrap().keys();
    names.map(|name| String::from_utf8(name.clone()).unwrap()).collect()
}

#[test]
fn only_what_was_synced_survives_for_sure() {
    let mut model = Model::default();
    let file = create(&mut model, ROOT, "x", false);
    write(&mut model, file, 0, b"synced");
    model.apply(&Op::Sync { inode: file }).unwrap();
    write(&mut model, file, 0, b"SYNCED, but not this");
    assert_eq!(names(&model.cut(Survives::Nothing), ROOT), [""; 0]);
    assert_eq!(names(&model.cut(Survives::Everything), ROOT), ["x"]);
    model.apply(&Op::SyncDirectory { inode: ROOT }).unwrap();
    let cut = model.cut(Survives::Nothing);
    assert_eq!(cut.bytes(file).unwrap(), b"synced");
    let cut = model.cut(Survives::Everything);
    assert_eq!(cut.bytes(file).unwrap(), b"SYNCED, but not this");
    let some: BTreeSet<_> = (0..200)
        .map(|seed| model.cut(Survives::Some(seed)).bytes(file).unwrap().to_vec())
        .collect();
    for possible in [&b"synced"[..], b"SYNCED, but not this", b"SYNCED", b"synced\0\0\0"] {
        assert!(some.contains(possible), "{}", String::from_utf8_lossy(possible));
    }
}

#[test]
fn a_rename_between_directories_never_loses_the_file() {
    let mut model = Model::default();
    let directory = create(&mut model, ROOT, "d", true);
    let file = create(&mut model, ROOT, "x", false);
    model.apply(&Op::SyncDirectory { inode: ROOT }).unwrap();
    let (from, to) = ((ROOT, b"x".to_vec()), (directory, b"y".to_vec()));
    model.apply(&Op::Move { from, to }).unwrap();
    let mut seen = BTreeSet::new();
    for seed in 0..100 {
        let cut = model.cut(Survives::Some(seed));
        let both = (cut.find(ROOT, b"x"), cut.find(directory, b"y"));
        assert!(both.0 == Ok(file) || both.1 == Ok(file), "{both:?}");
        seen.insert((both.0.is_ok(), both.1.is_ok()));
    }
    assert_eq!(seen.len(), 3);
    // The old directory knows that it is gone only when the new one has it.
    model.apply(&Op::SyncDirectory { inode: ROOT }).unwrap();
    let cut = model.cut(Survives::Nothing);
    assert_eq!((cut.find(ROOT, b"x"), cut.find(directory, b"y")), (Err(Errno::NOENT), Ok(file)));
}

#[test]
fn what_a_failed_sync_dropped_no_later_one_writes() {
    let mut model = Model::default();
    let file = create(&mut model, ROOT, "x", false);
    model.apply(&Op::SyncDirectory { inode: ROOT }).unwrap();
    write(&mut model, file, 0, &[1; BLOCK]);
    model.apply(&Op::SyncFailed { inode: file }).unwrap();
    write(&mut model, file, BLOCK, &[2; BLOCK]);
    model.apply(&Op::Sync { inode: file }).unwrap();
    assert_eq!(model.bytes(file).unwrap()[..BLOCK], [1; BLOCK]);
    assert_eq!(model.cut(Survives::Nothing).bytes(file).unwrap()[..BLOCK], [0; BLOCK]);
    assert_eq!(model.cut(Survives::Nothing).bytes(file).unwrap()[BLOCK..], [2; BLOCK]);
    // Writing it again does.
    write(&mut model, file, 0, &[1; BLOCK]);
    model.apply(&Op::Sync { inode: file }).unwrap();
    assert_eq!(model.cut(Survives::Nothing).bytes(file).unwrap()[..BLOCK], [1; BLOCK]);
}

#[test]
fn an_exchange_is_one_change() {
    let mut model = Model::default();
    let one = create(&mut model, ROOT, "a", false);
    let other = create(&mut model, ROOT, "b", false);
    model.apply(&Op::SyncDirectory { inode: ROOT }).unwrap();
    let (directory, a, b) = (ROOT, b"a".to_vec(), b"b".to_vec());
    model.apply(&Op::Exchange { directory, one: a, other: b }).unwrap();
    for seed in 0..20 {
        let cut = model.cut(Survives::Some(seed));
        let both = (cut.find(ROOT, b"a").unwrap(), cut.find(ROOT, b"b").unwrap());
        assert!([(one, other), (other, one)].contains(&both), "{both:?}");
    }
}
