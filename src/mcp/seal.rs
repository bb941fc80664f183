//! Tokens of one server among several: sealed on their way to a client, so that only what that server gave out, for
//! the same request, comes back to it.
//!
//! A sealed token is `mv1.<32 hex digits>.<the token>`: a MAC over the token and what it belongs to, under a key that
//! lives as long as the daemon. It hides nothing.

use super::envelope::quote;
use super::scan;
use ring::hmac;

const MARK: &str = "mv1.";

/// 128 bits: a forger has one try per request.
const TAG_BYTES: usize = 16;

/// What tokens are sealed with; one per run of the daemon.
#[derive(Debug)]
pub struct Sealer(hmac::Key);

impl Sealer {
    /// `secret` is random and known to nobody else.
    pub fn new(secret: &[u8; 32]) -> Sealer {
        Sealer(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// A token of JSON text (`raw`, quoted), sealed for what `belongs` names; nothing if it is no string.
    pub fn seal(&self, raw: &str, belongs: &[&str]) -> Option<String> {
        let token = scan::string(raw)?;
        let tag = hmac::sign(&self.0, &bound(&token, belongs));
        let tag: String = tag.as_ref()[..TAG_BYTES].iter().map(|byte| format!("{byte:02x}")).collect();
        Some(quote(&format!("{MARK}{tag}.{token}")))
    }

    /// The token as the server gave it, quoted; nothing if it is not one that was sealed for `belongs`.
    pub fn open(&self, raw: &str, belongs: &[&str]) -> Option<String> {
        let sealed = scan::string(raw)?;
        let (tag, token) = sealed.strip_prefix(MARK)?.split_once('.')?;
        let own = self.seal(&quote(token), belongs)?;
        // Both are ours to compute; compared without a hint of where they differ.
        let expected = own.get(1 + MARK.len()..)?.get(..TAG_BYTES * 2)?;
        let same = tag.len() == expected.len()
            && tag.bytes().zip(expected.bytes()).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0;
        same.then(|| quote(token))
    }
}

/// Each part with its length before it, so that no two lists of parts are the same bytes.
fn bound(token: &str, belongs: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in belongs.iter().chain([&token]) {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_sealed_for_it_opens() {
        let sealer = Sealer::new(&[7; 32]);
        let belongs = ["alpha", "tools/call", "add"];
        for token in [r#""""#, r#""abc""#, r#""mv1.x.y""#, r#""\u0000é \"q\"""#] {
            let sealed = sealer.seal(token, &belongs).unwrap();
            let opened = sealer.open(&sealed, &belongs).unwrap();
            assert_eq!(scan::string(&opened), scan::string(token), "{sealed}");
            assert_eq!(sealer.open(&sealed, &["beta", "tools/call", "add"]), None);
            assert_eq!(sealer.open(&sealed, &["alpha", "tools/calladd", ""]), None);
            assert_eq!(Sealer::new(&[8; 32]).open(&sealed, &belongs), None);
            assert_eq!(sealer.open(token, &belongs), None);
            let last = sealed.len() - 1;
            assert_eq!(sealer.open(&format!("{}x\"", &sealed[..last]), &belongs), None, "tampered");
        }
        assert_eq!(sealer.seal("7", &belongs), None);
        assert_eq!(sealer.open(r#""mv1..""#, &belongs), None);
    }
}
