//! A backup is work that waits for nobody: the scheduler is told so.

/// Tells the scheduler that this process, and every thread and program that it starts from here on,
/// computes and does not answer anybody (`SCHED_BATCH` of sched(7)). A `pg_dump` and a compressor that
/// share a processor then take turns less often, which costs both of them less; and whoever works
/// with the database goes first. It needs no right. Where it is refused, nothing is lost.
pub fn enter() {
    let parameters = libc::sched_param { sched_priority: 0 };
    #[expect(unsafe_code, reason = "no safe crate offers sched_setscheduler")]
    // SAFETY: the call reads `parameters`, which lives until it returns, and changes no memory. The
    // process 0 is the calling thread.
    let told = unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters) };
    if told != 0 {
        let error = std::io::Error::last_os_error();
        tracing::debug!(%error, "the scheduler treats a backup like any other work");
    }
}

#[cfg(test)]
mod tests {
    /// Field 41 of proc_pid_stat(5); the name of the program, field 2, may have blanks in it.
    fn policy_of(stat: &str) -> i32 {
        let fields = stat.rsplit_once(") ").unwrap().1;
        fields.split(' ').nth(38).unwrap().parse().unwrap()
    }

    #[test]
    fn what_is_started_afterwards_is_a_batch_too() {
        let child = std::thread::spawn(|| {
            super::enter();
            let run = std::process::Command::new("cat").arg("/proc/self/stat").output().unwrap();
            String::from_utf8(run.stdout).unwrap()
        });
        assert_eq!(policy_of(&child.join().unwrap()), libc::SCHED_BATCH);
    }
}
