//! A user's `docker run …` as a server's command line: rewritten so that the container is ours to find and to end,
//! and so that it can speak MCP over stdin and stdout. Everything else stays as written, in its order.
//!
//! Pure: words in, words out. It never guesses: what is no run passes unmodified, and where a flag is not known,
//! what follows it is left alone. Warnings name flags and never values, as `-e NAME=secret` is among them.
//!
//! ```text
//! flags.rs   how words are read, and which flags take a value     wrap.rs    looking through sudo and env
//! choice.rs  which engine the words speak to
//! ```

mod choice;
mod flags;
#[cfg(test)]
mod tests;
mod wrap;

pub use choice::EngineChoice;

use crate::base::text::shorten;
use flags::{Next, Part, RUN};

/// What marks the container as ours.
#[derive(Clone, Copy, Debug)]
pub struct Ours<'a> {
    pub labels: &'a [(String, String)],
    /// Where the engine's program is to write the container's id. Must not exist when it starts.
    pub cidfile: &'a str,
}

/// What a command line is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It starts no container that could be ours, and is to be run as it is. The warning is for the user.
    NotARun {
        warning: Option<String>,
    },
    Run(Rewritten),
}

/// A run of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewritten {
    /// The arguments to run the command with, in place of the user's.
    pub args: Vec<String>,
    /// What was changed and why: one sentence for each flag, without a full stop.
    pub warnings: Vec<String>,
    pub engine: EngineChoice,
    /// Command and arguments to which a command of the same program for the same engine can be appended. May hold
    /// secrets.
    pub prefix: Vec<String>,
    /// The folder of the docker client's configuration as this run will have it, if the words or the environment
    /// tell.
    pub docker_folder: Option<String>,
    /// What `--name` says.
    pub name: Option<String>,
    /// Where the user wants the id.
    pub user_cidfile: Option<String>,
    /// As written. Nothing if a flag that is not known stands before it.
    pub image: Option<String>,
}

/// `env` gives the variables that the command will see: the entry's own, else ours.
pub fn rewrite(command: &str, args: &[String], env: &dyn Fn(&str) -> Option<String>, ours: &Ours) -> Outcome {
    let words: Vec<&str> = std::iter::once(command).chain(args.iter().map(String::as_str)).collect();
    let not_a_run = Outcome::NotARun { warning: None };
    let Some(program) = wrap::program(&words, env) else { return not_a_run };
    if let Some(warning) = composed(program.name, None) {
        return Outcome::NotARun { warning: Some(warning) };
    }
    let after = &words[program.at + 1..];
    let Some(globals) = choice::globals(&program, after) else { return not_a_run };
    let before = program.at + 1 + globals.words;
    let run = match globals.command {
        ["run", options @ ..] | ["container", "run", options @ ..] => Run::read(options),
        [first, ..] => return Outcome::NotARun { warning: composed(program.name, Some(first)) },
        [] => None,
    };
    let Some(run) = run else { return not_a_run };
    let head = words.len() - run.words;
    let mut out: Vec<String> = args[..head - 1].to_vec();
    let (options, warnings) = run.write(ours);
    out.extend(options);
    Outcome::Run(Rewritten {
        args: out,
        warnings,
        engine: globals.engine,
        prefix: words[..before].iter().map(|word| (*word).to_owned()).collect(),
        docker_folder: globals.folder,
        name: run.name.map(str::to_owned),
        user_cidfile: run.cidfile.map(str::to_owned),
        image: run.image.map(str::to_owned),
    })
}

/// What to say of compose, which starts containers that cannot be marked from here.
fn composed(program: &str, command: Option<&str>) -> Option<String> {
    let name = match (program, command) {
        ("docker-compose" | "podman-compose", None) => program.to_owned(),
        (_, Some("compose")) => format!("{program} compose"),
        _ => return None,
    };
    Some(format!(
        "`{name}` is run as it is: the containers that it starts are not mcpvisor's to mark, so one that outlives \
         its server is neither found nor removed"
    ))
}

/// What `run` was given.
#[derive(Default)]
struct Run<'a> {
    /// All of it.
    words: usize,
    /// The flags that stay, and then what follows them.
    options: Vec<String>,
    rest: Vec<&'a str>,
    name: Option<&'a str>,
    cidfile: Option<&'a str>,
    image: Option<&'a str>,
    interactive: bool,
    removed_at_end: bool,
    /// Whether `--attach` says what is attached, and whether stdout is.
    attached: bool,
    attached_stdout: bool,
    /// The flag behind which nothing was read.
    unknown: Option<String>,
    /// What was removed or is worth a word, in the order of the words, each flag once.
    noted: Vec<Part<'a>>,
    /// It only tells how it is used.
    help: bool,
}

