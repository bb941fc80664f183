//! A disk that can lose its power: a file that this process serves by FUSE, with a loop device and ext4 on it.
//!
//! Every write of the file system comes by here, in the order in which the kernel gives it to the device, and so does
//! every flush of the device's cache. That is what a power cut is about: what was written before a flush that is over
//! is there afterwards; of what was written since, any part may be.
//!
//! The file is served by a process of its own (this test binary again, [`the_disk`]), and all mounts are in a mount
//! namespace of the thread that made them, which that process is not in: should the test be killed, its mounts end by
//! themselves, while there is still somebody to serve what ext4 writes at its end, and then nothing is left. One process
//! for both would hang there for ever. Only what the answers of the FUSE protocol must hold is said here
//! (`include/uapi/linux/fuse.h`).

use crate::support::{PATIENCE, TempDir, images, measure_over};
use nix::sched::{CloneFlags, unshare};
use parking_lot::Mutex;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// 16 MiB: the smallest that ext4 gives a journal of 4 MiB.
const BYTES: usize = 16 << 20;

/// What is lost is lost in such pieces.
const SECTOR: usize = 512;

/// What the cache of the disk does with what was not flushed when the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Nothing of it was on the disk yet.
    All,
    /// The disk writes in order: a first part of it is there.
    Rest,
    /// It does not: any sectors of it are there.
    Any,
}

impl Loss {
    pub const EACH: [Loss; 3] = [Loss::All, Loss::Rest, Loss::Any];
}

/// Why no disk of this kind can be had here, if so.
pub fn missing() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("mounts take root".to_owned());
    }
    let files = ["/dev/fuse", "/dev/loop-control"].map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = |name: &str| std::env::split_paths(&path).any(|dir| dir.join(name).is_file());
    let programs = ["mount", "umount", "mkfs.ext4"].iter().find(|name| !found(name));
    let absent = files.iter().find(|file| !file.exists());
    absent.map(|file| format!("no {}", file.display())).or(programs.map(|name| format!("no {name}")))
}

/// Mounts of this thread, and of what it starts from now on, are seen by nobody else.
pub fn mounts_of_our_own() {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    run("mount", &["--make-rprivate", "/"]);
}

pub fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
}

/// The process that serves a disk, and knows what is on it. To be started before [`mounts_of_our_own`].
pub struct Server {
    child: Child,
    /// Takes orders, and answers each with a line.
    orders: BufReader<UnixStream>,
    device: File,
    image: PathBuf,
    tmp: TempDir,
}

impl Server {
    pub fn start() -> Server {
        let tmp = TempDir::new();
        let image = tmp.path().join("image");
        File::create(&image).unwrap().set_len(BYTES as u64).unwrap();
        let mkfs = images::program("mkfs.ext4");
        let options = ["-q", "-F", "-E", "nodiscard,lazy_itable_init=0"];
        run(mkfs.to_str().unwrap(), &[&options[..], &[image.to_str().unwrap()]].concat());
        let device = OpenOptions::new().read(true).write(true).open("/dev/fuse").unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "power::disk::the_disk", "--nocapture", "--test-threads=1"]);
        command.env("IT_DISK_IMAGE", &image);
        command.stdin(device.try_clone().unwrap()).stdout(OwnedFd::from(theirs));
        let child = command.spawn().unwrap();
        let mut server = Server { child, orders: BufReader::new(ours), device, image, tmp };
        assert_eq!(server.answer(), "loaded");
        server
    }

    /// What it says behind a mark: the test harness says things too.
    fn answer(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert!(self.orders.read_line(&mut line).unwrap() > 0, "the disk has ended");
            if let Some(said) = line.strip_prefix("= ") {
                return said.trim_end().to_owned();
            }
        }
    }

    fn order(&mut self, order: &str) -> String {
        self.orders.get_mut().write_all(format!("{order}\n").as_bytes()).unwrap();
        self.answer()
    }

    /// No more orders: it ends with its mount. It is not killed while it serves.
    fn over(&mut self) {
        // Ended already is as good.
        let _ = self.orders.get_mut().shutdown(Shutdown::Both);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over();
    }
}

/// A disk with a file system, mounted. All of it is gone when it is dropped.
pub struct Disk {
    server: Mutex<Server>,
    root: PathBuf,
}

impl Disk {
    /// Empty. The mounts are those of this thread.
    pub fn mount(server: Server) -> Disk {
        let image = server.image.to_str().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-i", "-t", "fuse", "-o", "fd=0,rootmode=100600,user_id=0,group_id=0", "disk", image]);
        let mounted = mount.stdin(server.device.try_clone().unwrap()).output().unwrap();
        assert!(mounted.status.success(), "{mounted:?}");
        let root = server.tmp.path().join("root");
        let disk = Disk { server: Mutex::new(server), root };
        let mut server = disk.server.lock();
        assert_eq!(server.order("serve"), "serving");
        // From here on only who serves it has it open.
        server.device = File::open("/dev/null").unwrap();
        let image = server.image.clone();
        drop(server);
        fs::create_dir(disk.root()).unwrap();
        run("mount", &["-t", "ext4", "-o", "loop", image.to_str().unwrap(), disk.root().to_str().unwrap()]);
        disk
    }

