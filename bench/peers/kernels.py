"""Times predictions of scikit-learn, XGBoost, LightGBM, ONNX Runtime, treelite, tl2cgen and lleaves on one thread.

    OMP_NUM_THREADS=1 python kernels.py WORKDIR

Puts the models into WORKDIR/models/<model>/ (model.joblib, and rows.npy: 1,000 rows,
float64, C order; boosters as model.json and model.txt; in <model>_onnx/ the graph that ONNX Runtime runs, and the same rows in float32) unless they are there: the iris forest from examples/iris, the others
trained here. Prints one JSON document on stdout; everything else goes to stderr. Times are
nanoseconds per row over calls with one row (a different row each call) and with all 1,000.

Each call is made from Python, as users of these libraries make it, so one-row times include
the library's Python layer. Inputs are prepared outside the timed call: float64 rows for
scikit-learn, float32 rows for ONNX Runtime, a DMatrix for tl2cgen. "tl2cgen C loop" calls
the same compiled function on one row at a time from C, with no Python and no DMatrix. XGBoost is given the rows by
inplace_predict, which makes no DMatrix; treelite GTIL is its interpreter; lleaves compiles LightGBM models with LLVM
and is called through its Python API.

The compiled trees compare float64 values, scikit-learn's forests compare float32 values: a row
that is on a threshold can take another branch.
"""
import ctypes
import json
import os
import platform
import signal
import subprocess
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path

for _name in ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"]:
    os.environ[_name] = "1"

import joblib
import numpy as np
from sklearn.datasets import load_iris, make_classification
from sklearn.ensemble import (
    GradientBoostingClassifier, HistGradientBoostingClassifier, RandomForestClassifier)
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

warnings.filterwarnings("ignore")

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
ROWS = 1000
BUDGET = 3.0            # seconds of measuring per number
COMPILE_LIMIT = int(os.environ.get("COMPILE_LIMIT", "600"))
COMPILED = ["iris_forest_100", "boosted_500x6", "deep_forest_100"]


def log(*words):
    print(*words, file=sys.stderr, flush=True)


def synthetic(rows, features=30):
    """Features of which 12 are informative, 10 % of the labels wrong; and 1,000 rows aside."""
    x, y = make_classification(rows + ROWS, features, n_informative=12, flip_y=0.1, random_state=0)
    return x[:rows], y[:rows], np.ascontiguousarray(x[rows:])


def iris_forest_100():
    x, y = load_iris(return_X_y=True)
    random = np.random.RandomState(0)
    rows = np.round(x[random.randint(0, len(x), ROWS)] + random.normal(0, 0.2, (ROWS, 4)), 1)
    return joblib.load(EXAMPLES / "iris" / "model.joblib"), rows


def boosted_500x6():
    x, y, rows = synthetic(2000)
    return GradientBoostingClassifier(n_estimators=500, max_depth=6, random_state=0).fit(x, y), rows


def deep_forest_100():
    x, y, rows = synthetic(20000)
    return RandomForestClassifier(n_estimators=100, random_state=0).fit(x, y), rows


def hist_boosted_500x31():
    x, y, rows = synthetic(20000)
    model = HistGradientBoostingClassifier(
        max_iter=500, max_leaf_nodes=31, early_stopping=False, random_state=0)
    return model.fit(x, y), rows


def scaler_logistic():
    x, y, rows = synthetic(2000)
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y), rows


def xgboost_500x6():
    return xgboost_model(30, n_estimators=500, max_depth=6)


def xgboost_1000x8():
    return xgboost_model(100, n_estimators=1000, max_depth=8)


def lightgbm_500x31():
    return lightgbm_model(30, n_estimators=500, num_leaves=31)


def lightgbm_300x255():
    return lightgbm_model(500, n_estimators=300, num_leaves=255)


def xgboost_model(features, **options):
    import xgboost
    x, y, rows = synthetic(20000, features)
    return xgboost.XGBClassifier(n_jobs=1, random_state=0, **options).fit(x, y).get_booster(), rows


def lightgbm_model(features, **options):
    import lightgbm
    x, y, rows = synthetic(20000, features)
    return lightgbm.LGBMClassifier(n_jobs=1, random_state=0, verbose=-1, **options).fit(x, y).booster_, rows


# Compiling the larger two takes C and LLVM compilers longer than COMPILE_LIMIT.
BOOSTERS = [(xgboost_500x6, True), (xgboost_1000x8, False), (lightgbm_500x31, True), (lightgbm_300x255, False)]
MODELS = [iris_forest_100, boosted_500x6, deep_forest_100, hist_boosted_500x31, scaler_logistic]


