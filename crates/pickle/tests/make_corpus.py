# -*- coding: utf-8 -*-
"""Writes small real files and what Python itself says they hold.

    python make_corpus.py DIRECTORY PART...

(parts: plain, arrays, joblib, npy) writes DIRECTORY/*.pkl (and .joblib, .npy) and DIRECTORY/expected.json, which maps each file to a
description of the object that was written. Run it once per interpreter; the committed corpus was made by

    corpus/python2.7               CPython 2.7.18, standard library only; plain
    corpus/python3.6-joblib0.11    CPython 3.6.15, numpy 1.16.6, joblib 0.11; arrays joblib
    corpus/python3.9-joblib1.1     CPython 3.9.18, numpy 1.23.5, joblib 1.1.1, scipy 1.9.3, lz4; arrays joblib
    corpus/python3.11-joblib1.6    CPython 3.11.7, numpy 2.4.6, joblib 1.6.0, scipy 1.17.1, lz4; all parts

The descriptions are printed from the live objects, never from anything that was read back.
"""
import collections
import io
import json
import os
import pickle
import struct
import sys
import types

PY2 = sys.version_info[0] == 2

try:
    import numpy
except ImportError:
    numpy = None
try:
    import joblib
except ImportError:
    joblib = None
try:
    import scipy.sparse as sparse
except ImportError:
    sparse = None

if PY2:
    text_type, integer_types = unicode, (int, long)  # noqa: F821
else:
    text_type, integer_types = str, (int,)

sample = types.ModuleType("sample")
sys.modules["sample"] = sample


class Point(object):
    def __init__(self, **attributes):
        self.__dict__.update(attributes)


class Pair(object):
    """Has a state that is no dict."""

    def __init__(self, first, second):
        self.parts = (first, second)

    def __getstate__(self):
        return self.parts

    def __setstate__(self, parts):
        self.parts = parts


class Bag(dict):
    pass


class Row(list):
    pass


class Made(object):
    """Is made by a call."""

    def __init__(self, size, name):
        self.size, self.name = size, name

    def __reduce__(self):
        return (Made, (self.size, self.name), {"extra": [1, 2]})


def known(x):
    return x


for value in (Point, Pair, Bag, Row, Made, known):
    value.__module__ = "sample"
    value.__qualname__ = value.__name__
    setattr(sample, value.__name__, value)


def bits(number):
    return str(struct.unpack("<Q", struct.pack("<d", number))[0])


def latin1(data):
    return data.decode("latin-1")


def describe_array(array):
    kind = array.dtype.kind
    shape = list(array.shape)
    if array.dtype.names:
        fields = [[name, describe_array(array[name])] for name in array.dtype.names]
        return ["records", shape, fields]
    flat = array.reshape(-1).tolist()
    if kind == "f":
        values = [bits(x) for x in flat]
    elif kind in "iu":
        values = [str(x) for x in flat]
    elif kind == "b":
        values = flat
    elif kind == "U":
        values = flat
    elif kind == "S":
        values = [latin1(x) for x in flat]
    elif kind == "O":
        values = [describe(x) for x in flat]
    elif kind == "c":
        values = [[bits(x.real), bits(x.imag)] for x in flat]
    elif kind in "Mm":
        values = [str(x) for x in array.reshape(-1).view("i8").tolist()]
    else:
        raise ValueError(kind)
    return ["array", kind, array.dtype.itemsize, shape, values]


