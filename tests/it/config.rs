//! The config against files: `data/configs/<case>.json` read, and everything that came of it compared with
//! `<case>.txt`. `UPDATE_EXPECT=1` writes what came.
#![allow(clippy::unwrap_used, reason = "a test may stop at what it does not expect")]

use mcpvisor::config::{self, Config, Isolation, Launch};
use std::fmt::Write;
use std::path::Path;

fn check_case(path: &Path) -> Result<(), String> {
    let file = path.file_name().unwrap().to_str().unwrap();
    let bytes = std::fs::read(path).unwrap();
    let found = match config::decode(&bytes, file) {
        Ok(text) => describe(text, file),
        Err(finding) => format!("{finding}\n"),
    };
    let expected = path.with_extension("txt");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&expected, &found).unwrap();
    }
    let wanted = std::fs::read_to_string(&expected).unwrap_or_default();
    if wanted == found {
        return Ok(());
    }
    Err(format!("--- {file}: expected\n{wanted}\n--- found\n{found}"))
}

/// The report, what differs from the defaults, the servers, and their problems.
fn describe(text: &str, file: &str) -> String {
    let (config, findings) = config::parse(text, file);
    let mut out = config::report(text, file, &config, &findings);
    for line in out.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    settings(&mut out, &config);
    for server in &config.servers {
        let off = if server.enabled { "" } else { " (disabled)" };
        let (line, column) = (server.line, server.column);
        writeln!(out, "\nserver {} = {} at {line}:{column}{off}", server.name, server.slug).unwrap();
        if let Launch::Process { command, args, env, working_dir } = &server.launch {
            writeln!(out, "  run {command:?} {args:?}").unwrap();
            for (name, value) in env {
                writeln!(out, "  env {name}={value}").unwrap();
            }
            if let Some(dir) = working_dir {
                writeln!(out, "  in {dir}").unwrap();
            }
        }
        if let Launch::Remote { url, headers, protocol } = &server.launch {
            writeln!(out, "  remote {url} {protocol:?}").unwrap();
            for (name, value) in headers {
                writeln!(out, "  header {name}: {value}").unwrap();
            }
        }
        let own = [
            ("connection_timeout", server.connection_timeout),
            ("call_timeout", server.call_timeout),
            ("health_check_interval", server.health_check_interval),
            ("stop_grace", server.stop_grace),
            ("cidfile_timeout_seconds", server.cidfile_timeout),
        ];
        for (name, span) in own {
            if let Some(span) = span {
                writeln!(out, "  {name} {span:?}").unwrap();
            }
        }
        if let Some(isolation) = &server.isolation {
            let lines = |isolation: &Isolation| format!("{isolation:#?}");
            let (ours, default) = (lines(isolation), lines(&Isolation::default()));
            let default: Vec<&str> = default.lines().collect();
            writeln!(out, "  isolated").unwrap();
            for line in ours.lines().filter(|line| !default.contains(line)) {
                writeln!(out, "  {}", line.trim_end_matches(',')).unwrap();
            }
        }
        if let Some(engine) = &server.engine {
            writeln!(out, "  engine {engine}").unwrap();
        }
        if let Some(problem) = &server.problem {
            writeln!(out, "  parked, {}: {problem}", problem.kind.name()).unwrap();
        }
    }
    out
}

/// The lines of the settings that are not those of the default.
fn settings(out: &mut String, config: &Config) {
    let lines = |config: Config| format!("{:#?}", Config { servers: Vec::new(), ..config });
    let (ours, default) = (lines(config.clone()), lines(Config::default()));
    let default: Vec<&str> = default.lines().collect();
    for line in ours.lines().filter(|line| !default.contains(line)) {
        writeln!(out, "set {}", line.trim()).unwrap();
    }
}

#[test]
fn cases() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/data/configs");
    let mut paths: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    assert!(paths.len() > 20, "the cases are where they are looked for");
    let failures: Vec<String> = paths.iter().filter_map(|path| check_case(path).err()).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// The text of a rich config, for damage.
fn rich() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/data/configs/all-keys.json");
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn no_prefix_makes_it_panic_or_run_anything() {
    let text = rich();
    let whole = text.trim_end().len();
    for (end, _) in text.char_indices().filter(|(end, _)| *end < whole) {
        let (config, findings) = config::parse(&text[..end], "f");
        assert!(!config.usable && config.servers.is_empty(), "{end}");
        assert!(findings.iter().any(|finding| finding.line > 0), "{end}");
        config::report(&text[..end], "f", &config, &findings);
    }
}

