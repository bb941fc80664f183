//! A client that sends exactly what it is told and reads what a strict reader would.

use super::PATIENCE;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;

pub(super) struct Client {
    reader: BufReader<Stream>,
}

pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Response {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

impl Client {
    pub(super) fn tcp(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Client { reader: BufReader::new(Stream::Tcp(stream)) }
    }

    pub(super) fn unix(path: &Path) -> Client {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client { reader: BufReader::new(Stream::Unix(stream)) }
    }

    pub(super) fn stream(&self) -> &Stream {
        self.reader.get_ref()
    }

    pub(super) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.reader.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    pub(super) fn get(&mut self, path: &str) -> Response {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
        self.response()
    }

    pub(super) fn post(&mut self, body: &[u8]) -> Response {
        self.send(format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", body.len()));
        self.send(body);
        self.response()
    }

    /// A response with a body by length.
    pub(super) fn response(&mut self) -> Response {
        let mut response = self.head();
        let length = response.header("content-length").map_or(0, |value| value.parse().unwrap());
        response.body.resize(length, 0);
        self.reader.read_exact(&mut response.body).unwrap();
        response
    }

    /// A response's head; the body is the caller's to read.
    pub(super) fn head(&mut self) -> Response {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(self.reader.read_line(&mut head).unwrap() > 0, "closed inside a head: {head:?}");
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Response { status, head, body: Vec::new() }
    }

    /// The next chunk of a chunked body; empty is the end of it.
    pub(super) fn chunk(&mut self) -> String {
        let size = self.line();
        let mut data = vec![0; usize::from_str_radix(size.trim_end(), 16).unwrap() + 2];
        self.reader.read_exact(&mut data).unwrap();
        assert!(data.ends_with(b"\r\n"));
        String::from_utf8(data[..data.len() - 2].to_vec()).unwrap()
    }

    pub(super) fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        line
    }

    /// Everything until the server closes.
    pub(super) fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        self.reader.read_to_end(&mut rest).map(|_| rest)
    }

    /// The server has closed and sent nothing more.
    pub(super) fn assert_closed(&mut self) {
        match self.rest() {
            Ok(rest) => assert_eq!(String::from_utf8_lossy(&rest), ""),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
        }
    }

    pub(super) fn shutdown_write(&self) {
        match self.stream() {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write).unwrap(),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write).unwrap(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
