//! Hears on one replica what ended on another.

use std::{sync::Arc, time::Duration};

use redis::{PushInfo, PushKind, RedisResult, Value, aio::MultiplexedConnection};
use tokio::{
    sync::{Notify, broadcast},
    time::{sleep, timeout},
};
use tracing::debug;

use super::{
    connector::Connector,
    keys::{Keys, from_hex, hex},
};
use crate::{session::store::Ended, time::Timestamp};

/// Listens for ever, and says when something may have been missed.
pub(super) async fn listen(connector: Connector, keys: Keys, endings: broadcast::Sender<Ended>) {
    let mut pause = SHORTEST_PAUSE;
    loop {
        let broken = Arc::new(Notify::new());
        match subscribe(&connector, &keys, &endings, &broken).await {
            Ok(connection) => {
                pause = SHORTEST_PAUSE;
                let _ = endings.send(Ended::Unheard);
                until_it_breaks(connection, &broken).await;
                debug!("the session store tells no more of endings");
            }
            Err(error) => debug!(%error, "cannot listen to the session store"),
        }
        sleep(pause).await;
        pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
    }
}

const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A connection on which nothing comes may be dead.
const PING_EVERY: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(2);

async fn subscribe(
    connector: &Connector,
    keys: &Keys,
    endings: &broadcast::Sender<Ended>,
    broken: &Arc<Notify>,
) -> RedisResult<MultiplexedConnection> {
    let (endings, broken) = (endings.clone(), broken.clone());
    let hear = move |push: PushInfo| {
        match push.kind {
            PushKind::Message => told(&push.data, &endings),
            PushKind::Disconnection => broken.notify_one(),
            _ => {}
        }
        Ok::<(), ()>(())
    };
    let mut connection = connector.open_listener(hear).await?;
    let subscribing = connection.subscribe(keys.channel());
    match timeout(PATIENCE, subscribing).await {
        Ok(subscribed) => subscribed.map(|()| connection),
        Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
    }
}

async fn until_it_breaks(mut connection: MultiplexedConnection, broken: &Notify) {
    loop {
        tokio::select! {
            () = broken.notified() => return,
            () = sleep(PING_EVERY) => {}
        }
        let ping = redis::cmd("PING");
        let ping = ping.query_async::<Value>(&mut connection);
        if !matches!(timeout(PATIENCE, ping).await, Ok(Ok(_))) {
            return;
        }
    }
}

/// A message has the channel and a text.
fn told(message: &[Value], endings: &broadcast::Sender<Ended>) {
    let Some(Value::BulkString(text)) = message.get(1) else {
        return;
    };
    let text = std::str::from_utf8(text).unwrap_or_default();
    for ended in read(text) {
        let _ = endings.send(ended);
    }
}

/// `s` and the ids of sessions, or `b`, an index and the second before which they began.
pub(super) fn write(endings: &[Ended]) -> String {
    let mut text = String::from("s");
    for ended in endings {
        match ended {
            Ended::Session(id) => {
                text.push(' ');
                text.push_str(id);
            }
            Ended::Before { index, at } => return format!("b {} {}", hex(index), at.unix()),
            Ended::Unheard => {}
        }
    }
    text
}

/// What cannot be read was written by a later release, and is left to who can.
fn read(text: &str) -> Vec<Ended> {
    let mut words = text.split(' ');
    match words.next() {
        Some("s") => words.map(|id| Ended::Session(id.into())).collect(),
        Some("b") => before(words).into_iter().collect(),
        _ => Vec::new(),
    }
}

fn before<'a>(mut words: impl Iterator<Item = &'a str>) -> Option<Ended> {
    Some(Ended::Before {
        index: from_hex(words.next()?)?,
        at: Timestamp::from_unix(words.next()?.parse().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::{Fingerprint, random_bytes};

    #[test]
    fn what_is_told_is_heard() {
        let sessions = ["a", "b"].map(|id| Ended::Session(id.into()));
        assert_eq!(read(&write(&sessions)), sessions);
        let before = Ended::Before {
            index: Fingerprint::from_bytes(random_bytes()),
            at: Timestamp::from_unix(-7),
        };
        assert_eq!(read(&write(std::slice::from_ref(&before))), [before]);
    }

    #[test]
    fn what_makes_no_sense_is_not_heard() {
        for text in ["", "s", "x y", "b", "b zz 1", "b 00 x"] {
            assert_eq!(read(text), []);
        }
    }
}
