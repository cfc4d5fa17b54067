//! Texts to numbers: the vectorizers of scikit-learn.
//!
//! An [`Analyzer`] cuts a text into terms as Python would, a [`Vectorizer`] counts them by vocabulary or hash, and
//! [`TermWeights`] turns counts into tf-idf. What comes out is sparse.

mod analyzer;
mod characters;
mod expression;
mod hashed;
mod murmur;
mod stop_words;
mod token_pattern;
mod vectorizer;
mod weights;

pub use analyzer::{Accents, Analyzer, StopWords, Unit};
pub use hashed::HashedColumns;
pub use token_pattern::TokenPattern;
pub use vectorizer::{Terms, Vectorizer};
pub use weights::{TermNorm, TermWeighter, TermWeights};
