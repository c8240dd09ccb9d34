//! The deployment of `compose/`, in real containers: that it works as its documents say, that its
//! parts cannot reach each other, and that nothing is lost when they die.
//!
//! Tests that only look share one stack; those that kill or fill have one of their own.

mod commands;
mod flood;
mod guide;
mod isolation;
mod stale;

use std::sync::OnceLock;

use system_tests::stack::Stack;

/// A stack in which nobody kills or stops anything, with a backup in it.
fn calm() -> &'static Stack {
    static STACK: OnceLock<Stack> = OnceLock::new();
    STACK.get_or_init(|| {
        let stack = Stack::up("calm");
        fill(&stack, 1000);
        let _backup = stack.backup("daily");
        stack
    })
}

/// Puts rows into the database of a stack.
fn fill(stack: &Stack, rows: u32) {
    let sql = format!(
        "CREATE TABLE payment AS SELECT n AS id, md5(n::text) AS code FROM generate_series(1, {rows}) n"
    );
    stack.exec("db", &format!("psql -q -v ON_ERROR_STOP=1 -U app app -c '{sql}'")).success();
}
