//! The two places that the daemon listens on: the endpoint's TCP port and the control socket.

use crate::base::fault::{Fault, FaultKind};
use crate::sys::listening;
use nix::errno::Errno;
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// The endpoint's address; a name is looked up once.
pub fn address(listen: &str) -> Result<SocketAddr, Fault> {
    let wrong = |why: String| {
        Fault::new(FaultKind::BadConfig, format!("listen on `{listen}`: {why}"))
            .hint("HOST:PORT, for example 127.0.0.1:8080")
    };
    let mut found = listen.to_socket_addrs().map_err(|error| wrong(error.to_string()))?;
    found.next().ok_or_else(|| wrong("the name has no address".to_owned()))
}

/// Binds the endpoint. A port that is taken is refused, and its holder named where it can be seen.
pub fn endpoint(address: SocketAddr) -> Result<TcpListener, Fault> {
    TcpListener::bind(address).map_err(|error| {
        let fault = Fault::new(FaultKind::HostResources, format!("listen on {address}: {error}"));
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EADDRINUSE) => taken(address),
            Some(Errno::EACCES) => fault.hint("ports below 1024 are for root: --listen 127.0.0.1:8080"),
            Some(Errno::EADDRNOTAVAIL) => fault.hint("no interface of this host has that address"),
            _ => fault,
        }
    })
}

fn taken(address: SocketAddr) -> Fault {
    let holder = listening::holder_of(address).map(|holder| format!("; {holder} has it")).unwrap_or_default();
    let other = SocketAddr::new(address.ip(), address.port().wrapping_add(1).max(1024));
    Fault::new(FaultKind::HostResources, format!("listen on {address}: the port is taken{holder}"))
        .hint(format!("stop that program, or take another port: --listen {other}"))
}

/// The control socket of a state directory that we hold. Removed when dropped.
#[derive(Debug)]
pub struct ControlSocket {
    pub path: PathBuf,
    pointer: Option<PathBuf>,
}

/// Binds the control socket, for its owner only. A left-over socket may be removed: we hold the instance's lock.
pub fn control(state_dir: &Path, instance: &str) -> io::Result<(UnixListener, ControlSocket)> {
    let wanted = state_dir.join(listening::CONTROL_SOCKET);
    let (path, pointer) = if listening::fits_socket_path(&wanted) {
        (wanted, None)
    } else {
        // A socket's path is short: the state directory says where it is instead.
        let path = runtime_dir().join(format!("mcpvisor-{}.sock", &instance[..16.min(instance.len())]));
        let pointer = state_dir.join(listening::CONTROL_SOCKET_POINTER);
        fs::write(&pointer, path.display().to_string())?;
        (path, Some(pointer))
    };
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => (),
    }
    let listener = listening::bind_private(&path)?;
    fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    Ok((listener, ControlSocket { path, pointer }))
}

fn runtime_dir() -> PathBuf {
    let named = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_dir());
    named.unwrap_or_else(|| {
        if nix::unistd::geteuid().is_root() { PathBuf::from("/run") } else { std::env::temp_dir() }
    })
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // Gone already is as good; a stale one is removed at the next start.
        let _ = fs::remove_file(&self.path);
        if let Some(pointer) = &self.pointer {
            let _ = fs::remove_file(pointer);
        }
    }
}