impl<'a> Run<'a> {
    /// Nothing if no container comes of it: the image or a value is missing, or help is asked for.
    fn read(words: &[&'a str]) -> Option<Run<'a>> {
        let mut run = Run { words: words.len(), ..Run::default() };
        let mut at = 0;
        let image_at = loop {
            match RUN.next(&words[at..]) {
                Next::Flags { parts, words: length } => {
                    run.word(parts, &words[at..at + length]);
                    at += length;
                }
                Next::Foreign => {
                    run.options.push(words[at].to_owned());
                    at += 1;
                }
                Next::Operand => break at,
                Next::Dashes => break at + 1,
                Next::End | Next::NoValue => return None,
                Next::Unknown(flag) => {
                    run.unknown = Some(flag);
                    break words.len();
                }
            }
        };
        run.rest = words[at..].to_vec();
        run.image = words.get(image_at).copied();
        let nothing = run.help || (run.image.is_none() && run.unknown.is_none());
        (!nothing).then_some(run)
    }

    /// One word with flags, and the word after it if that is the value of the last.
    fn word(&mut self, parts: Vec<Part<'a>>, words: &[&'a str]) {
        let kept: Vec<&Part> = parts.iter().filter(|part| self.keeps(part)).collect();
        if kept.len() == parts.len() {
            self.options.extend(words.iter().map(|word| (*word).to_owned()));
            return;
        }
        // What is removed is a long flag with its value, or letters of which none takes the next word.
        if !kept.is_empty() {
            let letters: String = kept.iter().map(|part| part.text).collect();
            self.options.push(format!("-{letters}"));
            self.options.extend(words[1..].iter().map(|word| (*word).to_owned()));
        }
    }

    /// Takes down what the flag says, and whether it stays.
    fn keeps(&mut self, part: &Part<'a>) -> bool {
        let value = part.value;
        match part.flag.long {
            "detach" | "tty" if part.is_on() => return self.removed(part),
            "restart" if !matches!(value, Some("" | "no")) => return self.removed(part),
            "cidfile" => {
                self.cidfile = value.filter(|path| !path.is_empty());
                return self.removed(part);
            }
            "label-file" => self.note(part),
            "interactive" => self.interactive = part.is_on(),
            "rm" => self.removed_at_end = part.is_on(),
            // podman's, implies --rm.
            "rmi" => self.removed_at_end |= part.is_on(),
            "name" => self.name = value.filter(|name| !name.is_empty()),
            "help" => self.help = part.is_on(),
            "attach" => {
                self.attached = true;
                let mut streams = value.unwrap_or_default().split(',');
                self.attached_stdout |= streams.any(|stream| stream.eq_ignore_ascii_case("stdout"));
            }
            _ => (),
        }
        true
    }

    fn removed(&mut self, part: &Part<'a>) -> bool {
        self.note(part);
        false
    }

    fn note(&mut self, part: &Part<'a>) {
        if !self.noted.iter().any(|noted| noted.flag == part.flag) {
            self.noted.push(*part);
        }
    }

    /// The words for `run`, and the warnings.
    fn write(&self, ours: &Ours) -> (Vec<String>, Vec<String>) {
        let mut warnings: Vec<String> = self.noted.iter().map(removal).collect();
        let mut marks = Vec::new();
        if !self.interactive {
            marks.push("-i".to_owned());
        }
        if let Some(flag) = &self.unknown {
            warnings.push(given_up(flag));
            marks.extend(identity(ours));
            marks.extend(self.options.iter().cloned());
        } else {
            if !self.interactive {
                warnings
                    .push("`-i` is added: without it the server's stdin is closed from the start".to_owned());
            }
            if !self.removed_at_end {
                marks.push("--rm".to_owned());
                warnings.push(
                    "`--rm` is added: a container that has ended is not started again, and would stay for ever"
                        .to_owned(),
                );
            }
            if self.attached && !self.attached_stdout {
                marks.extend(["-a".to_owned(), "stdout".to_owned()]);
                warnings.push(
                    "`-a stdout` is added: without stdout the server's answers are not heard".to_owned(),
                );
            }
            marks.extend(identity(ours));
            marks.splice(0..0, self.options.iter().cloned());
        }
        marks.extend(self.rest.iter().map(|word| (*word).to_owned()));
        (marks, warnings)
    }
}

/// The labels and the cidfile. Of two equal labels, and of two cidfiles, the last counts.
fn identity(ours: &Ours) -> impl Iterator<Item = String> {
    let labels =
        ours.labels.iter().flat_map(|(name, value)| ["--label".to_owned(), format!("{name}={value}")]);
    labels.chain(["--cidfile".to_owned(), ours.cidfile.to_owned()])
}

fn removal(part: &Part) -> String {
    let flag = part.shown();
    match part.flag.long {
        "detach" => {
            format!("`{flag}` is removed: detached, the container has no stdin and stdout to speak MCP over")
        }
        "tty" => {
            format!(
                "`{flag}` is removed: a terminal changes what is sent through it, and MCP is sent through a pipe"
            )
        }
        "restart" => format!(
            "`{flag}` is removed: mcpvisor restarts the server; one that the engine restarts has forgotten its session"
        ),
        "cidfile" => format!(
            "`{flag}` is replaced by a file of mcpvisor's own, by which it knows the container; the id is copied to \
             the file named here"
        ),
        _ => format!("`{flag}` cannot change mcpvisor's own labels: they are given as `--label`, which wins"),
    }
}

fn given_up(flag: &str) -> String {
    let flag = shorten(flag, 40);
    format!(
        "`{flag}` is not known to mcpvisor, so neither is where the image is: what follows it is left as written, and \
         the labels stand before it; write `{flag}=VALUE` if it takes a value"
    )
}
