"""Times predict_proba of scikit-learn, ONNX Runtime and tl2cgen on one thread.

    OMP_NUM_THREADS=1 python kernels.py WORKDIR

Puts the models into WORKDIR/models/<model>/ (model.joblib, and rows.npy: 1,000 rows,
float64, C order; in <model>_onnx/ the graph that ONNX Runtime runs, and the same rows in float32) unless they are there: the iris forest from examples/iris, the others
trained here. Prints one JSON document on stdout; everything else goes to stderr. Times are
nanoseconds per row over calls with one row (a different row each call) and with all 1,000.

Each call is made from Python, as users of these libraries make it, so one-row times include
the library's Python layer. Inputs are prepared outside the timed call: float64 rows for
scikit-learn, float32 rows for ONNX Runtime, a DMatrix for tl2cgen. "tl2cgen C loop" calls
the same compiled function on one row at a time from C, with no Python and no DMatrix.

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


def synthetic(rows):
    """30 features, 12 of them informative, 10 % of the labels wrong; and 1,000 rows aside."""
    x, y = make_classification(rows + ROWS, 30, n_informative=12, flip_y=0.1, random_state=0)
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


def compile_model(work, name):
    """In a process of its own: model.joblib to a shared library by tl2cgen and gcc -O3."""
    import tl2cgen
    import treelite
    folder = work / "models" / name
    model = treelite.sklearn.import_model(joblib.load(folder / "model.joblib"))
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
#include <string.h>
#include <time.h>
union Entry { int missing; double fvalue; int qvalue; };
typedef void (*predict)(union Entry *, int, double *);
/* Runs the model on each row once; times[i] is the nanoseconds of row i. */
void run(predict f, union Entry *rows, long count, long width, double *out, long classes, double *times) {
    struct timespec a, b;
    for (long i = 0; i < count; i++) {
        clock_gettime(CLOCK_MONOTONIC, &a);
        memset(out + i * classes, 0, classes * sizeof(double));
        f(rows + i * width, 0, out + i * classes);
        clock_gettime(CLOCK_MONOTONIC, &b);
        times[i] = (b.tv_sec - a.tv_sec) * 1e9 + (b.tv_nsec - a.tv_nsec);
    }
}
"""


def c_loop(work, library, rows, outputs):
    """The compiled function's answers, and its per-row percentiles when called from C."""
    loop = work / "loop.so"
    if not loop.exists():
        (work / "loop.c").write_text(C_LOOP)
        subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", loop, work / "loop.c"], check=True)
    run, function = ctypes.CDLL(str(loop)).run, ctypes.CDLL(str(library)).predict
    out, times, passes = np.zeros((len(rows), outputs)), np.zeros(len(rows)), []
    pointer = lambda array: array.ctypes.data_as(ctypes.c_void_p)
    end = time.monotonic() + BUDGET
    while time.monotonic() < end or len(passes) < 3:
        run(function, pointer(rows), ctypes.c_long(len(rows)), ctypes.c_long(rows.shape[1]),
            pointer(out), ctypes.c_long(outputs), pointer(times))
        passes.append(times.copy())
    return out, [float(v) for v in np.percentile(passes[1:], [50, 10, 90])]


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

    document = {
        "machine": machine(),
        "versions": {"python": platform.python_version(), **{p: version(p) for p in [
            "scikit-learn", "numpy", "onnxruntime", "skl2onnx", "onnx", "treelite", "tl2cgen"]},
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
