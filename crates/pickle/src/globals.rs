//! The reader's own closed set of names: what a file may name whatever the caller's table says.

use std::sync::LazyLock;

use crate::{ClassTable, GlobalForm, KnownGlobal};

/// A name of the reader's own set that is more than a record of its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Special {
    List,
    Dict,
    Set,
    FrozenSet,
    Tuple,
    ByteArray,
    Bytes,
    Slice,
    Complex,
    Object,
    OrderedDict,
    DefaultDict,
    Reconstructor,
    CodecsEncode,
    ArrayReconstruct,
    ArrayScalar,
    ArrayFromBuffer,
    NdArray,
    DType,
    ArrayWrapper,
    SideFileWrapper,
}

impl Special {
    /// Finds a name by module and name, exactly.
    pub(crate) fn find(module: &str, name: &str) -> Option<Self> {
        Some(match (module, name) {
            ("builtins" | "__builtin__", _) => return Self::find_builtin(name),
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("collections", "defaultdict") => Self::DefaultDict,
            ("copyreg" | "copy_reg", "_reconstructor") => Self::Reconstructor,
            ("_codecs", "encode") => Self::CodecsEncode,
            ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => {
                Self::ArrayReconstruct
            }
            ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar") => Self::ArrayScalar,
            ("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer") => Self::ArrayFromBuffer,
            ("numpy", "ndarray" | "matrix" | "memmap")
            | ("numpy.matrixlib.defmatrix", "matrix")
            | ("numpy.core.memmap" | "numpy._core.memmap", "memmap") => Self::NdArray,
            ("numpy", "dtype") => Self::DType,
            ("joblib.numpy_pickle" | "sklearn.externals.joblib.numpy_pickle", _) => match name {
                "NumpyArrayWrapper" => Self::ArrayWrapper,
                "NDArrayWrapper" | "ZNDArrayWrapper" => Self::SideFileWrapper,
                _ => return None,
            },
            (
                "joblib.numpy_pickle_compat" | "sklearn.externals.joblib.numpy_pickle_compat",
                "NDArrayWrapper" | "ZNDArrayWrapper",
            ) => Self::SideFileWrapper,
            _ => return None,
        })
    }

    fn find_builtin(name: &str) -> Option<Self> {
        Some(match name {
            "list" => Self::List,
            "dict" => Self::Dict,
            "set" => Self::Set,
            "frozenset" => Self::FrozenSet,
            "tuple" => Self::Tuple,
            "bytearray" => Self::ByteArray,
            "bytes" => Self::Bytes,
            "slice" => Self::Slice,
            "complex" => Self::Complex,
            "object" => Self::Object,
            _ => return None,
        })
    }

    /// Returns the name under which the graph holds this as a value.
    pub(crate) fn canonical(self) -> &'static str {
        match self {
            Self::List => "builtins.list",
            Self::Dict => "builtins.dict",
            Self::Set => "builtins.set",
            Self::FrozenSet => "builtins.frozenset",
            Self::Tuple => "builtins.tuple",
            Self::ByteArray => "builtins.bytearray",
            Self::Bytes => "builtins.bytes",
            Self::Slice => "builtins.slice",
            Self::Complex => "builtins.complex",
            Self::Object => "builtins.object",
            Self::OrderedDict => "collections.OrderedDict",
            Self::DefaultDict => "collections.defaultdict",
            Self::Reconstructor => "copyreg._reconstructor",
            Self::CodecsEncode => "_codecs.encode",
            Self::ArrayReconstruct => "numpy._core.multiarray._reconstruct",
            Self::ArrayScalar => "numpy._core.multiarray.scalar",
            Self::ArrayFromBuffer => "numpy._core.numeric._frombuffer",
            Self::NdArray => "numpy.ndarray",
            Self::DType => "numpy.dtype",
            Self::ArrayWrapper => "joblib.numpy_pickle.NumpyArrayWrapper",
            Self::SideFileWrapper => "joblib.numpy_pickle.NDArrayWrapper",
        }
    }
}

/// Finds a name of the reader's own set that a file may hold or record, exactly.
pub(crate) fn find_plain(module: &str, name: &str) -> Option<&'static KnownGlobal> {
    static OWN: LazyLock<ClassTable> = LazyLock::new(|| ClassTable::from_groups(PLAIN_GROUPS));
    OWN.get(module, name)
}

macro_rules! global {
    ($form:ident, $module:expr, $name:expr => $canonical:expr) => {
        KnownGlobal {
            module: $module,
            name: $name,
            canonical: $canonical,
            form: GlobalForm::$form,
        }
    };
}

macro_rules! builtin_type {
    ($name:literal => $canonical:literal) => {
        [
            global!(Value, "builtins", $name => $canonical),
            global!(Value, "__builtin__", $name => $canonical),
        ]
    };
}

macro_rules! numpy_type {
    ($name:literal => $canonical:literal) => {
        [global!(Value, "numpy", $name => concat!("numpy.", $canonical))]
    };
    ($name:literal) => {
        numpy_type!($name => $name)
    };
}