def prepared(work, make):
    """The model and its rows, trained unless WORKDIR has them."""
    folder = work / "models" / make.__name__
    file, rows = folder / "model.joblib", folder / "rows.npy"
    if not (file.exists() and rows.exists()):
        log("training", make.__name__)
        folder.mkdir(parents=True, exist_ok=True)
        model, data = make()
        np.save(rows, np.ascontiguousarray(data, dtype=np.float64))
        joblib.dump(model, file)
    return joblib.load(file), np.load(rows)


def prepared_booster(work, make):
    """The booster's file and its rows, trained unless WORKDIR has them."""
    folder = work / "models" / make.__name__
    file, rows = folder / ("model.json" if "xgboost" in make.__name__ else "model.txt"), folder / "rows.npy"
    if not (file.exists() and rows.exists()):
        log("training", make.__name__)
        folder.mkdir(parents=True, exist_ok=True)
        model, data = make()
        np.save(rows, np.ascontiguousarray(data, dtype=np.float64))
        model.save_model(file)
    return file, np.load(rows)


def measure(call, inputs, rows):
    """Per-row nanoseconds (median, p10, p90) of call over the inputs in turn, after a warm-up."""
    clock = time.perf_counter_ns
    for index in range(min(20, len(inputs) * 3)):
        call(inputs[index % len(inputs)])
    times = []
    end = clock() + int(BUDGET * 1e9)
    while (clock() < end and len(times) < 100_000) or len(times) < 20:
        given = inputs[len(times) % len(inputs)]
        start = clock()
        call(given)
        times.append(clock() - start)
    return [float(v) / rows for v in np.percentile(times, [50, 10, 90])]


def onnx_peer(work, name, model, rows):
    """ONNX Runtime's answer to float32 rows, one thread. Leaves the graph and the rows for Coracle to time, too."""
    import onnxruntime
    from skl2onnx import to_onnx
    onnx_model = to_onnx(model, rows[:1].astype(np.float32), options={"zipmap": False})
    folder = work / "models" / f"{name}_onnx"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(onnx_model.SerializeToString())
    np.save(folder / "rows.npy", np.ascontiguousarray(rows, dtype=np.float32))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        onnx_model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    name, wanted = session.get_inputs()[0].name, [session.get_outputs()[1].name]
    return lambda x: session.run(wanted, {name: x})[0]


def treelite_model(folder):
    import treelite
    if (folder / "model.json").exists():
        return treelite.frontend.load_xgboost_model(folder / "model.json", format_choice="use_suffix")
    if (folder / "model.txt").exists():
        return treelite.frontend.load_lightgbm_model(folder / "model.txt")
    return treelite.sklearn.import_model(joblib.load(folder / "model.joblib"))


def compile_model(work, name):
    """In a process of its own: model.joblib to a shared library by tl2cgen and gcc -O3."""
    import tl2cgen
    folder = work / "models" / name
    model = treelite_model(folder)
    log(name, "treelite types:", model.input_type, model.output_type)
    source = folder / "tl2cgen"
    tl2cgen.generate_c_code(model, dirpath=source, params={"parallel_comp": 50})
    files = sorted(source.glob("*.c"))
    objects = []
    for file in files:
        objects.append(file.with_suffix(".o"))
        subprocess.run(["gcc", "-c", "-O3", "-fPIC", "-std=c99", "-o", objects[-1], file], check=True)
    subprocess.run(["gcc", "-shared", "-o", folder / "tl2cgen.part", *objects, "-lm"], check=True)
    (folder / "tl2cgen.part").rename(folder / "tl2cgen.so")


def compiled(work, name):
    """The path of the compiled model, or None where compiling takes too long or fails."""
    library = work / "models" / name / "tl2cgen.so"
    if not library.exists():
        log("compiling", name)
        start = time.monotonic()
        child = subprocess.Popen(
            [sys.executable, __file__, str(work), "--compile", name], stdout=sys.stderr, start_new_session=True)
        try:
            code = child.wait(COMPILE_LIMIT)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            log(name, "tl2cgen left out: gcc -O3 took more than", COMPILE_LIMIT, "s")
            return None
        if code != 0:
            log(name, "tl2cgen left out: compiling failed")
            return None
        log(name, "compiled in %.0f s" % (time.monotonic() - start))
    return library


