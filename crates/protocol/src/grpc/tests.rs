//! Messages against their published descriptors, and inferences both ways.

mod descriptors;
mod inferences;
