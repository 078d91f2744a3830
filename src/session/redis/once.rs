//! Keys of which it only counts whether they are there.

use std::{sync::Arc, time::Duration};

use super::{
    line::{Again, Line},
    millis,
};
use crate::session::store::StoreError;

/// Sets what is not yet set.
pub(super) async fn set_new(line: &Arc<Line>, key: &str, value: &str, life: Duration) -> Result<bool, StoreError> {
    let set = |mut link| async move {
        let mut command = redis::cmd("SET");
        command.arg(key).arg(value).arg("NX").arg("PX").arg(millis(life));
        let set: Option<String> = command.query_async(&mut link).await?;
        Ok(set.is_some())
    };
    line.ask(Again::IfUndone, set).await
}

pub(super) async fn is_set(line: &Arc<Line>, key: &str) -> Result<bool, StoreError> {
    let ask = |mut link| async move { redis::cmd("EXISTS").arg(key).query_async(&mut link).await };
    line.ask(Again::Always, ask).await
}
