//! Hosts with addresses of their own, made by `wharf dev --nodes`.

mod readme;
mod starting;
