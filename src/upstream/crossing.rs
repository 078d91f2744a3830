//! An upload that goes on when its answer has ended.

use std::{future::pending, sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{
    lease::Lease,
    lifeline::Lifeline,
    upload::{Progress, UploadEnd},
};

/// For what was under way as the end of the answer came the other way; whoever has that has all that was asked for.
const CROSSING: Duration = Duration::from_secs(1);

/// Waits until an upload has ended, or its exchange has to; but not for long, and then closes the connection
/// (RFC 9112 §9.3).
pub(super) async fn see_out(mut lease: Lease, upload: Arc<Progress>, mut lifeline: Option<Lifeline>) {
    let left = lifeline.as_ref().and_then(Lifeline::left);
    let cut = async {
        match &mut lifeline {
            Some(lifeline) => lifeline.cut().await,
            None => pending().await,
        }
    };
    tokio::select! {
        () = lease.sent() => {}
        () = cut => {}
        () = sleep(left.map_or(CROSSING, |left| left.min(CROSSING))) => {}
    }
    if upload.end() == UploadEnd::Complete {
        lease.give_back();
    }
}