#[test]
fn no_damage_makes_it_panic() {
    let text: Vec<char> = rich().chars().collect();
    let strange = ['"', '\\', '{', '}', '[', ']', ',', ':', '/', '*', '\n', '\0', 'é', '9', '$', '~', '-'];
    for seed in 0..1500 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut chars = text.clone();
        for _ in 0..rng.usize(1..4) {
            let at = rng.usize(..chars.len());
            if rng.bool() {
                chars[at] = strange[rng.usize(..strange.len())];
            } else {
                chars.drain(at..chars.len().min(at + rng.usize(1..30)));
            }
        }
        let damaged: String = chars.into_iter().collect();
        let (config, findings) = config::parse(&damaged, "f");
        let report = config::report(&damaged, "f", &config, &findings);
        assert!(report.ends_with('\n'));
        assert!(config.usable || !findings.is_empty());
        for server in &config.servers {
            let parked = server.launch == Launch::Unsupported;
            assert!(!parked || server.problem.is_some(), "seed {seed}: {server:?}");
        }
    }
}

/// One bad entry among good ones: the good ones are as if it were not there.
#[test]
fn a_bad_entry_disturbs_no_other() {
    let good = r#""good": {"command": "true", "args": ["x"], "call_timeout": 7}"#;
    let (alone, _) = config::parse(&format!("{{\"mcpServers\": {{{good}}}}}"), "f");
    for bad in
        ["1", "null", "[]", "{}", r#"{"command": 1}"#, r#"{"command": "x", "args": "y"}"#, r#"{"url": "x"}"#]
    {
        let (both, _) = config::parse(&format!("{{\"mcpServers\": {{{good}, \"bad\": {bad}}}}}"), "f");
        assert_eq!(both.servers[0], alone.servers[0]);
        assert!(both.servers[1].problem.is_some(), "{bad}");
    }
}

#[test]
fn secrets_never_show() {
    let text = r#"{"api_key": "s3cr3t-a", "mcpServers": {
        "git": {"command": "x", "env": {"TOKEN": "s3cr3t-b", "PIN": 31337}, "shell": 1,
            "isolation": {"enabled": true, "extra_args": ["-e", "K=s3cr3t-d", "--cidr", "--env=L=s3cr3t-e"]}},
        "web": {"url": "http://x", "headers": {"Authorization": "Bearer s3cr3t-c"}, "colour": "red"}}}"#;
    let one_line = text.replace('\n', " ");
    for text in [text, &one_line] {
        let (config, findings) = config::parse(text, "f");
        let shown = format!("{config:?} {findings:?} {}", config::report(text, "f", &config, &findings));
        assert!(!shown.contains("s3cr3t") && !shown.contains("31337"), "{shown}");
    }
}

#[test]
fn secrets_in_a_docker_run_are_not_reported() {
    let text = r#"{"mcpServers": {"box": {"command": "docker",
        "args": ["run", "-d", "-e", "TOKEN=s3cr3t", "img"]}}}"#;
    let (config, findings) = config::parse(text, "f");
    let shown = format!("{findings:?} {}", config::report(text, "f", &config, &findings));
    assert!(findings.len() == 3 && !shown.contains("s3cr3t"), "{shown}");
}

#[test]
fn everything_is_bounded() {
    let entry = |n: usize| format!("\"s{n}\": {{\"command\": \"x\", \"colour\": 1}}");
    let many: Vec<String> = (0..5000).map(entry).collect();
    let (config, findings) = config::parse(&format!("{{\"mcpServers\": {{{}}}}}", many.join(", ")), "f");
    assert_eq!((config.servers.len(), findings.len()), (4096, 502));
    let (config, findings) = config::parse(&" ".repeat((8 << 20) + 1), "f");
    assert!(!config.usable);
    assert_eq!(
        findings[0].to_string(),
        "f:1:1: error: the file is larger than 8 MiB (is it the right file?)"
    );
    // Large files on one line: what is done per item must not depend on where the item is.
    let (config, _) = config::parse(&"[".repeat(8 << 20), "f");
    assert!(!config.usable);
    let full =
        |open: &str, item: &str, close: &str| format!("{open}{}{close}", item.repeat((1 << 20) / item.len()));
    for text in [
        full("{", "\"a\":1,", "}"),
        full("{\"mcpServers\": [", "{},", "]}"),
        full("{\"mcpServers\": {\"x\": {\"command\": \"x\", \"args\": [", "1,", "]}}}"),
        full("{\"mcpServers\": {\"x\": {\"command\": \"", "${env:A}$${", "\"}}}"),
    ] {
        let (config, findings) = config::parse(&text, "f");
        assert!(config.usable && findings.len() <= 1001);
        assert!(config::report(&text, "f", &config, &findings).len() < 1 << 20);
    }
}
