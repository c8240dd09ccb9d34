//! What the Debian package brings beside the programs: units, users, directories, manual.

use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use system_tests::binary;
use tempfile::TempDir;

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("packaging")
}

#[test]
fn the_units_say_what_systemd_understands() {
    let directory = TempDir::with_prefix("worm-units-").unwrap();
    let programs = binary::path("worm");
    let programs = format!("{}/", programs.parent().unwrap().display());
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no", "--recursive-errors=no"]);
    let mut units = 0;
    for unit in std::fs::read_dir(packaging().join("systemd")).unwrap() {
        let unit = unit.unwrap();
        let text = std::fs::read_to_string(unit.path()).unwrap();
        let copy = directory.path().join(unit.file_name());
        // The programs are looked for, and are not installed here.
        let mut file = std::fs::File::create(&copy).unwrap();
        file.write_all(text.replace("/usr/bin/", &programs).as_bytes()).unwrap();
        verify.arg(&copy);
        units += 1;
    }
    assert_eq!(units, 4);
    let done = binary::run(&mut verify);
    assert_eq!((done.code(), done.stderr.as_str()), (0, ""), "{done:?}");
}

#[test]
fn the_commands_of_the_units_are_understood() {
    for unit in std::fs::read_dir(packaging().join("systemd")).unwrap() {
        let text = std::fs::read_to_string(unit.unwrap().path()).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/bin/")).unwrap();
        let (program, arguments) = line.split_once(' ').unwrap();
        // Everything is read before the help is printed, but for what is missing.
        let mut command = binary::command(program);
        command.args(arguments.split(' ')).arg("--help");
        assert!(binary::run(&mut command).success().contains("Usage"), "{line}");
        for flag in arguments.split(' ').filter(|word| word.starts_with("--")) {
            assert!(binary::run(&mut command).success().contains(flag), "{line}: {flag}");
        }
    }
}

#[test]
fn the_configuration_of_the_package_is_the_default_for_the_agent() {
    let text = std::fs::read_to_string(packaging().join("etc/worm.toml")).unwrap();
    let text = text.replace("\"worm-ingest\"", "0").replace("\"0750\"", "\"0755\"");
    let config = worm_fs::config::Config::parse(&text).unwrap();
    assert_eq!(config, worm_fs::config::Config::default().with_logs().unwrap());
}

#[test]
fn the_agent_understands_its_configuration() {
    let mut check = binary::command("worm-ingest");
    check.args(["config", "check", "--config"]).arg(packaging().join("etc/ingest.toml"));
    binary::run(check.env("PGUSER", "worm-ingest")).success();
}

#[test]
fn every_command_has_a_page_and_every_program_completions() {
    let directory = TempDir::with_prefix("worm-manual-").unwrap();
    binary::run(binary::command("worm-manual").arg(directory.path())).success();
    let has = |path: &str| directory.path().join(path).metadata().is_ok_and(|file| file.len() > 0);
    for program in ["worm", "worm-ingest", "worm-extractor"] {
        for file in [format!("bash/{program}"), format!("zsh/_{program}")] {
            assert!(has(&file), "{file}");
        }
        let help = binary::run(binary::command(program).arg("--help")).success();
        let commands = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
        // Deeper lines go on with what the one above them says.
        let lines = commands.lines().filter_map(|line| line.strip_prefix("  "));
        let lines = lines.filter(|line| !line.starts_with(' '));
        let names = lines.filter_map(|line| line.split_whitespace().next());
        let names: Vec<&str> = names.filter(|name| *name != "help").collect();
        assert!(names.len() > 1, "{help}");
        for name in names {
            assert!(has(&format!("man8/{program}-{name}.8")), "{program} {name}");
        }
    }
    let bash = directory.path().join("bash/worm");
    binary::run(Command::new("bash").arg("-n").arg(bash)).success();
}

/// What the stage of the image that compiles takes along.
#[test]
fn the_image_copies_all_that_its_programs_are_built_from() {
    let repository = packaging().join("..").canonicalize().unwrap();
    let dockerfile = std::fs::read_to_string(repository.join("compose/Dockerfile")).unwrap();
    let ignored = std::fs::read_to_string(repository.join(".dockerignore")).unwrap();
    let (copied, _) = dockerfile.split_once("RUN cargo build").unwrap();
    let directory = TempDir::with_prefix("worm-image-").unwrap();
    for line in copied.lines().filter_map(|line| line.strip_prefix("COPY ")) {
        let mut names: Vec<&str> = line.split(' ').collect();
        names.pop();
        for name in names {
            assert!(ignored.lines().any(|line| line.strip_prefix('!') == Some(name)), "{name}");
            std::os::unix::fs::symlink(repository.join(name), directory.path().join(name)).unwrap();
        }
    }
    let mut cargo = Command::new("cargo");
    cargo.args(["metadata", "--locked", "--offline", "--format-version", "1", "--no-deps"]);
    let metadata = binary::run(cargo.current_dir(directory.path())).success();
    for program in ["worm", "worm-ingest", "worm-extractor"] {
        assert!(metadata.contains(&format!("\"name\":\"{program}\"")), "{program}");
    }
}
