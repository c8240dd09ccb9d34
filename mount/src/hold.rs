//! `worm hold`: puts and lifts holds.

use crate::cli::admin::HoldArgs;
use crate::control::Ask;
use crate::outcome::Outcome;
use crate::subject::Subject;
use crate::why;

/// Runs `worm hold`.
pub(crate) fn run(args: &HoldArgs) -> Outcome {
    let (subject, path) = Subject::of_path(&args.file, &args.place)?;
    let (hold, reason) = (args.name.clone(), args.reason.clone());
    let ask = if args.lift {
        Ask::LiftHold { path, hold, reason }
    } else {
        Ask::Hold { path, hold, reason }
    };
    why::changed(&subject.demand(ask)?, args.place.door.json)
}
