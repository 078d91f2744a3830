//! `vestibule demo`: everything in one process, to try it.

use super::No;

pub(super) fn demo() -> Result<(), No> {
    Err(No::NotYet("this build has no demo yet"))
}
