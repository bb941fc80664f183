//! What HTTP over loopback costs by itself: a server that answers every request with its own body, a thread per
//! connection, no child.

use super::relay::{request, respond};
use std::io;
use std::net::{TcpListener, TcpStream};
use std::thread::Builder;

/// Serves until stdin ends; says its address first.
pub fn run() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    eprintln!("{}", listener.local_addr()?);
    Builder::new().name("accept".to_owned()).spawn(move || accept(&listener))?;
    io::copy(&mut io::stdin(), &mut io::sink()).map(|_| ())
}

fn accept(listener: &TcpListener) -> io::Result<()> {
    for stream in listener.incoming() {
        let mut stream = stream?;
        stream.set_nodelay(true)?;
        Builder::new().name("conn".to_owned()).spawn(move || serve(&mut stream))?;
    }
    Ok(())
}

fn serve(stream: &mut TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    while let Some((body, end)) = request(stream, &mut buffer)? {
        respond(stream, &buffer[body..end])?;
    }
    Ok(())
}
