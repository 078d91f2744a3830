//! Listening sockets: made here, or by systemd.

use std::{
    fs, io,
    net::{SocketAddr, TcpListener},
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    process,
};

use listenfd::ListenFd;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::{Listen, Settings};

/// Connections that wait in the kernel for each socket.
pub(super) const BACKLOG: i32 = 1_024;

/// A socket that listens.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) socket: Listening,
    pub(super) owner: Owner,
}

#[derive(Debug)]
pub(super) enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Who decides whether somebody listens there tomorrow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Gateway,
    /// Whoever waits at the socket when the gateway ends waits for the next one.
    Systemd,
}

impl Listener {
    /// Where it really listens.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub(super) fn place(&self) -> io::Result<Listen> {
        Ok(match &self.socket {
            Listening::Tcp(listener) => Listen::Tcp(listener.local_addr()?),
            Listening::Unix(listener) => {
                let address = listener.local_addr()?;
                Listen::Unix(address.as_pathname().map(Path::to_owned).unwrap_or_default())
            }
        })
    }

    /// The same socket once more: whoever takes a connection first has it.
    fn again(&self) -> io::Result<Self> {
        let socket = match &self.socket {
            Listening::Tcp(listener) => Listening::Tcp(listener.try_clone()?),
            Listening::Unix(listener) => Listening::Unix(listener.try_clone()?),
        };
        Ok(Self {
            socket,
            owner: self.owner,
        })
    }

    fn ours(socket: Listening) -> Self {
        Self {
            socket,
            owner: Owner::Gateway,
        }
    }
}

/// Makes listening sockets by the settings.
pub(super) struct Binder {
    /// All TCP addresses.
    all: Vec<SocketAddr>,
    unix_mode: u32,
    reuse_port: bool,
    inherited: Inherited,
    /// Removed at the end.
    files: Vec<SocketFile>,
}

/// A socket for each worker, and where it really listens.
pub(super) type Bound = (Listen, Vec<Listener>);

impl Binder {
    pub(super) fn new(settings: &Settings) -> Self {
        let all = || settings.listen.iter().chain(&settings.redirect).chain(&settings.admin);
        let address = |listen: &Listen| match listen {
            Listen::Tcp(address) => Some(*address),
            Listen::Unix(_) | Listen::Systemd(_) => None,
        };
        Self {
            all: all().filter_map(address).collect(),
            unix_mode: settings.unix_mode,
            reuse_port: settings.reuse_port,
            inherited: Inherited::named_by(all()),
            files: Vec::new(),
        }
    }

    /// Sockets for so many workers: at one place, but for those of systemd.
    ///
    /// # Errors
    /// When the address cannot be taken, and when systemd opened no such socket.
    pub(super) fn bind(&mut self, listen: &Listen, workers: usize) -> io::Result<Vec<Bound>> {
        match listen {
            Listen::Tcp(address) => Ok(vec![self.tcp(*address, workers)?]),
            Listen::Unix(path) => {
                let (listener, file) = unix(path, self.unix_mode, self.reuse_port)?;
                self.files.push(file);
                // A socket that was renamed still has its earlier name.
                let (_, listeners) = shared(Listener::ours(Listening::Unix(listener)), workers)?;
                Ok(vec![(listen.clone(), listeners)])
            }
            Listen::Systemd(name) => {
                let inherited = self.inherited.take(name.as_deref())?;
                inherited
                    .into_iter()
                    .map(|listener| shared(listener, workers))
                    .collect()
            }
        }
    }

    /// The files of sockets, which are there as long as this is.
    pub(super) fn into_files(self) -> Vec<SocketFile> {
        self.files
    }

    /// As many sockets at one address as there are workers; the kernel spreads connections over them.
    fn tcp(&self, address: SocketAddr, workers: usize) -> io::Result<Bound> {
        if address.port() != 0 && !self.reuse_port {
            // Sockets that share a port would also share it with another gateway, unnoticed: one that does not must fit.
            self.socket(address, Sharing::Alone)?;
        }
        let first = self.socket(address, Sharing::WithWorkers)?;
        first.listen(BACKLOG)?;
        let first = TcpListener::from(first);
        let address = first.local_addr()?;
        let mut listeners = vec![Listener::ours(Listening::Tcp(first))];
        for _ in 1..workers {
            let next = self.socket(address, Sharing::WithWorkers)?;
            next.listen(BACKLOG)?;
            listeners.push(Listener::ours(Listening::Tcp(next.into())));
        }
        Ok((Listen::Tcp(address), listeners))
    }

