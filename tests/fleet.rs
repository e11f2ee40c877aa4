//! A cluster of virtual machines to play with: `cargo run -p tests --bin fleet [COUNT]`, as root, once `tests/run` or
//! `tests/vm/kernel` has fetched the kernels and the program is built.
//!
//! Every line that is typed begins with a machine's number: `2 wharf get nodes` runs that there, `2 kill` takes its power
//! away and `2 boot` gives it back. The end of the input ends all.

use std::{
    io::{self, BufRead, Write},
    time::Instant,
};

use tests::vm::Fleet;

fn main() -> io::Result<()> {
    let count = std::env::args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(3);
    let began = Instant::now();
    let fleet = Fleet::start(count);
    println!("{count} machines are a cluster after {:?}", began.elapsed());
    print!("{}", fleet.ok(1, "get nodes"));
    for line in io::stdin().lock().lines() {
        let line = line?;
        let (number, script) = line.split_once(' ').unwrap_or_default();
        match (number.parse(), script) {
            (Ok(number), "kill") if fleet.all().contains(&number) => fleet.kill(number),
            (Ok(number), "boot") if fleet.all().contains(&number) => fleet.boot(number),
            (Ok(number), script) if fleet.all().contains(&number) => {
                let ran = fleet.machine(number).run(script);
                print!("{}", ran.output);
                println!("exit code {}", ran.code);
            }
            _ => println!("a machine's number, and what to run there, or kill, or boot"),
        }
        io::stdout().flush()?;
    }
    Ok(())
}
