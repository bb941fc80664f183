//! Looking for a byte eight at a time: what a message of megabytes costs is mostly this.

const ONES: u64 = u64::from_ne_bytes([1; 8]);
const HIGH: u64 = ONES << 7;

/// Where the first newline is.
pub fn newline(bytes: &[u8]) -> Option<usize> {
    position(bytes, |word| zeros(word ^ (ONES * b'\n' as u64)), |byte| byte == b'\n')
}

/// Where the plain part of a JSON string ends: at a quote, a backslash or a control character.
pub fn json_special(bytes: &[u8]) -> Option<usize> {
    let special = |word: u64| {
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
        zeros(word ^ (ONES * b'"' as u64)) | zeros(word ^ (ONES * b'\\' as u64)) | control
    };
    position(bytes, special, |byte| matches!(byte, b'"' | b'\\' | 0..=0x1f))
}

/// The high bit of each zero byte. A borrow can set bits above the first that is right, and never below it.
fn zeros(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGH
}

fn position(bytes: &[u8], of_word: impl Fn(u64) -> u64, of_byte: impl Fn(u8) -> bool) -> Option<usize> {
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let found = of_word(u64::from_le_bytes(*word));
        if found != 0 {
            return Some(index * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    rest.iter().position(|byte| of_byte(*byte)).map(|at| words.len() * 8 + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every byte value at every place, alone and before another hit: the same as looking one by one.
    #[test]
    fn as_one_by_one() {
        let special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..=0x1f);
        for length in 0..20 {
            for (at, value) in (0..length).flat_map(|at| (0..=255).map(move |value| (at, value))) {
                for other in [b'x', b'\n', b'"', 0xff, b'!', 0x0b] {
                    let mut bytes = vec![b'a'; length];
                    bytes[length - 1] = other;
                    bytes[at] = value;
                    assert_eq!(newline(&bytes), bytes.iter().position(|byte| *byte == b'\n'), "{bytes:?}");
                    assert_eq!(json_special(&bytes), bytes.iter().position(special), "{bytes:?}");
                }
            }
        }
    }
}
