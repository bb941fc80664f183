//! TLS to a remote server: our own authority is trusted if SSL_CERT_FILE names it, and no other is.

use super::*;
use crate::support::daemon::run;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// What ends TLS in front of the scripted server.
struct Terminal {
    child: Child,
    address: String,
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn openssl(dir: &TempDir, args: &str) {
    let ran = run(Command::new("openssl").args(args.split_whitespace()).current_dir(dir.path()));
    assert_eq!(ran.code, 0, "{args}: {ran:?}");
}

/// An authority, and a certificate of it for 127.0.0.1.
fn certificates(dir: &TempDir) {
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(dir, &format!("req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=test-authority"));
    openssl(dir, &format!("req {key} -keyout server.key -out server.csr -subj /CN=127.0.0.1"));
    std::fs::write(dir.join("ext"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    openssl(
        dir,
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem -days 2 -extfile ext",
    );
}

/// A TLS server whose clients' bytes go to `upstream`, and back: python's ssl in front of the scripted server.
fn terminal(dir: &TempDir, upstream: &Upstream) -> Terminal {
    const RELAY: &str = r#"
import socket, ssl, sys, threading
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("server.pem", "server.key")
host, port = sys.argv[1].split(":")
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
def pump(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    for end in (source, sink):
        try: end.shutdown(socket.SHUT_RDWR)
        except OSError: pass
def serve(plain):
    try: near = context.wrap_socket(plain, server_side=True)
    except OSError: return
    with open("reused", "a") as log: log.write("yes\n" if near.session_reused else "no\n")
    far = socket.create_connection((host, int(port)))
    threading.Thread(target=pump, args=(far, near), daemon=True).start()
    pump(near, far)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"#;
    let mut command = Command::new("python3");
    command.args(["-c", RELAY, &upstream.address]).current_dir(dir.path()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    Terminal { child, address: format!("127.0.0.1:{}", line.trim()) }
}

#[test]
fn our_own_authority_is_trusted_when_it_is_named() {
    let dir = TempDir::new();
    certificates(&dir);
    let upstream = Upstream::start(answer_plainly);
    let terminal = terminal(&dir, &upstream);
    let config = json!({ "mcpServers": { "a": { "url": format!("https://{}/mcp", terminal.address) } } });

    let daemon = Daemon::start_with_env(&config, &[("SSL_CERT_FILE", &dir.join("ca.pem"))]);
    daemon.wait_ready(&["a"]);
    assert_eq!(daemon.client().text("a__run", json!({ "n": 1 })), r#"{"n":1}"#);
    drop(daemon);

    let asked = upstream.seen("initialize").len();
    let stranger = Daemon::start(&config, &[]);
    let status = stranger.wait_until("the fault", |status| !server(status, "a")["last_error"].is_null());
    let error = &server(&status, "a")["last_error"];
    assert_eq!(error["kind"], "tls_failed", "{error}");
    assert!(error["hint"].as_str().unwrap().contains("SSL_CERT_FILE"), "{error}");
    assert_eq!(upstream.seen("initialize").len(), asked);
}

/// A server that is spoken to on a new connection knows us by what it gave us on an earlier one, whichever of our threads
/// speaks.
#[test]
fn sessions_of_tls_are_taken_up_again() {
    let dir = TempDir::new();
    certificates(&dir);
    // Each request has a connection of its own.
    let upstream = Upstream::start(|seen, out| match plain(&seen.message()) {
        Some(answer) if seen.method == "POST" => out.json(&[("connection", "close")], &answer),
        _ => answer_plainly(seen, out),
    });
    let terminal = terminal(&dir, &upstream);
    let config = json!({ "mcpServers": { "a": { "url": format!("https://{}/mcp", terminal.address) } } });
    let daemon = Daemon::start_with_env(&config, &[("SSL_CERT_FILE", &dir.join("ca.pem"))]);
    daemon.wait_ready(&["a"]);
    let mut client = daemon.client();
    for n in 0..4 {
        client.text("a__run", json!({ "n": n }));
    }
    let log = std::fs::read_to_string(dir.join("reused")).unwrap();
    let reused = log.lines().filter(|line| *line == "yes").count();
    assert!(log.starts_with("no\n") && reused >= 4, "{log}");
}
