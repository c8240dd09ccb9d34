//! Every way known to us to change a file, tried on one in each state, by root and by its owner,
//! with the store on each file system: nothing changes, and every answer is one that is promised.
//! The same ways change a plain file.

mod attack;
mod backing;
mod control;
mod judge;

use system_tests::matrix::State;
use system_tests::session::End;
use system_tests::session::Ground;
use system_tests::session::Mounted;
use system_tests::session::Session;
use worm_fs::clock::HOUR_MS;
use worm_fs::verify::Progress;

use attack::Attacker;
use attack::User;
use backing::Backing;
use backing::Frozen;
use backing::Kind;

/// A store on a file system of its own, and who attacks it.
struct Siege {
    // Unmounted first.
    session: Mounted,
    backing: Backing,
    kind: Kind,
    attacker: Attacker,
}

impl Siege {
    fn new(kind: Kind) -> Self {
        let backing = Backing::new(kind);
        let session = Mounted::on(Ground::within(&backing.path()));
        Self { session, backing, kind, attacker: Attacker::new() }
    }

    fn worm(&self) -> &dyn Session {
        &self.session
    }

    /// Goes through the table as each user, and judges every answer.
    fn attack(&self, states: &[State]) {
        let mut complaints = Vec::new();
        for state in states {
            for user in [User::Root, User::Owner] {
                let mut frozen = None;
                let mut help = || match state {
                    State::Closing => frozen = Some(Frozen::new(&self.backing.path())),
                    State::Expired => self.worm().clock().advance(48 * HOUR_MS),
                    _ => {}
                };
                let (root, view) = (self.worm().ground().active(), self.worm().ground().view());
                let reports = self.attacker.attack(user, *state, (&root, &view), &mut help);
                drop(frozen);
                complaints.extend(judge::complaints(self.kind, *state, user, &reports));
            }
        }
        assert!(complaints.is_empty(), "{} wrong:\n{}", complaints.len(), complaints.join("\n"));
        self.check();
    }

    /// What the table left behind is what the ledger says, before and after a restart.
    fn check(&self) {
        let worm = self.worm();
        worm.restart(End::Clean);
        worm.stop(End::Clean);
        let report = worm_fs::verify::verify(&worm.ground().store(), 2, &Progress::default());
        assert!(report.as_ref().unwrap().problems.is_empty(), "{report:?}");
    }
}

/// Every state; but only what lies on a disk can be frozen.
fn everything(kind: Kind) {
    let mut states = vec![
        State::Sealed,
        State::Committed,
        State::Incomplete,
        State::Aborted,
        State::Writing,
        State::Expired,
        State::Viewed,
    ];
    if matches!(kind, Kind::Ext4 | Kind::Xfs | Kind::Btrfs) {
        states.push(State::Closing);
    }
    Siege::new(kind).attack(&states);
}

#[test]
fn nothing_changes_a_file_on_ext4() {
    everything(Kind::Ext4);
}

#[test]
fn nothing_changes_a_file_on_xfs() {
    everything(Kind::Xfs);
}

#[test]
fn nothing_changes_a_file_on_btrfs() {
    everything(Kind::Btrfs);
}

#[test]
fn nothing_changes_a_file_on_tmpfs() {
    everything(Kind::Tmpfs);
}

#[test]
fn nothing_changes_a_file_on_overlayfs() {
    everything(Kind::Overlay);
}