macro_rules! sparse {
    ($format:literal) => {{
        const MODULE: &str = concat!("scipy.sparse._", $format);
        const OLD_MODULE: &str = concat!("scipy.sparse.", $format);
        const MATRIX: &str = concat!($format, "_matrix");
        const ARRAY: &str = concat!($format, "_array");
        const MATRIX_CLASS: &str = concat!("scipy.sparse._", $format, ".", $format, "_matrix");
        const ARRAY_CLASS: &str = concat!("scipy.sparse._", $format, ".", $format, "_array");
        [
            global!(Record, MODULE, MATRIX => MATRIX_CLASS),
            global!(Record, OLD_MODULE, MATRIX => MATRIX_CLASS),
            global!(Record, MODULE, ARRAY => ARRAY_CLASS),
            global!(Record, "scipy.sparse._arrays", ARRAY => ARRAY_CLASS),
        ]
    }};
}

const RANDOM: [KnownGlobal; 14] = [
    global!(Constructor, "numpy.random._pickle", "__randomstate_ctor" => "numpy.random._pickle.__randomstate_ctor"),
    global!(Constructor, "numpy.random", "__RandomState_ctor" => "numpy.random._pickle.__randomstate_ctor"),
    global!(Constructor, "numpy.random._pickle", "__generator_ctor" => "numpy.random._pickle.__generator_ctor"),
    global!(Constructor, "numpy.random._pickle", "__bit_generator_ctor" => "numpy.random._pickle.__bit_generator_ctor"),
    global!(Constructor, "numpy.random.bit_generator", "__pyx_unpickle_SeedSequence" => "numpy.random.bit_generator.__pyx_unpickle_SeedSequence"),
    global!(Value, "numpy.random.bit_generator", "SeedSequence" => "numpy.random.bit_generator.SeedSequence"),
    global!(Value, "numpy.random._mt19937", "MT19937" => "numpy.random._mt19937.MT19937"),
    global!(Value, "numpy.random._pcg64", "PCG64" => "numpy.random._pcg64.PCG64"),
    global!(Value, "numpy.random._pcg64", "PCG64DXSM" => "numpy.random._pcg64.PCG64DXSM"),
    global!(Value, "numpy.random._philox", "Philox" => "numpy.random._philox.Philox"),
    global!(Value, "numpy.random._sfc64", "SFC64" => "numpy.random._sfc64.SFC64"),
    global!(Constructor, "numpy.ma.core", "_mareconstruct" => "numpy.ma.MaskedArray"),
    global!(Value, "numpy.ma.core", "MaskedArray" => "numpy.ma.MaskedArray"),
    global!(Value, "numpy.ma", "MaskedArray" => "numpy.ma.MaskedArray"),
];

/// The names that a file may hold or record, in groups of aliases.
const PLAIN_GROUPS: &[&[KnownGlobal]] = &[
    &RANDOM,
    &builtin_type!("int" => "builtins.int"),
    &builtin_type!("long" => "builtins.int"),
    &builtin_type!("float" => "builtins.float"),
    &builtin_type!("bool" => "builtins.bool"),
    &builtin_type!("str" => "builtins.str"),
    &builtin_type!("unicode" => "builtins.str"),
    &numpy_type!("bool" => "bool_"),
    &numpy_type!("bool_"),
    &numpy_type!("int8"),
    &numpy_type!("int16"),
    &numpy_type!("int32"),
    &numpy_type!("int64"),
    &numpy_type!("intc"),
    &numpy_type!("longlong"),
    &numpy_type!("uint8"),
    &numpy_type!("uint16"),
    &numpy_type!("uint32"),
    &numpy_type!("uint64"),
    &numpy_type!("uintc"),
    &numpy_type!("ulonglong"),
    &numpy_type!("float16"),
    &numpy_type!("float32"),
    &numpy_type!("float64"),
    &numpy_type!("longdouble"),
    &numpy_type!("complex64"),
    &numpy_type!("complex128"),
    &numpy_type!("str_"),
    &numpy_type!("unicode_" => "str_"),
    &numpy_type!("bytes_"),
    &numpy_type!("string_" => "bytes_"),
    &numpy_type!("object_"),
    &numpy_type!("void"),
    &numpy_type!("datetime64"),
    &numpy_type!("timedelta64"),
    &numpy_type!("generic"),
    &numpy_type!("number"),
    &numpy_type!("integer"),
    &numpy_type!("signedinteger"),
    &numpy_type!("unsignedinteger"),
    &numpy_type!("inexact"),
    &numpy_type!("floating"),
    &numpy_type!("complexfloating"),
    &numpy_type!("flexible"),
    &numpy_type!("character"),
    &sparse!("csr"),
    &sparse!("csc"),
    &sparse!("coo"),
    &sparse!("dia"),
    &sparse!("bsr"),
    &sparse!("lil"),
    &sparse!("dok"),
];