def describe(x):
    if x is None:
        return ["none"]
    if isinstance(x, bool):
        return ["bool", x]
    if numpy is not None:
        if isinstance(x, numpy.ma.MaskedArray):
            return ["object", "numpy.ma.MaskedArray"]
        if isinstance(x, numpy.ndarray):
            return describe_array(numpy.asarray(x))
        if isinstance(x, numpy.generic):
            description = describe_array(numpy.asarray(x))
            description[2] = x.dtype.itemsize  # of an empty text 0; its array has 4
            return description
        if isinstance(x, numpy.dtype):
            return ["dtype", x.kind, x.itemsize]
        if isinstance(x, numpy.random.RandomState):
            return ["object", "numpy.random._pickle.__randomstate_ctor"]
        if hasattr(numpy.random, "Generator") and isinstance(x, numpy.random.Generator):
            return ["object", "numpy.random._pickle.__generator_ctor"]
    if sparse is not None and sparse.issparse(x):
        dense = numpy.asarray(x.todense(), dtype="f8")
        return ["sparse", list(x.shape), [bits(v) for v in dense.reshape(-1).tolist()]]
    if isinstance(x, integer_types):
        return ["int", str(int(x))]
    if isinstance(x, float):
        return ["float", bits(x)]
    if isinstance(x, complex):
        return ["array", "c", 16, [], [[bits(x.real), bits(x.imag)]]]
    if isinstance(x, text_type):
        return ["str", x]
    if isinstance(x, bytearray):
        return ["bytes", latin1(bytes(x))]
    if isinstance(x, bytes):
        return ["str" if PY2 else "bytes", latin1(x)]
    if isinstance(x, (Point, Bag, Row)):
        attributes = [[describe(k), describe(v)] for k, v in x.__dict__.items()]
        entries = [[describe(k), describe(v)] for k, v in x.items()] if isinstance(x, Bag) else []
        elements = [describe(v) for v in x] if isinstance(x, Row) else []
        return ["instance", "sample." + type(x).__name__, attributes, entries, elements]
    if isinstance(x, Pair):
        return ["stateful", "sample.Pair", describe(x.parts)]
    if isinstance(x, Made):
        return ["made", "sample.Made", [describe(x.size), describe(x.name)],
                describe({"extra": [1, 2]})]
    if isinstance(x, list):
        return ["list", [describe(v) for v in x]]
    if isinstance(x, tuple):
        return ["tuple", [describe(v) for v in x]]
    if isinstance(x, (set, frozenset)):
        return ["set", [describe(v) for v in x]]
    if isinstance(x, dict):
        return ["dict", [[describe(k), describe(v)] for k, v in x.items()]]
    if isinstance(x, slice):
        return ["slice", [describe(v) for v in (x.start, x.stop, x.step)]]
    if x is known:
        return ["global", "sample.known"]
    if isinstance(x, type) and numpy is not None and issubclass(x, numpy.generic):
        return ["global", "numpy." + {"bool": "bool_"}.get(x.__name__, x.__name__)]
    if isinstance(x, type):
        return ["global", "builtins." + x.__name__]
    raise TypeError(type(x))


def plain_values(is_long=False):
    """Values of the standard library."""
    shared = ["shared"]
    ints = [0, 1, -1, 255, 256, 65535, 65536, 2**31 - 1, -(2**31), 2**31, 2**63 - 1, -(2**63),
            2**63, -(2**63) - 1, 2**127, -(10**40)]
    floats = [0.0, -0.0, 1.5, -2.25e-300, 1e308, float("inf"), float("-inf"), 0.1]
    values = collections.OrderedDict()
    values["scalars"] = [None, True, False] + ints + floats
    values["texts"] = [u"", u"abc", u"h\xe9llo", u"\u20ac \U0001f600", u"back\\slash\nnewline\r\0\x1a",
                       u"x" * 300]
    values["native"] = ["", "abc", "it's", 'a "quote"', "tab\tline\n\\"]
    values["bytes"] = [b"", b"abc", bytes(bytearray(range(256))), bytearray(b"\x00\xff array"),
                       bytearray()]
    values["containers"] = [[], (), {}, set(), frozenset([1]), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4),
                            {1, 2, 3}, {"a": {"b": [1, (2, 3)]}}, slice(1, None, 2)]
    values["dicts"] = [collections.OrderedDict([("z", 1), ("a", 2)]),
                       collections.defaultdict(list, {"k": [1]})]
    values["shared"] = [shared, shared, (shared, shared)]
    if is_long:
        # Longer than the 1000 items that picklers write at a time.
        values["long"] = list(range(1100))
        values["wide"] = dict((str(i), i) for i in range(1010))
    values["complex"] = 1.5 - 2j
    values["types"] = [int, float, bool, object, list, dict]
    values["records"] = [Point(x=1, y=[2.5, None], nested=Point(label=u"inner")), Point(),
                         Pair(1, "two"), known]
    values["subclasses"] = [Bag(a=1), Row([1, 2, 3])]
    values["made"] = Made(3, "three")
    return values


