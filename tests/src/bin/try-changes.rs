//! Goes through the matrix of changes on one file, as whoever starts it, and writes a line of
//! JSON for each row. The system tests start it; see `system_tests::matrix`.
//!
//! `try-changes STATE ROOT CLASS OTHER-CLASS OUTSIDE VIEW`. Where it needs help to bring the file into
//! that state it writes `ready` and waits for a line.

use system_tests::matrix;
use system_tests::matrix::field::Ground;
use system_tests::matrix::field::Keeper;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["keep"] => Keeper::serve(),
        [state, root, class, far, outside, view] => {
            let state = matrix::STATES.into_iter().find(|known| format!("{known:?}") == state);
            let ground = Ground {
                root: root.into(),
                class: class.to_owned(),
                far: far.to_owned(),
                outside: outside.into(),
                view: view.into(),
            };
            let mut ready = || {
                println!("ready");
                let mut line = String::new();
                std::io::stdin().read_line(&mut line).expect("wait for help");
            };
            matrix::try_all(&ground, state.expect("a state"), &mut ready, &|line| {
                println!("{line}");
            });
        }
        _ => panic!("try-changes STATE ROOT CLASS OTHER-CLASS OUTSIDE VIEW"),
    }
}
