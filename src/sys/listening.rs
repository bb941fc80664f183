//! Sockets beyond std: who holds a port, and a Unix socket that only its owner may open.

use super::procfs;
use nix::sys::stat::{Mode, umask};
use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

/// The control socket's name in a state directory.
pub const CONTROL_SOCKET: &str = "mcpvisor.sock";

/// The file that names the socket where the state directory's path is too long for one.
pub const CONTROL_SOCKET_POINTER: &str = "socket";

pub fn fits_socket_path(path: &Path) -> bool {
    path.as_os_str().as_bytes().len() <= super::unix_socket::PATH_BYTES_MAX
}

/// Binds a socket that nobody else may open, not even between bind and chmod.
pub fn bind_private(path: &Path) -> io::Result<UnixListener> {
    let before = umask(Mode::from_bits_truncate(0o177));
    let bound = UnixListener::bind(path);
    umask(before);
    bound
}

/// A process that listens on a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub pid: u32,
    pub name: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.name, self.pid)
    }
}

/// Who listens on `address`; `None` if that cannot be seen (another user's process).
pub fn holder_of(address: SocketAddr) -> Option<Holder> {
    let inodes: Vec<u64> =
        ["/proc/net/tcp", "/proc/net/tcp6"].iter().flat_map(|table| listeners(table, address)).collect();
    let links: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    procfs::all().into_iter().find_map(|process| {
        let fds = fs::read_dir(format!("/proc/{}/fd", process.pid)).ok()?;
        let holds = fds.flatten().any(|fd| {
            fs::read_link(fd.path())
                .is_ok_and(|link| links.iter().any(|wanted| link.as_os_str() == wanted.as_str()))
        });
        holds.then_some(Holder { pid: process.pid, name: process.comm })
    })
}

/// Inodes of the sockets in a table of /proc/net that listen on the port, on this address or on all.
fn listeners(table: &str, address: SocketAddr) -> Vec<u64> {
    let text = fs::read_to_string(table).unwrap_or_default();
    text.lines().filter_map(|line| listener(line, address)).collect()
}

fn listener(line: &str, address: SocketAddr) -> Option<u64> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
    let (host, port) = local.split_once(':')?;
    let any = host.bytes().all(|byte| byte == b'0');
    let same_port = u16::from_str_radix(port, 16).ok()? == address.port();
    // 0A is LISTEN.
    (*state == "0A"
        && same_port
        && (any || address.ip().is_unspecified() || host == table_form(address.ip())))
    .then(|| inode.parse().ok())
    .flatten()
}

/// An address as /proc/net writes it: 32-bit words in the machine's byte order.
fn table_form(ip: IpAddr) -> String {
    let bytes: Vec<u8> = match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let words = bytes.chunks(4).map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
    words.map(|word| format!("{word:08X}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn holder_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let holder = holder_of(listener.local_addr().unwrap()).unwrap();
        assert_eq!(holder.pid, std::process::id());
        assert_eq!(
            table_form("127.0.0.1".parse().unwrap()),
            if cfg!(target_endian = "little") { "0100007F" } else { "7F000001" }
        );
    }
}
