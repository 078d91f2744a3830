//! What systemd is told of where the program stands (`sd_notify(3)`), where it asked to be told.

use std::{
    env, io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{ffi::OsStrExt as _, net::SocketAddr, net::UnixDatagram},
    },
};

/// It serves, by the configuration that there is.
pub(super) fn ready() {
    tell("READY=1");
}

/// It loads its configuration again; to be followed by [`ready`], whatever came of it.
pub(super) fn reloading() {
    tell("RELOADING=1");
}

/// It ends as soon as nothing is under way any more.
pub(super) fn stopping() {
    tell("STOPPING=1");
}

fn tell(state: &str) {
    let Some(name) = env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let told = address(name.as_bytes()).and_then(|address| send(state, &address));
    if let Err(error) = told {
        tracing::warn!(%error, state, "systemd cannot be told");
    }
}

/// A path, or with an `@` before it an abstract name.
fn address(name: &[u8]) -> io::Result<SocketAddr> {
    match name.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name)),
    }
}

fn send(state: &str, address: &SocketAddr) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    // A reader that is behind is not waited for.
    socket.set_nonblocking(true)?;
    socket.send_to_addr(state.as_bytes(), address).map(drop)
}
