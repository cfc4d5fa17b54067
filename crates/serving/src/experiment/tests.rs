//! Books, from requests to verdicts.
