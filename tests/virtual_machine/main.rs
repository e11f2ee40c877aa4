//! Hosts with cgroup v2 alone, in virtual machines: a kernel that the machine which runs the tests may not have.
//!
//! Everything inside takes about ten times as long as outside; deadlines here are long, and are never waited for.

mod cgroup2;
mod faults;
mod fleet;
mod host;
mod kernels;
mod machine;
