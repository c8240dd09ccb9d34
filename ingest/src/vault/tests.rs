//! A plain directory keeps the promise of the vault. The mount is tested with the whole system.

use std::fs::File;
use std::path::Path;

use super::*;

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

struct Plain {
    root: tempfile::TempDir,
}

impl Plain {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("hourly")).unwrap();
        Self { root }
    }

    fn class(&self) -> Arc<Class> {
        Arc::new(Class::open(self.root.path(), "hourly", true).unwrap())
    }

    fn names(&self) -> Vec<String> {
        names(&self.root.path().join("hourly"))
    }

    fn incomplete(&self) -> Vec<String> {
        names(&self.root.path().join("hourly/.incomplete"))
    }
}

fn create(class: &Arc<Class>, names: &[&str]) -> Result<Draft, VaultError> {
    let tee = Tee::create(&[Arc::clone(class)], names.iter().map(|name| (*name).to_owned()))?;
    tee.into_drafts().remove(0)
}

#[test]
fn a_plain_directory_is_refused_unless_allowed() {
    let plain = Plain::new();
    let error = Class::open(plain.root.path(), "hourly", false).unwrap_err();
    assert!(matches!(error, VaultError::NotWriteOnce { .. }), "{error}");
}

#[test]
fn an_unknown_class_is_told_with_those_there_are() {
    let plain = Plain::new();
    std::fs::create_dir(plain.root.path().join("daily")).unwrap();
    let error = Class::open(plain.root.path(), "dayly", true).unwrap_err();
    assert!(error.to_string().ends_with("there is: daily, hourly"), "{error}");
}

#[test]
fn a_file_has_its_name_only_when_sealed() {
    let plain = Plain::new();
    let class = plain.class();
    let mut draft = create(&class, &["a.sql.gz"]).unwrap();
    draft.write_all(b"42").unwrap();
    assert_eq!(plain.names(), [".incomplete"]);
    draft.seal().unwrap();
    assert_eq!(plain.names(), [".incomplete", "a.sql.gz"]);
    assert_eq!(plain.incomplete(), [""; 0]);
    assert_eq!(class.attributes("a.sql.gz").unwrap().bytes, 2);
}

#[test]
fn a_draft_that_is_dropped_is_gone() {
    let plain = Plain::new();
    let class = plain.class();
    drop(create(&class, &["a.sql.gz"]).unwrap());
    assert_eq!(plain.names(), [".incomplete"]);
    assert_eq!(plain.incomplete(), [""; 0]);
}

#[test]
fn a_taken_name_or_companion_is_passed_over() {
    let plain = Plain::new();
    let class = plain.class();
    class.put("a.sql.gz", b"").unwrap();
    class.put("b.sql.gz.sha256", b"").unwrap();
    class.put("c.sql.gz.manifest.json", b"").unwrap();
    let open = create(&class, &["d.sql.gz"]).unwrap();
    let names = ["a.sql.gz", "b.sql.gz", "c.sql.gz", "d.sql.gz", "e.sql.gz"];
    assert_eq!(create(&class, &names).unwrap().name(), "e.sql.gz");
    drop(open);
    assert_eq!(create(&class, &names).unwrap().name(), "d.sql.gz");
    let error = create(&class, &["a.sql.gz"]).unwrap_err();
    assert!(matches!(error, VaultError::NoFreeName { tried: 1, .. }), "{error}");
}

#[test]
fn sealing_never_replaces() {
    let plain = Plain::new();
    let class = plain.class();
    let draft = create(&class, &["a.sql.gz"]).unwrap();
    let path = plain.root.path().join("hourly/a.sql.gz");
    File::create_new(&path).unwrap().write_all(b"first").unwrap();
    assert!(draft.seal().is_err());
    assert_eq!(std::fs::read(path).unwrap(), b"first");
}

