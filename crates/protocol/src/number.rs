//! One JSON value as one element of a datatype, with messages that say where and what was allowed.

use std::fmt;
use std::marker::PhantomData;

use coracle_tensor::{DType, bf16, f16};
use serde::de::{self, Deserializer, Visitor};

/// Where an element stands in the request, for messages.
pub(crate) trait Place: Copy {
    /// Writes it, such as `instances[2][1]`.
    fn write(self, f: &mut fmt::Formatter<'_>) -> fmt::Result;
}

struct Shown<P>(P);

impl<P: Place> fmt::Display for Shown<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write(f)
    }
}

/// A type that elements are read as.
pub(crate) trait Element: Sized {
    /// Its datatype.
    const DTYPE: DType;
    /// What is allowed, for messages.
    const ALLOWED: &'static str;
    fn from_u64(value: u64) -> Option<Self>;
    fn from_i64(value: i64) -> Option<Self>;
    fn from_f64(value: f64) -> Option<Self>;
    fn from_bool(value: bool) -> Option<Self>;
    /// What `null` stands for, where missing values are accepted.
    fn missing() -> Option<Self>;
}

/// The largest whole number up to which every whole double is one integer.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// Returns a whole number written with a fraction of zero (`3.0`) as an integer.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    reason = "whole and below 2^53"
)]
fn whole(value: f64) -> Option<i64> {
    (value.fract() == 0.0 && value.abs() <= WHOLE_MAX).then_some(value as i64)
}

macro_rules! integer_element {
    ($type:ty, $dtype:ident, $allowed:literal) => {
        impl Element for $type {
            const DTYPE: DType = DType::$dtype;
            const ALLOWED: &'static str = $allowed;

            fn from_u64(value: u64) -> Option<Self> {
                Self::try_from(value).ok()
            }

            fn from_i64(value: i64) -> Option<Self> {
                Self::try_from(value).ok()
            }

            fn from_f64(value: f64) -> Option<Self> {
                whole(value).and_then(|value| Self::try_from(value).ok())
            }

            fn from_bool(_value: bool) -> Option<Self> {
                None
            }

            fn missing() -> Option<Self> {
                None
            }
        }
    };
}

integer_element!(u8, U8, "whole numbers 0 to 255");
integer_element!(u16, U16, "whole numbers 0 to 65535");
integer_element!(u32, U32, "whole numbers 0 to 4294967295");
integer_element!(u64, U64, "whole numbers 0 to 18446744073709551615");
integer_element!(i8, I8, "whole numbers -128 to 127");
integer_element!(i16, I16, "whole numbers -32768 to 32767");
integer_element!(i32, I32, "whole numbers -2147483648 to 2147483647");
integer_element!(
    i64,
    I64,
    "whole numbers -9223372036854775808 to 9223372036854775807"
);

macro_rules! float_element {
    ($type:ty, $dtype:ident, $from_f64:expr, $is_finite:expr) => {
        impl Element for $type {
            const DTYPE: DType = DType::$dtype;
            const ALLOWED: &'static str = "numbers within its range";

            #[expect(
                clippy::as_conversions,
                clippy::cast_precision_loss,
                reason = "rounds to nearest"
            )]
            fn from_u64(value: u64) -> Option<Self> {
                Self::from_f64_rounded(value as f64)
            }

            #[expect(
                clippy::as_conversions,
                clippy::cast_precision_loss,
                reason = "rounds to nearest"
            )]
            fn from_i64(value: i64) -> Option<Self> {
                Self::from_f64_rounded(value as f64)
            }

            fn from_f64(value: f64) -> Option<Self> {
                Self::from_f64_rounded(value)
            }

            fn from_bool(value: bool) -> Option<Self> {
                Self::from_f64_rounded(if value { 1.0 } else { 0.0 })
            }

            fn missing() -> Option<Self> {
                Some(Self::NAN)
            }
        }

        impl Rounded for $type {
            fn from_f64_rounded(value: f64) -> Option<Self> {
                let convert: fn(f64) -> $type = $from_f64;
                let rounded = convert(value);
                let is_finite: fn($type) -> bool = $is_finite;
                is_finite(rounded).then_some(rounded)
            }
        }
    };
}

