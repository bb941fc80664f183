//! What the last lines of a program tell that its exit code does not: launchers that fetch a package say only there that
//! it does not exist. Matched are words of well-known programs; the rows are tested with their whole output,
//! `tests/it/data/last-words/`.

/// One program's way to say it.
struct Saying {
    /// All of these stand in one line.
    words: &'static [&'static str],
    says: Says,
}

/// What cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// No such package, or no such version of it.
    NoPackage,
    /// No such image, or not for who asks.
    NoImage,
}

const fn package(words: &'static [&'static str]) -> Saying {
    Saying { words, says: Says::NoPackage }
}

const fn image(words: &'static [&'static str]) -> Saying {
    Saying { words, says: Says::NoImage }
}

const SAYINGS: [Saying; 13] = [
    // npm and npx: the package, then a version of it.
    package(&["npm", "code E404"]),
    package(&["npm", "code ETARGET"]),
    // pnpm, yarn, bun.
    package(&["ERR_PNPM_FETCH_404"]),
    package(&["ERR_PNPM_NO_MATCHING_VERSION"]),
    package(&["error Couldn't find package", "registry"]),
    package(&["error: GET ", " - 404"]),
    // uv and uvx. The first word may be at the end of the line before.
    package(&["was not found in the package registry"]),
    package(&["there is no version of"]),
    // pip and pipx.
    package(&["No matching distribution found for"]),
    // docker and podman.
    image(&["pull access denied for"]),
    image(&["repository does not exist"]),
    image(&["manifest unknown"]),
    image(&["manifest for", "not found"]),
];

/// Said beside it, the way to the registry was broken: whether there is such a package is not known.
const OFFLINE: [&str; 8] = [
    "Failed to establish a new connection",
    "NewConnectionError",
    "Temporary failure in name resolution",
    "Name or service not known",
    "connection broken by",
    "Read timed out",
    "dns error",
    "Network is unreachable",
];

/// What the lines tell, if they tell anything.
pub fn say(lines: &[&str]) -> Option<Says> {
    if lines.iter().any(|line| OFFLINE.iter().any(|words| line.contains(words))) {
        return None;
    }
    let saying =
        |line: &str| SAYINGS.iter().find(|saying| saying.words.iter().all(|words| line.contains(words)));
    lines.iter().find_map(|line| saying(line)).map(|saying| saying.says)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(output: &str, says: Option<Says>) {
        assert_eq!(say(&output.lines().collect::<Vec<_>>()), says, "{output}");
    }

    macro_rules! output {
        ($name:literal) => {
            include_str!(concat!("../../tests/it/data/last-words/", $name, ".txt"))
        };
    }

    #[test]
    fn a_package_that_does_not_exist() {
        let none = Some(Says::NoPackage);
        check(output!("npx-no-package"), none);
        check(output!("npx-no-version"), none);
        check(output!("pnpm-no-package"), none);
        check(output!("bunx-no-package"), none);
        check(output!("uvx-no-package"), none);
        check(output!("uvx-no-version"), none);
        check(output!("pip-no-package"), none);
    }

    #[test]
    fn an_image_that_does_not_exist() {
        check(output!("docker-no-image"), Some(Says::NoImage));
        check(output!("docker-no-tag"), Some(Says::NoImage));
    }

    #[test]
    fn a_registry_that_was_not_reached() {
        check(output!("npx-offline"), None);
        check(output!("uvx-offline"), None);
        check(output!("pip-offline"), None);
    }

    #[test]
    fn other_ends() {
        check("", None);
        check("Traceback (most recent call last):\nModuleNotFoundError: No module named 'x'", None);
        check("HTTP 404 from https://api.example.org/v1/items", None);
    }
}