#[test]
fn a_sweep_removes_what_the_dead_left_and_nothing_else() {
    let plain = Plain::new();
    let class = plain.class();
    let alive = create(&class, &["2026-01-18_00-00-01.dump"]).unwrap();
    let incomplete = plain.root.path().join("hourly/.incomplete");
    for name in ["2026-01-18_00-00-00.sql.gz", "2026-01-18_00-00-00.tar.age.sha256", "notes.txt"] {
        File::create_new(incomplete.join(name)).unwrap();
    }
    drop(plain.class());
    assert_eq!(plain.incomplete(), ["2026-01-18_00-00-01.dump", "notes.txt"]);
    drop(alive);
}

#[test]
fn a_mount_must_say_until_when_it_keeps_a_file() {
    let worm = Kind::Worm("store".to_owned());
    let until = "2026-02-18T00:00:00Z";
    assert_eq!(promise(&worm, Some(until)), Ok(Some(until.parse().unwrap())));
    assert!(promise(&worm, None).is_err());
    assert!(promise(&worm, Some("")).is_err());
    assert!(promise(&worm, Some("for ever")).unwrap_err().contains("for ever"));
    assert_eq!(promise(&Kind::Plain, None), Ok(None));
}

#[test]
fn one_name_is_free_in_all_classes_or_not_taken() {
    let plain = Plain::new();
    std::fs::create_dir(plain.root.path().join("daily")).unwrap();
    let daily = Arc::new(Class::open(plain.root.path(), "daily", true).unwrap());
    let classes = [plain.class(), daily];
    classes[1].put("a.sql.gz.sha256", b"").unwrap();
    let names = ["a.sql.gz", "b.sql.gz"].map(str::to_owned);
    let tee = Tee::create(&classes, names.into_iter()).unwrap();
    assert_eq!(tee.name(), Some("b.sql.gz"));
    for draft in tee.into_drafts() {
        draft.unwrap().seal().unwrap();
    }
    assert_eq!(plain.names(), [".incomplete", "b.sql.gz"]);
    assert_eq!(plain.incomplete(), [""; 0], "nothing was begun under the first name");
}

#[test]
fn a_class_that_takes_no_file_does_not_keep_the_others_from_theirs() {
    let plain = Plain::new();
    let daily = plain.root.path().join("daily");
    std::fs::create_dir(&daily).unwrap();
    let classes = [Arc::new(Class::open(plain.root.path(), "daily", true).unwrap()), plain.class()];
    File::create_new(daily.join(".incomplete")).unwrap();
    let mut tee = Tee::create(&classes, std::iter::once("a.sql.gz".to_owned())).unwrap();
    tee.write_all(b"42").unwrap();
    let mut drafts = tee.into_drafts();
    drafts.pop().unwrap().unwrap().seal().unwrap();
    assert!(drafts.pop().unwrap().is_err());
    assert_eq!(classes[1].attributes("a.sql.gz").unwrap().bytes, 2);
}

#[test]
fn a_file_that_cannot_be_written_is_given_up_alone_and_the_last_one_ends_the_stream() {
    let plain = Plain::new();
    let class = plain.class();
    let draft = |name| create(&class, &[name]).unwrap();
    let mut tee = Tee::of(vec![draft("a.sql.gz"), draft("b.sql.gz").broken()]);
    tee.write_all(b"4").unwrap();
    tee.write_all(b"2").unwrap();
    let mut drafts = tee.into_drafts();
    let error = drafts.pop().unwrap().unwrap_err();
    assert!(matches!(error, VaultError::Full { .. }), "{error}");
    drafts.pop().unwrap().unwrap().seal().unwrap();
    assert_eq!(std::fs::read(plain.root.path().join("hourly/a.sql.gz")).unwrap(), b"42");

    let mut tee = Tee::of(vec![draft("b.sql.gz").broken()]);
    assert!(tee.write_all(b"42").is_err());
    assert_eq!(tee.name(), None);
}