/// Rounding to a precision, refusing what overflows it.
trait Rounded: Sized {
    fn from_f64_rounded(value: f64) -> Option<Self>;
}

#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    reason = "rounds to nearest"
)]
fn to_single(value: f64) -> f32 {
    value as f32
}

float_element!(f64, F64, |value| value, f64::is_finite);
float_element!(f32, F32, to_single, f32::is_finite);
float_element!(f16, F16, f16::from_f64, f16::is_finite);
float_element!(bf16, BF16, bf16::from_f64, bf16::is_finite);

impl Element for bool {
    const DTYPE: DType = DType::Bool;
    const ALLOWED: &'static str = "true, false, 0 and 1";

    fn from_u64(value: u64) -> Option<Self> {
        match value {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn from_i64(_negative: i64) -> Option<Self> {
        None
    }

    fn from_f64(_value: f64) -> Option<Self> {
        None
    }

    fn from_bool(value: bool) -> Option<Self> {
        Some(value)
    }

    fn missing() -> Option<Self> {
        None
    }
}

/// Reads one element.
pub(crate) struct ElementSeed<T, P> {
    pub(crate) place: P,
    pub(crate) accepts_missing: bool,
    element: PhantomData<T>,
}

impl<T, P> ElementSeed<T, P> {
    pub(crate) fn new(place: P, accepts_missing: bool) -> Self {
        Self {
            place,
            accepts_missing,
            element: PhantomData,
        }
    }
}

impl<T: Element, P: Place> ElementSeed<T, P> {
    fn ranged<E: de::Error>(&self, found: Option<T>, value: impl fmt::Display) -> Result<T, E> {
        found.ok_or_else(|| {
            let place = Shown(self.place);
            E::custom(format_args!(
                "{place}: {value} is out of range for {} ({})",
                T::DTYPE,
                T::ALLOWED
            ))
        })
    }

    fn wrong<E: de::Error>(&self, what: &str) -> E {
        let place = Shown(self.place);
        let belongs = if T::DTYPE == DType::Bool {
            "a truth value"
        } else {
            "a number"
        };
        E::custom(format_args!("{place}: {what} where {belongs} belongs"))
    }
}

impl<'de, T: Element, P: Place> de::DeserializeSeed<'de> for ElementSeed<T, P> {
    type Value = T;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: Element, P: Place> Visitor<'de> for ElementSeed<T, P> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an element of datatype {}", T::DTYPE)
    }

    #[inline]
    fn visit_u64<E: de::Error>(self, value: u64) -> Result<T, E> {
        self.ranged(T::from_u64(value), value)
    }

    #[inline]
    fn visit_i64<E: de::Error>(self, value: i64) -> Result<T, E> {
        self.ranged(T::from_i64(value), value)
    }

    #[inline]
    fn visit_f64<E: de::Error>(self, value: f64) -> Result<T, E> {
        self.ranged(T::from_f64(value), value)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<T, E> {
        match T::from_bool(value) {
            Some(element) => Ok(element),
            None => Err(self.wrong("a truth value")),
        }
    }

    fn visit_unit<E: de::Error>(self) -> Result<T, E> {
        let place = Shown(self.place);
        match T::missing() {
            Some(element) if self.accepts_missing => Ok(element),
            Some(_) => Err(E::custom(format_args!(
                "{place}: null (a missing value), this model takes numbers only"
            ))),
            None => Err(self.wrong("null")),
        }
    }

    fn visit_str<E: de::Error>(self, _text: &str) -> Result<T, E> {
        Err(self.wrong("a string"))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, _items: A) -> Result<T, A::Error> {
        Err(self.wrong("a list"))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, _entries: A) -> Result<T, A::Error> {
        Err(self.wrong("an object"))
    }
}
