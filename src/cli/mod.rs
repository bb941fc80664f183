//! (being built)
pub fn main() -> std::process::ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next() {
        Some(first) if first == "demo-server" => crate::demo::run(args),
        _ => std::process::ExitCode::FAILURE,
    }
}