def array_values(has_random=False):
    f8 = numpy.arange(24, dtype="f8").reshape(2, 3, 4) / 7
    record = numpy.zeros(3, dtype={"names": ["left", "flag", "threshold"],
                                   "formats": ["<i8", "u1", "<f8"], "offsets": [0, 8, 9],
                                   "itemsize": 17})
    record["left"], record["flag"], record["threshold"] = [1, -1, -1], [0, 1, 2], [0.5, -2, 1e-9]
    aligned = numpy.zeros(2, dtype=numpy.dtype([("a", "i4"), ("b", "f8"), ("c", "S3")], align=True))
    aligned["a"], aligned["b"], aligned["c"] = [1, 2], [0.25, 4], [b"xy", b"xyz"]
    swapped_record = numpy.array([(1, 0.5), (2, 1.5)], dtype=[("i", ">i2"), ("f", ">f4")])
    objects = numpy.empty((2, 3), dtype=object)
    objects[0] = ["a", None, 1.5]
    objects[1] = [[1, 2], "b", numpy.arange(3)]
    values = collections.OrderedDict()
    values["f8"] = f8
    values["f8_fortran"] = numpy.asfortranarray(f8)
    values["f8_transposed"] = f8.transpose(1, 0, 2)
    values["f8_middle"] = f8.transpose(2, 0, 1)
    values["f8_strided"] = f8[:, ::2, 1:3]
    values["f8_big_endian"] = f8.astype(">f8")
    values["f8_big_fortran"] = numpy.asfortranarray(f8.astype(">f8")[0])
    for code in ["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "c8", "c16"]:
        values[code] = numpy.arange(5).astype(code)
        values["big_" + code] = numpy.arange(5).astype(">" + code)
    values["extremes"] = numpy.array([0, 2**64 - 1], dtype="u8")
    values["special_floats"] = numpy.array([numpy.inf, -numpy.inf, -0.0, 5e-324])
    values["texts"] = numpy.array([u"setosa", u"versi\u20acolor", u""])
    values["big_texts"] = numpy.array([u"ab", u"\U0001f600"], dtype=">U2")
    values["byte_texts"] = numpy.array([b"ab", b"", b"c\xff"])
    values["objects"] = objects
    values["objects_fortran"] = numpy.asfortranarray(objects)
    values["text_objects"] = numpy.array(["no", "yes"], dtype=object)
    values["empty"] = numpy.zeros((0, 3))
    values["empty_objects"] = numpy.zeros(0, dtype=object)
    values["zero_d"] = numpy.array(2.5)
    values["record"] = record
    values["aligned"] = aligned
    values["swapped_record"] = swapped_record
    values["dates"] = numpy.array(["2020-01-02", "1970-01-01"], dtype="M8[D]")
    values["matrix"] = numpy.matrix([[1.0, 2.0], [3.0, 4.0]])
    values["scalars"] = [numpy.float64(1.5), numpy.float32(0.1), numpy.int64(-3), numpy.uint64(2**64 - 1),
                         numpy.int32(7), numpy.bool_(True), numpy.str_(u"caf\xe9"), numpy.str_(""),
                         numpy.bytes_(b"x"), numpy.float16(0.5)]
    values["types"] = [numpy.float64, numpy.float32, numpy.int64, numpy.bool_, numpy.dtype("f4"),
                       numpy.dtype("U3"), numpy.dtype(">i4")]
    if has_random:
        # One of these takes 2.5 KB, most of a file.
        values["random"] = [numpy.random.RandomState(3)]
        if hasattr(numpy.random, "default_rng"):
            values["random"].append(numpy.random.default_rng(5))
    values["masked"] = numpy.ma.array([1.0, 2.0], mask=[True, False])
    values["shared"] = [f8, f8]
    if sparse is not None:
        dense = numpy.array([[0, 1.5, 0], [2, 0, 0], [0, 0, 0], [0, -3, 4]])
        for name in ["csr_matrix", "csc_matrix", "coo_matrix", "dia_matrix", "csr_array", "csc_array",
                     "coo_array", "dia_array"]:
            if hasattr(sparse, name):
                values[name] = getattr(sparse, name)(dense)
        values["float32_csr"] = sparse.csr_matrix(dense.astype("f4"))
    return values


def write_all(directory, parts):
    # Most files hold the same; each description is written once and files refer to it by number.
    expected, descriptions = collections.OrderedDict(), []

    def write(name, data, x):
        with open(os.path.join(directory, name), "wb") as handle:
            handle.write(data)
        # Nothing can describe a cycle by a tree; the test knows this one.
        description = x if isinstance(x, str) else describe(x)
        if description not in descriptions:
            descriptions.append(description)
        expected[name] = descriptions.index(description)

    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        if "plain" in parts:
            write_plain(write, protocol)
        if "arrays" in parts:
            arrays = array_values(has_random=protocol in (2, pickle.HIGHEST_PROTOCOL))
            if protocol < 2:
                # Bytes of protocol 0 are longer than what they tell.
                arrays = collections.OrderedDict((k, arrays[k]) for k in ["f8", "objects", "record", "texts"])
            write("arrays.p%d.pkl" % protocol, pickle.dumps(arrays, protocol), arrays)
    if "joblib" in parts:
        write_joblib(directory, write)
    if "npy" in parts:
        write_npy(write)
    with io.open(os.path.join(directory, "expected.json"), "w", encoding="utf-8") as handle:
        text = json.dumps([expected, descriptions], ensure_ascii=True, indent=None, separators=(",", ":"))
        handle.write(text.decode("ascii") if PY2 else text)
        handle.write(u"\n")


def write_plain(write, protocol):
    plain = plain_values(is_long=protocol == pickle.HIGHEST_PROTOCOL)
    if protocol < 2:
        del plain["made"]
    write("plain.p%d.pkl" % protocol, pickle.dumps(plain, protocol), plain)
    if PY2:
        import cPickle

        write("plain.c%d.pkl" % protocol, cPickle.dumps(plain, protocol), plain)
    if not PY2:
        write("recursive.p%d.pkl" % protocol, pickle.dumps(recursive_value(), protocol), "recursive")
    if not PY2 and protocol == 4:
        # Python's own pickler frames otherwise than the one in C.
        write("plain.py4.pkl", pickle._dumps(plain, protocol), plain)


def recursive_value():
    """A tuple in a list in the tuple, a dict in itself, an object that owns itself."""
    inner = []
    outer = (inner, 1)
    inner.append(outer)
    entries = {}
    entries["me"] = entries
    point = Point()
    point.owner = point
    return [outer, entries, point]


def write_npy(write):
    for name, array in array_values().items():
        is_plain = type(array) is numpy.ndarray and not array.dtype.hasobject
        if is_plain and name != "dates":
            handle = io.BytesIO()
            numpy.save(handle, array)
            write(name + ".npy", handle.getvalue(), array)


def write_joblib(directory, write):
    def dump(name, x, **options):
        path = os.path.join(directory, name)
        joblib.dump(x, path, **options)
        with open(path, "rb") as handle:
            write(name, handle.read(), x)

    arrays = array_values()
    for protocol in (2, pickle.HIGHEST_PROTOCOL):
        dump("arrays.p%d.joblib" % protocol, arrays, protocol=protocol)
    small = collections.OrderedDict((k, arrays[k]) for k in ["f8", "f8_fortran", "objects", "record", "texts"])
    small["plain"] = plain_values()["scalars"]
    methods = ["zlib", "gzip", "bz2", "lzma", "xz"]
    try:
        import lz4.frame  # noqa: F401

        if tuple(int(x) for x in joblib.__version__.split(".")[:2]) >= (0, 12):
            methods.append("lz4")
    except ImportError:
        pass
    for method in methods:
        dump("small.%s.joblib" % method, small, compress=(method, 3))
    from joblib.numpy_pickle_compat import write_zfile

    handle = io.BytesIO()
    write_zfile(handle, pickle.dumps(plain_values()["texts"], 2))
    write("texts.zfile.pkl", handle.getvalue(), plain_values()["texts"])


if __name__ == "__main__":
    target = sys.argv[1]
    if not os.path.isdir(target):
        os.makedirs(target)
    write_all(target, sys.argv[2:])
