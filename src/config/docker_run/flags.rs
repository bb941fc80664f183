//! How the engines' command lines are read (pflag's rules), and which flags of theirs take a value. It knows
//! nothing of what the flags mean.
//!
//! The table of `run` is the union of docker 28 (every flag of `docker run --help`, and its hidden ones),
//! podman 5 and nerdctl 2: no flag takes a value with one of them and none with another, and a flag that the
//! program at hand does not know is refused by the program itself.

/// A flag: its long name, its letter or a space, and whether it is a switch or takes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flag {
    pub long: &'static str,
    pub short: char,
    pub switch: bool,
}

/// The flags of one command: switches, then those that take a value. A letter may stand before a name: `d=detach`.
#[derive(Clone, Copy)]
pub struct Table {
    pub switches: &'static [&'static str],
    pub values: &'static [&'static str],
}

/// One flag of one word. `text` is what the word has for it: all of `--name=value`, or `p8080:80` of `-itp8080:80`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    pub flag: Flag,
    pub text: &'a str,
    pub value: Option<&'a str>,
}

/// What stands at the beginning of the words that are left.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<'a> {
    /// A word with flags; where the last takes its value from the next word, that word belongs to it.
    Flags { parts: Vec<Part<'a>>, words: usize },
    /// `--`
    Dashes,
    /// Not a flag.
    Operand,
    /// No word is left.
    End,
    /// A flag that needs a value is the last word.
    NoValue,
    /// A word with a flag that is not in the table and its value, `--new=value`: a word for itself, whatever it says.
    Foreign,
    /// A word with a flag that is not in the table: the flag as people write it. Whether the next word is its value
    /// is not known.
    Unknown(String),
}

impl Part<'_> {
    /// Whether a switch is on. What is neither true nor false the program refuses, so that it does not matter.
    pub fn is_on(&self) -> bool {
        self.value.is_none_or(|value| matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True"))
    }

    /// The flag as people write it: `-d`, `--restart`.
    pub fn shown(&self) -> String {
        match self.flag.short {
            ' ' => format!("--{}", self.flag.long),
            letter => format!("-{letter}"),
        }
    }
}

impl Table {
    /// Reads the first word.
    pub fn next<'a>(&self, words: &[&'a str]) -> Next<'a> {
        let Some(word) = words.first() else { return Next::End };
        match word.strip_prefix('-') {
            None | Some("") => Next::Operand,
            Some("-") => Next::Dashes,
            Some(rest) => match rest.strip_prefix('-') {
                Some(name) => self.long(word, name, &words[1..]),
                None => self.letters(rest, &words[1..]),
            },
        }
    }

    fn long<'a>(&self, word: &'a str, name: &'a str, after: &[&'a str]) -> Next<'a> {
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (name, None),
        };
        let Some(flag) = self.find(|flag| flag.long == name) else {
            return if value.is_some() { Next::Foreign } else { Next::Unknown(format!("--{name}")) };
        };
        if flag.switch || value.is_some() {
            return Next::Flags { parts: vec![Part { flag, text: word, value }], words: 1 };
        }
        with_next(Vec::new(), flag, word, after)
    }

    /// `itp8080:80`, `it`, `eNAME=value`, `e=NAME=value`, `i=false`
    fn letters<'a>(&self, letters: &'a str, after: &[&'a str]) -> Next<'a> {
        let mut parts = Vec::new();
        let mut left = letters;
        while let Some(letter) = left.chars().next() {
            let Some(flag) = self.find(|flag| flag.short == letter && letter != ' ') else {
                return Next::Unknown(format!("-{letter}"));
            };
            let rest = &left[letter.len_utf8()..];
            // pflag takes `=` for a sign only when something follows it.
            let given = rest.strip_prefix('=').filter(|value| !value.is_empty());
            if let Some(value) = given.or((!flag.switch && !rest.is_empty()).then_some(rest)) {
                parts.push(Part { flag, text: left, value: Some(value) });
                return Next::Flags { parts, words: 1 };
            }
            if !flag.switch {
                return with_next(parts, flag, left, after);
            }
            parts.push(Part { flag, text: &left[..letter.len_utf8()], value: None });
            left = rest;
        }
        Next::Flags { parts, words: 1 }
    }

    fn find(&self, wanted: impl Fn(&Flag) -> bool) -> Option<Flag> {
        let switches = self.switches.iter().map(|text| flag(text, true));
        let values = self.values.iter().map(|text| flag(text, false));
        switches.chain(values).find(wanted)
    }

    /// Every flag of the table.
    #[cfg(test)]
    pub fn flags(&self) -> Vec<Flag> {
        let switches = self.switches.iter().map(|text| flag(text, true));
        switches.chain(self.values.iter().map(|text| flag(text, false))).collect()
    }
}

fn flag(text: &'static str, switch: bool) -> Flag {
    match text.split_once('=') {
        Some((letter, long)) => Flag { long, short: letter.chars().next().unwrap_or(' '), switch },
        None => Flag { long: text, short: ' ', switch },
    }
}

/// The flag takes the next word as its value.
fn with_next<'a>(mut parts: Vec<Part<'a>>, flag: Flag, text: &'a str, after: &[&'a str]) -> Next<'a> {
    let Some(value) = after.first() else { return Next::NoValue };
    parts.push(Part { flag, text, value: Some(value) });
    Next::Flags { parts, words: 2 }
}

