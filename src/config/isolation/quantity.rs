//! Memory and CPUs as Docker's command line writes them: `512m`, `1.5g`, `1.0`.

use super::Objection;
use crate::base::limits::CONTAINER_MEMORY_MIN;

/// Bytes; nothing for `0`, which is no limit.
pub fn memory(text: &str) -> Result<Option<u64>, Objection> {
    let how = || Objection::new("this is not an amount of memory", "write it like \"512m\" or \"2g\"");
    let text = text.trim().to_ascii_lowercase();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let count: f64 = text[..digits].parse().map_err(|_| how())?;
    let unit = text[digits..].trim_start();
    let letter = unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(unit);
    let thousands = ["", "k", "m", "g", "t"].iter().position(|known| *known == letter).ok_or_else(how)?;
    let bytes = count * 1024_f64.powi(thousands as i32);
    let least = CONTAINER_MEMORY_MIN;
    match bytes {
        0.0 => Ok(None),
        bytes if bytes < least as f64 => {
            let hint = format!("{} MiB is the least; is the unit missing, as in \"512m\"?", least >> 20);
            Err(Objection::new("no container can live in so little memory", hint))
        }
        bytes if bytes > i64::MAX as f64 => Err(Objection::new("no machine has so much memory", "")),
        bytes => Ok(Some(bytes as u64)),
    }
}

/// Billionths of a CPU; nothing for `0`, which is no limit.
pub fn cpus(text: &str) -> Result<Option<u64>, Objection> {
    match text.trim().parse::<f64>() {
        Ok(0.0) => Ok(None),
        Ok(count) if (0.01..=1024.0).contains(&count) => Ok(Some((count * 1e9).round() as u64)),
        Ok(_) | Err(_) => {
            let hint = "a number from 0.01 to 1024, like \"1.0\" or 0.5; 0 is no limit";
            Err(Objection::new("this is not a number of CPUs", hint))
        }
    }
}

/// Nothing for `0` and `-1`, which are no limit.
pub fn pids(text: &str) -> Result<Option<u32>, Objection> {
    match text.trim().parse::<f64>() {
        Ok(0.0 | -1.0) => Ok(None),
        Ok(count) if count.fract() == 0.0 && (1.0..=4_194_304.0).contains(&count) => Ok(Some(count as u32)),
        Ok(_) | Err(_) => {
            let hint = "a whole number from 1 to 4194304; 0 is no limit";
            Err(Objection::new("this is not a number of processes", hint))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_of_memory() {
        #[track_caller]
        fn check(text: &str, bytes: Option<u64>) {
            assert_eq!(memory(text), Ok(bytes));
        }
        check("512m", Some(512 << 20));
        check("512M", Some(512 << 20));
        check("512 MiB", Some(512 << 20));
        check("1.5g", Some(1536 << 20));
        check("8388608", Some(8 << 20));
        check("8388608b", Some(8 << 20));
        check("10240kb", Some(10 << 20));
        check("1t", Some(1 << 40));
        check("0", None);
    }

    #[test]
    fn no_amounts_of_memory() {
        for text in ["", "m", "lots", "512x", "-1", "1.2.3m", "512", "5m", "inf", "NaN", "999999999t", "5 0m"]
        {
            assert!(memory(text).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_of_cpus_and_processes() {
        assert_eq!(cpus("1.0"), Ok(Some(1_000_000_000)));
        assert_eq!(cpus("0.5"), Ok(Some(500_000_000)));
        assert_eq!(cpus("0"), Ok(None));
        for text in ["", "two", "-1", "0.001", "2000", "NaN", "inf"] {
            assert!(cpus(text).is_err(), "{text}");
        }
        assert_eq!(pids("64"), Ok(Some(64)));
        assert_eq!(pids("-1"), Ok(None));
        for text in ["", "1.5", "-2", "9999999"] {
            assert!(pids(text).is_err(), "{text}");
        }
    }
}