    /// Where its file system is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Flushes so far.
    pub fn flushes(&self) -> u64 {
        self.server.lock().order("flushes").parse().unwrap()
    }

    /// From now on it says of a flush that it is done, and does nothing.
    pub fn lie(&self) {
        assert_eq!(self.server.lock().order("lie"), "lying");
    }

    /// What is on it if the power goes now.
    pub fn cut(&self, loss: Loss) -> Vec<u8> {
        let mut server = self.server.lock();
        let path = server.tmp.join("cut");
        let seed = fastrand::u64(..);
        assert_eq!(server.order(&format!("cut {loss:?} {seed} {path}")), "cut");
        fs::read(path).unwrap()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let image = self.server.lock().image.clone();
        // Whoever still has it open closes it in a moment; the loop device lets go of the file a moment later.
        let gone = unmounted(&self.root) && unmounted(&image);
        assert!(gone || std::thread::panicking(), "the disk stays mounted");
        if gone {
            let mut server = self.server.lock();
            server.over();
            let ended = server.child.wait().unwrap();
            assert!(ended.success() || std::thread::panicking(), "{ended}");
        }
    }
}

/// Whether it could be, in time.
fn unmounted(path: &Path) -> bool {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let done = Command::new("umount").arg(path).output().unwrap();
        if done.status.success() || Instant::now() > deadline {
            return done.status.success();
        }
        measure_over(Duration::from_millis(10));
    }
}

/// The image of a disk after a cut, mounted as the next start finds it: its journal is replayed.
pub struct Found {
    tmp: TempDir,
}

impl Found {
    pub fn mount(image: &[u8]) -> Found {
        let found = Found { tmp: TempDir::new() };
        let file = found.tmp.join("image");
        fs::write(&file, image).unwrap();
        fs::create_dir(found.root()).unwrap();
        run("mount", &["-t", "ext4", "-o", "loop", &file, found.root().to_str().unwrap()]);
        found
    }

    pub fn root(&self) -> PathBuf {
        self.tmp.path().join("root")
    }
}

impl Drop for Found {
    fn drop(&mut self) {
        assert!(unmounted(&self.root()) || std::thread::panicking(), "what was found stays mounted");
    }
}

/// What is on the disk, and in its cache.
#[derive(Default)]
struct Platters {
    /// For good.
    durable: Vec<u8>,
    /// As whoever reads sees it.
    current: Vec<u8>,
    /// What was written since the last flush, in order.
    cache: Vec<(usize, Vec<u8>)>,
    flushes: u64,
    /// A flush is answered and not done.
    lies: bool,
}

impl Platters {
    fn cut(&self, loss: Loss, seed: u64) -> Vec<u8> {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut left = self.durable.clone();
        let pieces = self.cache.iter().flat_map(|(at, bytes)| {
            bytes.chunks(SECTOR).enumerate().map(move |(n, sector)| (at + n * SECTOR, sector))
        });
        let kept = rng.usize(..=pieces.clone().count());
        for (n, (at, sector)) in pieces.enumerate() {
            let stays = match loss {
                Loss::All => false,
                Loss::Rest => n < kept,
                Loss::Any => rng.bool(),
            };
            if stays {
                left[at..at + sector.len()].copy_from_slice(sector);
            }
        }
        left
    }

    /// One order of the test, and what is answered.
    fn obey(&mut self, order: &str) -> String {
        let words: Vec<&str> = order.splitn(4, ' ').collect();
        match words[..] {
            ["flushes"] => self.flushes.to_string(),
            ["lie"] => {
                self.lies = true;
                "lying".to_owned()
            }
            ["cut", loss, seed, path] => {
                let loss = Loss::EACH.into_iter().find(|each| format!("{each:?}") == loss).unwrap();
                fs::write(path, self.cut(loss, seed.parse().unwrap())).unwrap();
                "cut".to_owned()
            }
            _ => panic!("no order: {order}"),
        }
    }
}