/// `run` of docker, podman, nerdctl and finch.
#[rustfmt::skip]
pub const RUN: Table = Table {
    switches: &[
        // docker
        "d=detach", "disable-content-trust", "help", "init", "i=interactive", "no-healthcheck",
        "oom-kill-disable", "privileged", "P=publish-all", "q=quiet", "read-only", "rm", "sig-proxy", "t=tty",
        "use-api-socket",
        // podman, nerdctl
        "env-host", "http-proxy", "no-hostname", "no-hosts", "passwd", "read-only-tmpfs", "replace", "rmi",
        "rootfs", "tls-verify", "unsetenv-all",
    ],
    values: &[
        // docker
        "add-host", "annotation", "a=attach", "blkio-weight", "blkio-weight-device", "cap-add", "cap-drop",
        "cgroup-parent", "cgroupns", "cidfile", "cpu-count", "cpu-percent", "cpu-period", "cpu-quota",
        "cpu-rt-period", "cpu-rt-runtime", "c=cpu-shares", "cpus", "cpuset-cpus", "cpuset-mems", "detach-keys",
        "device", "device-cgroup-rule", "device-read-bps", "device-read-iops", "device-write-bps",
        "device-write-iops", "dns", "dns-option", "dns-search", "domainname", "entrypoint", "e=env", "env-file",
        "expose", "gpus", "group-add", "health-cmd", "health-interval", "health-retries",
        "health-start-interval", "health-start-period", "health-timeout", "h=hostname", "io-maxbandwidth",
        "io-maxiops", "ip", "ip6", "ipc", "isolation", "kernel-memory", "l=label", "label-file", "link",
        "link-local-ip", "log-driver", "log-opt", "mac-address", "m=memory", "memory-reservation", "memory-swap",
        "memory-swappiness", "mount", "name", "network", "network-alias", "oom-score-adj", "pid", "pids-limit",
        "platform", "p=publish", "pull", "restart", "runtime", "security-opt", "shm-size", "stop-signal",
        "stop-timeout", "storage-opt", "sysctl", "tmpfs", "ulimit", "u=user", "userns", "uts", "v=volume",
        "volume-driver", "volumes-from", "w=workdir",
        // docker, hidden
        "dns-opt", "net", "net-alias",
        // podman
        "arch", "authfile", "cert-dir", "cgroup-conf", "cgroups", "chrootdirs", "conmon-pidfile", "creds",
        "decryption-key", "env-merge", "gidmap", "group-entry", "health-log-destination", "health-max-log-count",
        "health-max-log-size", "health-on-failure", "health-startup-cmd", "health-startup-interval",
        "health-startup-retries", "health-startup-success", "health-startup-timeout", "hosts-file", "hostuser",
        "image-volume", "init-path", "log-level", "os", "passwd-entry", "personality", "pidfile", "pod",
        "pod-id-file", "preserve-fd", "preserve-fds", "rdt-class", "requires", "retry", "retry-delay", "sdnotify",
        "seccomp-policy", "secret", "shm-size-systemd", "signature-policy", "subgidname", "subuidname", "systemd",
        "timeout", "tz", "uidmap", "umask", "unsetenv", "variant",
        // nerdctl
        "cosign-certificate-identity", "cosign-certificate-identity-regexp", "cosign-certificate-oidc-issuer",
        "cosign-certificate-oidc-issuer-regexp", "cosign-key", "init-binary", "ipfs-address", "verify",
    ],
};

/// `docker` before its command.
#[rustfmt::skip]
pub const DOCKER: Table = Table {
    switches: &["D=debug", "tls", "tlsverify", "v=version", "help"],
    values: &["config", "c=context", "H=host", "l=log-level", "tlscacert", "tlscert", "tlskey"],
};

/// `podman` before its command.
#[rustfmt::skip]
pub const PODMAN: Table = Table {
    switches: &["D=debug", "r=remote", "v=version", "help", "noout", "syslog", "trace", "transient-store"],
    values: &[
        "c=connection", "context", "H=host", "url", "identity", "log-level", "cdi-spec-dir", "cgroup-manager",
        "config", "conmon", "cpu-profile", "db-backend", "default-mounts-file", "events-backend", "hooks-dir",
        "imagestore", "memory-profile", "module", "namespace", "network-cmd-path", "network-config-dir", "out",
        "pull-option", "registries-conf", "root", "runroot", "runtime", "runtime-flag", "ssh", "storage-driver",
        "storage-opt", "tls-ca", "tls-cert", "tls-key", "tmpdir", "volumepath",
    ],
};

/// `nerdctl` and `finch` before their command.
#[rustfmt::skip]
pub const NERDCTL: Table = Table {
    switches: &["debug", "debug-full", "experimental", "insecure-registry", "kube-hide-dupe", "h=help", "v=version"],
    values: &[
        "a=address", "H=host", "n=namespace", "bridge-ip", "cdi-spec-dirs", "cgroup-manager", "cni-netconfpath",
        "cni-path", "data-root", "global-dns", "global-dns-options", "global-dns-search", "host-gateway-ip",
        "hosts-dir", "snapshotter", "storage-driver", "userns-remap",
    ],
};

/// `sudo` before its command; what makes it run nothing (`-e`, `-l`, `-v` …) is left out.
#[rustfmt::skip]
pub const SUDO: Table = Table {
    switches: &[
        "A=askpass", "b=background", "B=bell", "E=preserve-env", "H=set-home", "i=login", "k=reset-timestamp",
        "n=non-interactive", "N=no-update", "P=preserve-groups", "S=stdin", "s=shell",
    ],
    values: &[
        "C=close-from", "D=chdir", "g=group", "h=host", "p=prompt", "r=role", "R=chroot", "t=type",
        "T=command-timeout", "u=user", "U=other-user",
    ],
};

/// `env` before its assignments; `-S`, which hides a command line in one word, is left out.
#[rustfmt::skip]
pub const ENV: Table = Table {
    switches: &[
        "i=ignore-environment", "v=debug", "block-signal", "default-signal", "ignore-signal",
        "list-signal-handling",
    ],
    values: &["u=unset", "C=chdir", "a=argv0"],
};
