//! One dump for several classes: each has its own backup, and only its own trouble.

use serde_json::Value;
use worm_ingest::manifest::Manifest;

use crate::world::Run;
use crate::world::World;
use crate::world::names;

const TABLE: &str = "CREATE TABLE t AS SELECT generate_series(1, 1000) AS n";

/// What `--json` printed, a line for each class.
fn printed(run: &Run) -> Vec<Value> {
    run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn world(database: &str) -> World {
    let world = World::new(database, "", TABLE);
    for class in ["daily", "weekly"] {
        std::fs::create_dir(world.path("active").join(class)).unwrap();
    }
    world
}

#[test]
fn one_dump_serves_several_classes() {
    let world = world("classes");
    let counting = world.fake("echo dump >>$HERE/dumps\nexec $REAL \"$@\"");
    let run = world.backup(|command| {
        command.args(["daily", "weekly", "--client-dir"]).arg(&counting);
    });
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(std::fs::read_to_string(counting.join("dumps")).unwrap(), "dump\n");

    let printed = printed(&run);
    let name = printed[0]["name"].as_str().unwrap();
    let mut bytes = Vec::new();
    for (line, class) in printed.iter().zip(["hourly", "daily", "weekly"]) {
        assert_eq!((&line["class"], &line["name"]), (&class.into(), &name.into()));
        assert_eq!(line["run_id"], printed[0]["run_id"]);
        let directory = world.path("active").join(class);
        let mut found = names(&directory);
        found.retain(|name| name != ".incomplete");
        assert_eq!(
            found,
            [name.to_owned(), format!("{name}.manifest.json"), format!("{name}.sha256")]
        );
        let manifest = std::fs::read(directory.join(format!("{name}.manifest.json"))).unwrap();
        let manifest = Manifest::decode(&manifest).unwrap();
        assert_eq!(manifest.class, class);
        assert_eq!(manifest.classes, ["hourly", "daily", "weekly"]);
        assert_eq!(line["run_id"], manifest.run_id.unwrap().as_str());
        bytes.push(std::fs::read(directory.join(name)).unwrap());
    }
    assert!(bytes[0] == bytes[1] && bytes[1] == bytes[2]);
    assert_eq!(world.audit(), printed);
}

#[test]
fn a_class_that_fails_does_not_keep_the_others_from_theirs() {
    let world = world("some_classes");
    // Where a draft would go there is a file.
    std::fs::File::create_new(world.path("active/daily/.incomplete")).unwrap();
    let run = world.backup(|command| {
        command.args(["daily", "monthly", "weekly"]);
    });
    assert_eq!(run.code, Some(3), "{run:?}");
    let said: Vec<&str> =
        run.stderr.lines().filter(|line| line.starts_with("worm-ingest: ")).collect();
    assert_eq!(said.len(), 2, "{run:?}");
    assert!(said[0].contains("daily") && said[1].contains("monthly"), "{run:?}");
    let outcomes: Vec<(Value, Value)> = world
        .audit()
        .into_iter()
        .map(|line| (line["class"].clone(), line["outcome"].clone()))
        .collect();
    let expected =
        [("hourly", "ok"), ("daily", "failed"), ("monthly", "refused"), ("weekly", "ok")];
    assert_eq!(outcomes, expected.map(|(class, outcome)| (class.into(), outcome.into())));
    assert_eq!(names(&world.path("active/daily")), [".incomplete"]);
    for class in ["hourly", "weekly"] {
        assert_eq!(names(&world.path("active").join(class)).len(), 4, "{class}");
    }
}

#[test]
fn a_dump_that_is_not_whole_is_sealed_in_no_class_and_told_once() {
    let world = world("no_class");
    let broken = world.fake("$REAL \"$@\" | head -c 500");
    let run = world.backup(|command| {
        command.args(["daily", "--client-dir"]).arg(broken);
    });
    world.check_failed(&run, 1, "dump.cut_short");
    assert_eq!(world.audit().len(), 2);
    assert_eq!(names(&world.path("active/daily")), [".incomplete"]);
}

#[test]
fn a_name_that_one_class_has_is_taken_in_none() {
    let world = world("common_name");
    let now = jiff::Timestamp::now();
    for second in 0..60 {
        let at = now + jiff::SignedDuration::from_secs(second);
        let name = at.strftime("%Y-%m-%d_%H-%M-%S.sql.gz.sha256").to_string();
        crate::world::put(&world.path("active/daily").join(name), b"", 0o600);
    }
    let run = world.backup(|command| {
        command.arg("daily");
    });
    assert_eq!(run.code, Some(0), "{run:?}");
    let printed = printed(&run);
    assert_eq!(printed[0]["name"], printed[1]["name"]);
    assert!(printed.iter().all(|line| line["wished_name"].is_string()), "{printed:?}");
}