/// Not a test of its own: the process of [`Server`]. Its stdin is `/dev/fuse`, its stdout a socket. It ends with the
/// mount; where none was made, or it does not end, a while after the test has.
#[test]
fn the_disk() {
    let Some(image) = std::env::var_os("IT_DISK_IMAGE") else { return };
    let bytes = fs::read(image).unwrap();
    let platters = Platters { durable: bytes.clone(), current: bytes, ..Platters::default() };
    let platters = Arc::new(Mutex::new(platters));
    let device = File::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
    let mut orders = UnixStream::from(std::io::stdout().as_fd().try_clone_to_owned().unwrap());
    let mut say = {
        let mut out = orders.try_clone().unwrap();
        // Nobody may be there to hear it any more.
        move |line: &str| drop(out.write_all(format!("\n= {line}\n").as_bytes()))
    };
    say("loaded");
    let serving = Mutex::new(None);
    for order in BufReader::new(&mut orders).lines().map_while(Result::ok) {
        if order == "serve" {
            let (device, platters) = (device.try_clone().unwrap(), platters.clone());
            *serving.lock() = Some(std::thread::spawn(move || serve(device, &platters)));
            say("serving");
        } else {
            let answer = platters.lock().obey(&order);
            say(&answer);
        }
    }
    let deadline = Instant::now() + PATIENCE;
    while serving.lock().as_ref().is_some_and(|thread| !thread.is_finished()) && Instant::now() < deadline {
        measure_over(Duration::from_millis(10));
    }
    // The harness has nobody to report to.
    std::process::exit(0);
}

// Numbers of requests.
const GETATTR: u32 = 3;
const SETATTR: u32 = 4;
const FORGET: u32 = 2;
const OPEN: u32 = 14;
const READ: u32 = 15;
const WRITE: u32 = 16;
const RELEASE: u32 = 18;
const FSYNC: u32 = 20;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const INTERRUPT: u32 = 36;
const DESTROY: u32 = 38;
const BATCH_FORGET: u32 = 42;

/// The head of a request: length, number, id, node, and who asks.
const HEAD: usize = 40;
/// What WRITE says before its bytes.
const WRITE_HEAD: usize = 40;
const WRITE_MAX: u32 = 128 << 10;

const ENOSYS: i32 = 38;

/// Answers one request after the other, so that they have an order.
fn serve(mut device: File, platters: &Mutex<Platters>) {
    let mut buffer = vec![0; (WRITE_MAX as usize) + (64 << 10)];
    // The end of the mount is an error of the read.
    while let Ok(count) = device.read(&mut buffer) {
        let request = &buffer[..count];
        let (number, id) = (u32_at(request, 4), u64_at(request, 8));
        if matches!(number, FORGET | BATCH_FORGET | INTERRUPT) {
            continue;
        }
        let (error, body) = match answer(number, &request[HEAD..], platters) {
            Some(body) => (0, body),
            None => (-ENOSYS, Vec::new()),
        };
        let mut reply = Vec::with_capacity(16 + body.len());
        reply.extend((16 + body.len() as u32).to_ne_bytes());
        reply.extend(error.to_ne_bytes());
        reply.extend(id.to_ne_bytes());
        reply.extend(body);
        // Who has gone meanwhile wants no answer.
        let _ = device.write(&reply);
    }
}

/// `None`: a request that we do not know.
fn answer(number: u32, body: &[u8], platters: &Mutex<Platters>) -> Option<Vec<u8>> {
    match number {
        INIT => {
            // Version 7.31, no read-ahead, no flags, 16 in the background, the largest write, ns, and the rest zero.
            let mut init: Vec<u8> = [7_u32, 31, 0, 0].iter().flat_map(|word| word.to_ne_bytes()).collect();
            init.extend([16_u16, 12].iter().flat_map(|word| word.to_ne_bytes()));
            init.extend([WRITE_MAX, 1].iter().flat_map(|word| word.to_ne_bytes()));
            init.resize(64, 0);
            Some(init)
        }
        GETATTR | SETATTR => Some(attributes()),
        OPEN => Some(vec![0; 16]),
        FLUSH | RELEASE | DESTROY => Some(Vec::new()),
        READ => {
            let (at, size) = (u64_at(body, 8) as usize, u32_at(body, 16) as usize);
            let platters = platters.lock();
            let end = (at + size).min(BYTES);
            Some(platters.current[at.min(end)..end].to_vec())
        }
        WRITE => {
            let (at, size) = (u64_at(body, 8) as usize, u32_at(body, 16) as usize);
            let bytes = body[WRITE_HEAD..WRITE_HEAD + size].to_vec();
            let mut platters = platters.lock();
            platters.current[at..at + size].copy_from_slice(&bytes);
            platters.cache.push((at, bytes));
            Some([size as u32, 0].iter().flat_map(|word| word.to_ne_bytes()).collect())
        }
        FSYNC => {
            let mut platters = platters.lock();
            platters.flushes += 1;
            if !platters.lies {
                for (at, bytes) in std::mem::take(&mut platters.cache) {
                    platters.durable[at..at + bytes.len()].copy_from_slice(&bytes);
                }
            }
            Some(Vec::new())
        }
        _ => None,
    }
}

/// Of the one file: how long they hold, then node, size, blocks, three times, their ns, mode, links and block size.
fn attributes() -> Vec<u8> {
    let longs = [3600, 0, 1, BYTES as u64, (BYTES / 512) as u64, 0, 0, 0];
    let words = [0_u32, 0, 0, 0o100_600, 1, 0, 0, 0, 4096, 0];
    let mut bytes: Vec<u8> = longs.iter().flat_map(|word| word.to_ne_bytes()).collect();
    bytes.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
    bytes
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap())
}
