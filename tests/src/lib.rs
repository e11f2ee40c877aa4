//! Real processes on real hosts.
