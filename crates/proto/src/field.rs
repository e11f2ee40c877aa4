//! How one field of a message is read, by its shape. Each function names the field in its error.

use std::{ops::RangeInclusive, str::FromStr};

use model::{Level, RevisionHash, Slot};
use prost::UnknownEnumValue;

use crate::error::{DecodeError, Problem, Within};

/// A message that must be there.
pub(crate) fn required<W, M>(wire: Option<W>, field: &str) -> Result<M, DecodeError>
where
    M: TryFrom<W, Error = DecodeError>,
{
    wire.ok_or(Problem::Missing).within(field)?.try_into().within(field)
}

/// A message that may be absent.
pub(crate) fn optional<W, M>(wire: Option<W>, field: &str) -> Result<Option<M>, DecodeError>
where
    M: TryFrom<W, Error = DecodeError>,
{
    wire.map(|wire| wire.try_into().within(field)).transpose()
}

/// Messages in their order.
pub(crate) fn list<W, M>(wire: Vec<W>, field: &str) -> Result<Vec<M>, DecodeError>
where
    M: TryFrom<W, Error = DecodeError>,
{
    let element = |(index, wire): (usize, W)| M::try_from(wire).within_element(index).within(field);
    wire.into_iter().enumerate().map(element).collect()
}

/// The set variant of a oneof.
pub(crate) fn kind<T>(wire: Option<T>, field: &str) -> Result<T, DecodeError> {
    wire.ok_or(Problem::UnknownKind).within(field)
}

/// A name or a digest.
pub(crate) fn parsed<M>(text: &str, field: &str) -> Result<M, DecodeError>
where
    M: FromStr,
    M::Err: Into<DecodeError>,
{
    text.parse::<M>().within(field)
}

/// A number of a type that protobuf has not got, such as a port.
pub(crate) fn ranged<T: TryFrom<u32>>(
    value: u32,
    range: RangeInclusive<u32>,
    field: &str,
) -> Result<T, DecodeError> {
    let out_of_range = || Problem::OutOfRange {
        value: u64::from(value),
        min: u64::from(*range.start()),
        max: u64::from(*range.end()),
    };
    let inside = if range.contains(&value) { T::try_from(value).ok() } else { None };
    inside.ok_or_else(out_of_range).within(field)
}

pub(crate) fn port(value: u32, field: &str) -> Result<u16, DecodeError> {
    ranged(value, 1..=65_535, field)
}

pub(crate) fn slot(value: u32) -> Result<Slot, DecodeError> {
    let out_of_range = Problem::OutOfRange { value: 0, min: 1, max: u64::from(u32::MAX) };
    Slot::new(value).ok_or(out_of_range).within("slot")
}

/// One that was written down. What is said of oneself may be 0, see [`Level::said`].
pub(crate) fn level(number: u32) -> Result<Level, DecodeError> {
    ranged(number, 1..=u32::MAX, "level").map(Level)
}

pub(crate) fn hash(bytes: &[u8]) -> Result<RevisionHash, DecodeError> {
    let length = |_| Problem::Length { found: bytes.len(), expected: 32 };
    <[u8; 32]>::try_from(bytes).map(RevisionHash).map_err(length).within("hash")
}

/// An enum's value.
pub(crate) fn value<W, M>(number: i32, field: &str) -> Result<M, DecodeError>
where
    W: TryFrom<i32, Error = UnknownEnumValue>,
    M: TryFrom<W, Error = DecodeError>,
{
    let wire = W::try_from(number).map_err(|UnknownEnumValue(number)| Problem::UnknownValue(number));
    M::try_from(wire.within(field)?).within(field)
}

/// Both directions of an enum whose variants have the same names in `model` and on the wire.
macro_rules! same_variants {
    ($($name:ident { $($variant:ident),* })*) => {$(
        impl From<model::$name> for crate::v1::$name {
            fn from(value: model::$name) -> Self {
                match value {
                    $(model::$name::$variant => crate::v1::$name::$variant,)*
                }
            }
        }
        impl TryFrom<crate::v1::$name> for model::$name {
            type Error = crate::error::DecodeError;
            fn try_from(wire: crate::v1::$name) -> Result<Self, Self::Error> {
                match wire {
                    crate::v1::$name::Unspecified => Err(crate::error::Problem::Missing.into()),
                    $(crate::v1::$name::$variant => Ok(model::$name::$variant),)*
                }
            }
        }
    )*};
}
pub(crate) use same_variants;
