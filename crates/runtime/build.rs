//! Compiles the keeper (`keeper/`): a static binary without libc, embedded by `src/keeper.rs`.
//!
//! It is no crate of its own: it has to be built for the same target with its own code generation options whatever the
//! profile is, and Cargo has no stable way to embed one package's binary in another.

use std::env;
use std::error::Error;
use std::path::PathBuf;
use std::process::Command;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=keeper");
    println!("cargo::rerun-if-changed=build.rs");
    let rustc = env::var_os("RUSTC").ok_or("cargo sets RUSTC")?;
    let target = env::var("TARGET")?;
    let output = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?).join("wharf-keeper");
    let mut command = Command::new(rustc);
    command.arg("keeper/main.rs").args([
        "--crate-name",
        "wharf_keeper",
        "--crate-type",
        "bin",
        "--edition",
        "2024",
    ]);
    command.args(["--target", &target]).arg("-o").arg(&output);
    let codegen = [
        "opt-level=s",
        "panic=abort",
        "relocation-model=static",
        "strip=symbols",
        "codegen-units=1",
        "lto=fat",
        "relro-level=off",
    ];
    for option in codegen {
        command.args(["-C", option]);
    }
    // Small pages and no relocation or build-id sections: each page saved is a page per container.
    let link = [
        "-nostartfiles",
        "-nostdlib",
        "-static",
        "-no-pie",
        "-Wl,--build-id=none",
        "-Wl,-z,norelro",
        "-Wl,-z,max-page-size=4096",
        "-Wl,-z,noexecstack",
        "-Wl,--gc-sections",
        "-Wl,--no-eh-frame-hdr",
    ];
    for option in link {
        command.arg("-C").arg(format!("link-arg={option}"));
    }
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        command.arg("-C").arg(format!("linker={}", linker.display()));
    }
    let status = command.status()?;
    if !status.success() {
        return Err(format!("compiling the keeper for {target} failed: {status}").into());
    }
    Ok(())
}