C_LOOP = """
/* WORD is double or float, the type of the compiled model's values and sums. */
#include <string.h>
#include <time.h>
union Entry { int missing; WORD fvalue; int qvalue; };
typedef void (*predict)(union Entry *, int, WORD *);
/* Runs the model on each row once; times[i] is the nanoseconds of row i. */
void run(predict f, union Entry *rows, long count, long width, WORD *out, long classes, double *times) {
    struct timespec a, b;
    for (long i = 0; i < count; i++) {
        clock_gettime(CLOCK_MONOTONIC, &a);
        memset(out + i * classes, 0, classes * sizeof(WORD));
        f(rows + i * width, 0, out + i * classes);
        clock_gettime(CLOCK_MONOTONIC, &b);
        times[i] = (b.tv_sec - a.tv_sec) * 1e9 + (b.tv_nsec - a.tv_nsec);
    }
}
"""


def c_loop(work, library, rows, outputs, dtype="float64"):
    """The compiled function's answers, and its per-row percentiles when called from C."""
    loop = work / f"loop-{dtype}.so"
    if not loop.exists():
        (work / "loop.c").write_text(C_LOOP)
        word = "-DWORD=" + {"float64": "double", "float32": "float"}[dtype]
        subprocess.run(["gcc", "-O2", "-shared", "-fPIC", word, "-o", loop, work / "loop.c"], check=True)
    rows = np.ascontiguousarray(rows, dtype=dtype)
    run, function = ctypes.CDLL(str(loop)).run, ctypes.CDLL(str(library)).predict
    out, times, passes = np.zeros((len(rows), outputs), dtype=dtype), np.zeros(len(rows)), []
    pointer = lambda array: array.ctypes.data_as(ctypes.c_void_p)
    end = time.monotonic() + BUDGET
    while time.monotonic() < end or len(passes) < 3:
        run(function, pointer(rows), ctypes.c_long(len(rows)), ctypes.c_long(rows.shape[1]),
            pointer(out), ctypes.c_long(outputs), pointer(times))
        passes.append(times.copy())
    return out, [float(v) for v in np.percentile(passes[1:], [50, 10, 90])]


def booster_onnx(file, features):
    """The booster as a graph; None where the converter does not take it."""
    from onnxmltools.convert import convert_lightgbm, convert_xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType
    types = [("X", FloatTensorType([None, features]))]
    if file.suffix == ".json":
        import xgboost
        model = xgboost.XGBClassifier()
        model.load_model(file)
        return convert_xgboost(model, initial_types=types, target_opset=15)
    import lightgbm
    return convert_lightgbm(lightgbm.Booster(model_file=file), initial_types=types, target_opset=15, zipmap=False)


def booster_calls(file, rows, is_compiled):
    """For each peer a function of a table, and the tables: all rows, then row by row."""
    singles = [rows[i:i + 1] for i in range(ROWS)]
    if file.suffix == ".json":
        import xgboost
        booster = xgboost.Booster({"nthread": 1}, model_file=file)
        single = np.ascontiguousarray(rows, dtype=np.float32)
        yield "XGBoost", booster.inplace_predict, single, [single[i:i + 1] for i in range(ROWS)]
    else:
        import lightgbm
        booster = lightgbm.Booster(model_file=file)
        yield "LightGBM", lambda x: booster.predict(x, num_threads=1), rows, singles
        if is_compiled:
            import lleaves
            llvm = lleaves.Model(model_file=file)
            log("compiling for lleaves")
            llvm.compile(cache=file.parent / "lleaves.so")
            yield "lleaves", lambda x: llvm.predict(x, n_jobs=1), rows, singles
    import treelite
    interpreted = treelite_model(file.parent)
    dtype = np.float32 if file.suffix == ".json" else np.float64
    given = np.ascontiguousarray(rows, dtype=dtype)
    yield ("treelite GTIL", lambda x: treelite.gtil.predict(interpreted, x, nthread=1), given,
           [given[i:i + 1] for i in range(ROWS)])
    try:
        import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(booster_onnx(file, rows.shape[1]).SerializeToString(), options)
    except Exception as error:
        log(file.parent.name, "onnxruntime left out:", repr(error)[:300])
    else:
        given = np.ascontiguousarray(rows, dtype=np.float32)
        wanted = [session.get_outputs()[1].name]
        yield ("onnxruntime", lambda x: session.run(wanted, {session.get_inputs()[0].name: x})[0], given,
               [given[i:i + 1] for i in range(ROWS)])


