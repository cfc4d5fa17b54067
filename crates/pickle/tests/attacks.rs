//! One test for each known malicious technique: what the reader says to it, and that it says it cheaply.
#![expect(
    clippy::unwrap_used,
    reason = "a file that cannot be made should fail loudly"
)]

#[path = "attacks/arrays.rs"]
mod arrays;
#[path = "attacks/assembler.rs"]
mod assembler;
#[path = "attacks/budgets.rs"]
mod budgets;
#[path = "attacks/compression.rs"]
mod compression;
#[path = "attacks/getter.rs"]
mod getter;
#[path = "attacks/names.rs"]
mod names;
#[path = "attacks/structure.rs"]
mod structure;

use assembler::Assembler;
use coracle_pickle::{ClassTable, Error, ErrorKind, GlobalForm, Graph, KnownGlobal, Limits, read};

static TABLE: &[KnownGlobal] = &[
    KnownGlobal {
        module: "sklearn.base",
        name: "Estimator",
        canonical: "sklearn.base.Estimator",
        form: GlobalForm::Record,
    },
    KnownGlobal {
        module: "sklearn.tree._tree",
        name: "Tree",
        canonical: "sklearn.tree._tree.Tree",
        form: GlobalForm::Constructor,
    },
    KnownGlobal {
        module: "numpy",
        name: "mean",
        canonical: "numpy.mean",
        form: GlobalForm::Value,
    },
    KnownGlobal {
        module: "scipy.stats",
        name: "randint_gen",
        canonical: "scipy.stats.randint_gen",
        form: GlobalForm::Inert,
    },
];

fn load(bytes: &[u8]) -> Result<Graph, Error> {
    read(bytes, &ClassTable::new(TABLE), &Limits::default())
}

fn asm() -> Assembler {
    Assembler::new(4)
}

#[track_caller]
fn refused(bytes: &[u8], kind: ErrorKind) -> Error {
    let error = load(bytes).expect_err("the file is refused");
    assert_eq!(error.kind(), kind, "{error}");
    error
}

#[track_caller]
fn refuses_names(bytes: &[u8], message: &str) -> Error {
    let error = refused(bytes, ErrorKind::UnknownGlobal);
    assert_eq!(error.to_string(), message);
    error
}

#[track_caller]
fn refused_with(bytes: &[u8], kind: ErrorKind, message: &str) {
    assert_eq!(refused(bytes, kind).to_string(), message);
}