    fn socket(&self, address: SocketAddr, sharing: Sharing) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            // `[::]` takes IPv4 as well, unless that has a listener of its own.
            let beside_v4 =
                |other: &SocketAddr| other.is_ipv4() && other.port() == address.port() && address.port() != 0;
            socket.set_only_v6(self.all.iter().any(beside_v4))?;
        }
        // A restart need not wait for connections of the past.
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(sharing == Sharing::WithWorkers)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        Ok(socket)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    Alone,
    WithWorkers,
}

/// One socket for all workers.
fn shared(listener: Listener, workers: usize) -> io::Result<Bound> {
    let place = listener.place()?;
    let mut listeners = Vec::with_capacity(workers);
    for _ in 1..workers {
        listeners.push(listener.again()?);
    }
    listeners.push(listener);
    Ok((place, listeners))
}

/// The file of a Unix socket; dropping this removes it, unless somebody else's is there by now.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let here = fs::symlink_metadata(&self.path);
        if here.is_ok_and(|file| (file.dev(), file.ino()) == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Listens at a path. What a process left there that is gone is replaced; one that still listens is an error, unless it
/// is to be taken over from.
///
/// The socket is made beside the path and put there when its mode is right and it listens, so that nobody finds half of it.
fn unix(path: &Path, mode: u32, reuse_port: bool) -> io::Result<(UnixListener, SocketFile)> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
        Ok(file) if !file.file_type().is_socket() => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "there is a file that is no socket",
            ));
        }
        Ok(_) if reuse_port => {}
        Ok(_) => is_abandoned(path)?,
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", process::id()));
    let beside = PathBuf::from(beside);
    let _ = fs::remove_file(&beside);
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(&beside)?)?;
    let file = fs::symlink_metadata(&beside)?;
    let mut file = SocketFile {
        path: beside.clone(),
        identity: (file.dev(), file.ino()),
    };
    fs::set_permissions(&beside, fs::Permissions::from_mode(mode))?;
    socket.listen(BACKLOG)?;
    fs::rename(&beside, path)?;
    path.clone_into(&mut file.path);
    Ok((socket.into(), file))
}

/// # Errors
/// When somebody listens at the path, and when that cannot be found out.
fn is_abandoned(path: &Path) -> io::Result<()> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // One that takes no more connections for the moment is no reason to wait.
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) => Err(error),
        Ok(()) => Err(io::ErrorKind::AddrInUse.into()),
    }
}

/// Sockets that systemd opened (`sd_listen_fds(3)`).
struct Inherited {
    sockets: ListenFd,
    /// Of each; the name of its unit where the unit gives it none.
    names: Vec<String>,
    /// Those that the settings ask for by name.
    asked: Vec<Box<str>>,
}

impl Inherited {
    /// Looks for sockets only where the settings ask for any: whoever does not is not concerned by the environment.
    fn named_by<'a>(all: impl Iterator<Item = &'a Listen>) -> Self {
        let names: Vec<Option<Box<str>>> = all
            .filter_map(|listen| match listen {
                Listen::Systemd(name) => Some(name.clone()),
                Listen::Tcp(_) | Listen::Unix(_) => None,
            })
            .collect();
        let sockets = match names.is_empty() {
            true => ListenFd::empty(),
            false => ListenFd::from_env(),
        };
        let given = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        Self {
            sockets,
            names: given.split(':').map(str::to_owned).collect(),
            asked: names.into_iter().flatten().collect(),
        }
    }

    fn take(&mut self, name: Option<&str>) -> io::Result<Vec<Listener>> {
        let mut listeners = Vec::new();
        for index in 0..self.sockets.len() {
            let called = self.names.get(index).map(String::as_str).unwrap_or_default();
            let is_meant = match name {
                Some(name) => called == name,
                None => self.asked.iter().all(|asked| **asked != *called),
            };
            if is_meant && let Some(listener) = self.take_one(index)? {
                listeners.push(listener);
            }
        }
        if listeners.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "systemd opened no such socket"));
        }
        Ok(listeners)
    }

    fn take_one(&mut self, index: usize) -> io::Result<Option<Listener>> {
        let socket = match self.sockets.take_tcp_listener(index) {
            Ok(listener) => listener.map(Listening::Tcp),
            Err(_) => self.sockets.take_unix_listener(index)?.map(Listening::Unix),
        };
        match &socket {
            Some(Listening::Tcp(listener)) => listener.set_nonblocking(true)?,
            Some(Listening::Unix(listener)) => listener.set_nonblocking(true)?,
            None => {}
        }
        Ok(socket.map(|socket| Listener {
            socket,
            owner: Owner::Systemd,
        }))
    }
}