def measure_booster(work, make, is_compiled, add):
    """Times every peer that takes the booster; their answers are compared with the library's own."""
    name, (file, rows) = make.__name__, prepared_booster(work, make)
    expected = None
    for peer, call, table, singles in booster_calls(file, rows, is_compiled):
        answer = both(np.asarray(call(table)))
        expected = answer if expected is None else expected
        log(name, peer, "differs from the library by at most", np.abs(answer - expected).max())
        add(name, peer, 1, measure(call, singles, 1))
        add(name, peer, ROWS, measure(call, [table], ROWS))
    library = compiled(work, name) if is_compiled else None
    if library is not None:
        import tl2cgen
        predictor = tl2cgen.Predictor(library, nthread=1)
        dtype = "float32" if file.suffix == ".json" else "float64"
        matrix = lambda x: tl2cgen.DMatrix(np.ascontiguousarray(x, dtype=dtype), dtype=dtype)
        answer = both(np.asarray(predictor.predict(matrix(rows))))
        log(name, "tl2cgen differs from the library by at most", np.abs(answer - expected).max())
        add(name, "tl2cgen", 1, measure(predictor.predict, [matrix(rows[i:i + 1]) for i in range(ROWS)], 1))
        add(name, "tl2cgen", ROWS, measure(predictor.predict, [matrix(rows)], ROWS))
        answer, numbers = c_loop(work, library, rows, 1, dtype)
        log(name, "tl2cgen C loop differs from the library by at most", np.abs(both(answer) - expected).max())
        add(name, "tl2cgen C loop", 1, numbers)


def both(probability):
    """Probabilities of both classes, from a column of the second's where that is what there is."""
    probability = np.asarray(probability).reshape(len(probability), -1)
    return np.hstack([1 - probability, probability]) if probability.shape[1] == 1 else probability


def main(work):
    results = []

    def add(name, peer, rows, numbers):
        keys = ["ns_per_row_median", "ns_per_row_p10", "ns_per_row_p90"]
        results.append({"model": name, "peer": peer, "rows": rows, **dict(zip(keys, (round(v, 1) for v in numbers)))})
        log("%-20s %-16s %5d rows %12.1f ns/row" % (name, peer, rows, numbers[0]))

    for make in MODELS:
        name = make.__name__
        model, rows = prepared(work, make)
        if hasattr(model, "n_jobs"):
            model.n_jobs = None if name == "scaler_logistic" else 1
        expected = model.predict_proba(rows)
        singles = [rows[i:i + 1] for i in range(ROWS)]
        add(name, "scikit-learn", 1, measure(model.predict_proba, singles, 1))
        add(name, "scikit-learn", ROWS, measure(model.predict_proba, [rows], ROWS))

        try:
            call = onnx_peer(work, name, model, rows)
        except Exception as error:
            log(name, "onnxruntime left out:", repr(error)[:300])
        else:
            given = np.ascontiguousarray(rows, dtype=np.float32)
            log(name, "onnxruntime differs from scikit-learn by at most", np.abs(call(given) - expected).max())
            add(name, "onnxruntime", 1, measure(call, [given[i:i + 1] for i in range(ROWS)], 1))
            add(name, "onnxruntime", ROWS, measure(call, [given], ROWS))

        library = compiled(work, name) if name in COMPILED else None
        if library is not None:
            import tl2cgen
            predictor = tl2cgen.Predictor(library, nthread=1)
            matrix = lambda x: tl2cgen.DMatrix(x, dtype="float64")
            answer = np.asarray(predictor.predict(matrix(rows)))
            outputs = answer.size // ROWS
            answer = both(answer)
            log(name, "tl2cgen differs from scikit-learn by at most", np.abs(answer - expected).max())
            add(name, "tl2cgen", 1, measure(predictor.predict, [matrix(x) for x in singles], 1))
            add(name, "tl2cgen", ROWS, measure(predictor.predict, [matrix(rows)], ROWS))
            answer, numbers = c_loop(work, library, rows, outputs)
            log(name, "tl2cgen C loop differs from scikit-learn by at most", np.abs(both(answer) - expected).max())
            add(name, "tl2cgen C loop", 1, numbers)

    for make, is_compiled in BOOSTERS:
        measure_booster(work, make, is_compiled, add)

    document = {
        "machine": machine(),
        "versions": {"python": platform.python_version(), **{p: version(p) for p in [
            "scikit-learn", "numpy", "onnxruntime", "skl2onnx", "onnxmltools", "onnx", "xgboost", "lightgbm", "treelite", "tl2cgen", "lleaves"]},
            "gcc": gcc_version()},
        "results": results}
    print(json.dumps(document, indent=1))


def machine():
    """The processor, the number of cores and the system, in one line."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    return "%s, %d cores, %s" % (name, os.cpu_count(), platform.system())


def gcc_version():
    try:
        return subprocess.run(["gcc", "-dumpfullversion"], capture_output=True, text=True).stdout.strip() or None
    except OSError:
        return None


if __name__ == "__main__":
    if "--compile" in sys.argv:
        compile_model(Path(sys.argv[1]), sys.argv[3])
    else:
        main(Path(sys.argv[1]).resolve())
