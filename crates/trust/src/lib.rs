//! Who is who in a cluster, who may do what, and what lies on a disk unread.
//!
//! No network and no clock: times come in as arguments, and TLS configurations take a `TimeProvider`. Random bytes come from
//! the system's generator, which is why this crate is not one of the pure ones; everything else in it is.
//!
//! What always holds:
//!
//! - Whoever issues a certificate sets every name in it. A request contributes a public key, and proves to have its private
//!   key; nothing else in it is read ([`authority`], [`key`]).
//! - A certificate speaks for one node in one role of one cluster, and is read back strictly ([`identity`],
//!   [`certificate`]).
//! - A rotation of the authority never cuts off a host that takes part in it: a step that would is refused with the hosts
//!   that it waits for ([`bundle`]).
//! - A token is recognised by a hash, in constant time; who has a wrong one learns nothing about the right one ([`token`]).
//! - What no rule allows is refused, and the refusal says which right was missing ([`rights`]).
//! - At every moment the certificate on a disk has its key on that disk ([`folder`]).
//! - A sealed record is opened only where it was sealed ([`seal`]).
//! - Keys and secrets are wiped when dropped, and shown by no `Debug`.
//!
//! # The way of a host that joins
//!
//! 1. Someone has a token made: [`token::join::make`] gives the text for the host and the record for the store.
//! 2. The host parses it ([`token::join::JoinTokenText::parse`]) and dials any server with [`tls::client_config`], presenting
//!    nothing and believing the token's pin. It takes [`folder::IdentityFolder::next_key`], and sends its request and the
//!    token.
//! 3. The server finds the record by the token's id, asks [`token::join::redeem`], proposes the record that comes back, and
//!    answers with [`authority::Authority::sign`] and the [`bundle::Trust`].
//! 4. The host keeps the bundle, then the certificate ([`folder::IdentityFolder::believe`],
//!    [`folder::IdentityFolder::install`]). From here on it dials with its certificate, and believes the bundle. When
//!    [`validity::Validity::renews_at`] has come, it asks over that connection for the next certificate, for the next key.
//!
//! Start reading at [`identity`], then [`authority`] and [`tls`]; for what is encrypted at rest, at [`seal`].

pub mod authority;
pub mod bundle;
pub mod certificate;
pub mod folder;
mod hex;
pub mod identity;
pub mod key;
mod pem;
mod random;
pub mod rights;
pub mod seal;
pub mod tls;
pub mod token;
pub mod validity;

pub use random::RandomError;
