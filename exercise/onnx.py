"""Neural ONNX graphs as their user meets them: refused until the engine is there, installed by one command, then answered as
onnxruntime answers in Python.

Usage: onnx.py CORACLE_BINARY. The engine comes from the package index that pip is told; all else runs on loopback.
"""

import concurrent.futures
import http.client
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

# This file has the name of the package.
sys.path = [place for place in sys.path if pathlib.Path(place or ".").resolve() != pathlib.Path(__file__).resolve().parent]

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

RANDOM = np.random.default_rng(7)
NUMPY = {"FP16": np.float16, "FP32": np.float32, "FP64": np.float64, "INT64": np.int64, "INT32": np.int32, "INT8": np.int8, "UINT8": np.uint8, "BOOL": np.bool_, "BYTES": object}
V2 = {np.dtype(kind): name for name, kind in NUMPY.items()}


def check(holds, what, found=""):
    if not holds:
        raise SystemExit(f"FAILED: {what}: {found}")


def say(text):
    print(text, flush=True)


def weights(name, *shape):
    return numpy_helper.from_array((RANDOM.standard_normal(shape) * 0.3).astype(np.float32), name)


def reals(name, shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def node(kind, inputs, outputs, **attributes):
    return helper.make_node(kind, inputs.split(",") if inputs else [], outputs.split(","), **attributes)


def save(directory, name, nodes, inputs, outputs, constants=(), external=False):
    graph = helper.make_graph(nodes, name, inputs, outputs, list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9, producer_name="exercise")
    onnx.checker.check_model(model)
    (directory / name).mkdir(parents=True)
    data = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0} if external else {}
    onnx.save(model, directory / name / "model.onnx", **data)


def build(models):
    """Writes graphs that our own kernels refuse; returns inputs for each, of several sizes."""
    rows = lambda *shape: RANDOM.standard_normal(shape).astype(np.float32)
    layers = [
        node("Gemm", "x,w1,b1", "h"),
        node("LayerNormalization", "h,scale", "n"),
        node("Gelu", "n", "a"),
        node("Gemm", "a,w2,b2", "logits"),
        node("Softmax", "logits", "p", axis=-1),
        node("ArgMax", "p", "which", axis=1, keepdims=0),
    ]
    constants = [weights("w1", 4, 16), weights("b1", 16), weights("scale", 16), weights("w2", 16, 3), weights("b2", 3)]
    outputs = [reals("p", ["batch", 3]), helper.make_tensor_value_info("which", TensorProto.INT64, ["batch"])]
    save(models, "mlp", layers, [reals("x", ["batch", 4])], outputs, constants)
    save(models, "external", layers, [reals("x", ["batch", 4])], outputs, constants, external=True)
    save(
        models,
        "conv",
        [node("Conv", "image,k,b", "c", pads=[1, 1, 1, 1]), node("Relu", "c", "r"), node("GlobalAveragePool", "r", "g"), node("Flatten", "g", "y")],
        [reals("image", ["batch", 3, "height", "width"])],
        [reals("y", ["batch", 8])],
        [weights("k", 8, 3, 3, 3), weights("b", 8)],
    )
    save(
        models,
        "stateful",
        [helper.make_node("GRU", ["xs", "W", "R", "", "", "state"], ["ys", "next"], hidden_size=5)],
        [reals("xs", ["steps", "batch", 3]), reals("state", [1, "batch", 5])],
        [reals("ys", ["steps", 1, "batch", 5]), reals("next", [1, "batch", 5])],
        [weights("W", 1, 15, 3), weights("R", 1, 15, 5)],
    )
    save(
        models,
        "fixed",
        [node("Conv", "x,k", "c", kernel_shape=[3]), node("GlobalMaxPool", "c", "y")],
        [reals("x", [2, 1, 10])],
        [reals("y", [2, 4, 1])],
        [weights("k", 4, 1, 3)],
    )
    texts = [helper.make_tensor_value_info(name, TensorProto.STRING, ["batch"]) for name in ("left", "right", "both")]
    save(models, "strings", [node("StringConcat", "left,right", "both")], texts[:2], texts[2:])
    # The sum over all rows: rows must not share a run with those of others.
    save(
        models,
        "mixing",
        [node("ReduceSum", "x,axes", "s", keepdims=1), node("Gelu", "s", "g"), node("Sub", "x,g", "y")],
        [reals("x", ["batch", 2])],
        [reals("y", ["batch", 2])],
        [numpy_helper.from_array(np.array([0], np.int64), "axes")],
    )
    # The range of all rows: the same, though no row is added to another.
    save(
        models,
        "quantized",
        [
            node("DynamicQuantizeLinear", "x", "q,s,z"),
            node("MatMulInteger", "q,w,z", "i"),
            node("Cast", "i", "f", to=TensorProto.FLOAT),
            node("Mul", "f,s", "y"),
        ],
        [reals("x", ["batch", 32])],
        [reals("y", ["batch", 3])],
        [numpy_helper.from_array(RANDOM.integers(-127, 128, (32, 3), np.int8), "w")],
    )
    # Ends after as many steps as it is asked for.
    step = helper.make_graph(
        [node("Identity", "going", "on"), node("Gelu", "v", "w")],
        "step",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []), helper.make_tensor_value_info("going", TensorProto.BOOL, []), reals("v", ["n", 2])],
        [helper.make_tensor_value_info("on", TensorProto.BOOL, []), reals("w", ["n", 2])],
    )
    save(
        models,
        "steps",
        [node("Loop", "m,true,x", "y", body=step)],
        [reals("x", ["n", 2]), helper.make_tensor_value_info("m", TensorProto.INT64, [1])],
        [reals("y", ["n", 2])],
        [numpy_helper.from_array(np.array(True), "true")],
    )
    kinds = [TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.INT32, TensorProto.UINT8, TensorProto.BOOL, TensorProto.FLOAT]
    named = [(f"i{place}", f"o{place}", kind) for place, kind in enumerate(kinds)]
    # A node that is not among ours beside one Identity for each datatype.
    save(
        models,
        "datatypes",
        [node("Identity", i, o) for i, o, _ in named] + [node("HardSwish", "i5", "e")],
        [helper.make_tensor_value_info(i, kind, ["n", 2]) for i, _, kind in named],
        [helper.make_tensor_value_info(o, kind, ["n", 2]) for _, o, kind in named] + [reals("e", ["n", 2])],
    )
    mixed = lambda n: {
        "i0": RANDOM.standard_normal((n, 2)),
        "i1": RANDOM.standard_normal((n, 2)).astype(np.float16),
        "i2": RANDOM.integers(-9, 9, (n, 2), np.int32),
        "i3": RANDOM.integers(0, 9, (n, 2), np.uint8),
        "i4": RANDOM.integers(0, 2, (n, 2)).astype(np.bool_),
        "i5": rows(n, 2),
    }
    words = lambda *texts: np.array(texts, object)
    return {
        "mlp": [{"x": rows(n, 4)} for n in (1, 3, 64)],
        "external": [{"x": rows(2, 4)}],
        "conv": [{"image": rows(n, 3, h, w)} for n, h, w in ((1, 8, 8), (2, 5, 9))],
        "stateful": [{"xs": rows(t, b, 3), "state": rows(1, b, 5)} for t, b in ((4, 1), (2, 3))],
        "fixed": [{"x": rows(2, 1, 10)}],
        "strings": [{"left": words("ä", ""), "right": words("b", "c d")}],
        "mixing": [{"x": rows(n, 2)} for n in (1, 4)],
        "quantized": [{"x": rows(n, 32)} for n in (1, 3)],
        "steps": [{"x": rows(2, 2), "m": np.array([n])} for n in (0, 3)],
        "datatypes": [mixed(1), mixed(3)],
    }


def compared(run, models):
    """Both engines on what both run: a graph of operators that our own kernels have, whose numbers ONNX Runtime computes in its way."""
    save(
        models,
        "both",
        [node("Gemm", "x,w,b", "h"), node("Sigmoid", "h", "p"), node("ArgMax", "p", "which", axis=1, keepdims=0)],
        [reals("x", ["batch", 6])],
        [reals("p", ["batch", 3]), helper.make_tensor_value_info("which", TensorProto.INT64, ["batch"])],
        [weights("w", 6, 3), weights("b", 3)],
    )
    shown = run("inspect", "--compare-engines", models / "both", models / "mlp")
    check(shown.returncode == 0 and "Coracle's own kernels beside ONNX Runtime" in shown.stdout, "engines are compared", shown.stdout + shown.stderr)
    check("ONNX Runtime: runs it" in shown.stdout, "where one runs it alone, that is told", shown.stdout)
    found = json.loads(run("inspect", "--compare-engines", "--json", models / "both").stdout)[0]["engines"]["outputs"]
    p, which = found
    check((p["name"], p["rows_compared"], p["rows_unlike"], p["elements"]) == ("p", 64, 0, 192), "rows are compared", found)
    check(p["absolute_max"] < 1e-6 and which["unequal"] == 0, "their answers are close", found)
    say(f"two engines on one graph: {p['absolute_max']:.1e} apart at most")


class Server:
    """The server over a directory of models."""

    def __init__(self, coracle, models, environment, *options):
        options = options or ("--batch-max-size", "8", "--batch-max-latency", "200ms")
        self.process = subprocess.Popen([coracle, "serve", models, "--port", "0", "--log-format", "json", *options], env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.lines = []
        for line in self.process.stderr:
            self.lines.append(line)
            if found := re.search(r"127\.0\.0\.1:(\d+)", line):
                self.port = int(found[1])
                return
        raise SystemExit(f"FAILED: the server did not start: {''.join(self.lines)}")

    def post(self, path, body, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("POST", path, body, headers or {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()

    def get(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()

    def json(self, path, body):
        status, _, text = self.post(path, json.dumps(body))
        return status, json.loads(text)

    def close(self):
        self.process.terminate()
        self.process.communicate(timeout=30)


def plain(array):
    return [str(item) for item in array.ravel()] if array.dtype == object else array.ravel().tolist()


def same(got, expected, where):
    check(list(got.shape) == list(expected.shape), f"{where}: the shape", f"{got.shape}, onnxruntime has {expected.shape}")
    if expected.dtype == object:
        check(got.tolist() == expected.tolist(), where, got)
    else:
        check(np.allclose(got.astype(np.float64), expected.astype(np.float64), rtol=1e-5, atol=1e-6, equal_nan=True), where, f"{got} {expected}")


def v2(server, model, inputs, expected):
    described = [{"name": name, "shape": list(array.shape), "datatype": V2[array.dtype]} for name, array in inputs.items()]
    if not any(array.dtype == np.float16 for array in inputs.values()):
        body = {"inputs": [{**head, "data": plain(array)} for head, array in zip(described, inputs.values())]}
        status, answer = server.json(f"/v2/models/{model}/infer", body)
        check(status == 200, f"{model}: V2 answers", answer)
        for output in answer["outputs"]:
            found = np.array(output["data"], NUMPY[output["datatype"]]).reshape(output["shape"])
            same(found, expected[output["name"]], f"{model}: V2 JSON, {output['name']}")
        check({output["name"] for output in answer["outputs"]} == set(expected), f"{model}: all outputs come", answer)
        # One output alone, by name.
        last = list(expected)[-1]
        status, answer = server.json(f"/v2/models/{model}/infer", {**body, "outputs": [{"name": last}]})
        check(status == 200 and [output["name"] for output in answer["outputs"]] == [last], f"{model}: one output", answer)
    if any(array.dtype == object for array in inputs.values()):
        return
    parts = [array.tobytes() for array in inputs.values()]
    heads = [{**head, "parameters": {"binary_data_size": len(part)}} for head, part in zip(described, parts)]
    head = json.dumps({"inputs": heads, "parameters": {"binary_data_output": True}}).encode()
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    status, headers, body = server.post(f"/v2/models/{model}/infer", head + b"".join(parts), headers)
    check(status == 200, f"{model}: V2 binary answers", body[:500])
    length = int(headers["Inference-Header-Content-Length"])
    answer, rest = json.loads(body[:length]), body[length:]
    for output in answer["outputs"]:
        size = output["parameters"]["binary_data_size"]
        found = np.frombuffer(rest[:size], NUMPY[output["datatype"]]).reshape(output["shape"])
        rest = rest[size:]
        same(found, expected[output["name"]], f"{model}: V2 binary, {output['name']}")


def grpc(port, model, inputs, expected):
    import tritonclient.grpc as triton

    with triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
        tensors = []
        for name, array in inputs.items():
            tensor = triton.InferInput(name, list(array.shape), V2[array.dtype])
            tensor.set_data_from_numpy(np.array([item.encode() for item in array], object) if array.dtype == object else array)
            tensors.append(tensor)
        answer = client.infer(model, tensors)
        for name, wanted in expected.items():
            found = answer.as_numpy(name)
            found = np.array([item.decode() for item in found], object) if wanted.dtype == object else found
            same(found, wanted, f"{model}: gRPC, {name}")


def served(server, models, cases):
    for model, inputs_of in cases.items():
        session = onnxruntime.InferenceSession(models / model / "model.onnx", providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        for inputs in inputs_of:
            expected = dict(zip(names, session.run(names, inputs)))
            v2(server, model, inputs, expected)
            grpc(server.port, model, inputs, expected)
    say(f"V2 as JSON, in binary and over gRPC: {len(cases)} graphs answer as onnxruntime does")


def v1(server, models, cases):
    ask = lambda model, body: server.json(f"/v1/models/{model}:predict", body)
    answers = lambda model, inputs: onnxruntime.InferenceSession(models / model / "model.onnx").run(None, inputs)
    image = cases["conv"][1]["image"]
    status, answer = ask("conv", {"instances": image.tolist()})
    check(status == 200, "conv: V1 answers", answer)
    same(np.array(answer["predictions"], np.float32), answers("conv", {"image": image})[0], "conv: V1 rows")
    x = cases["mlp"][1]["x"]
    status, answer = ask("mlp", {"instances": x.tolist()})
    check(status == 200, "mlp: V1 answers", answer)
    p, which = answers("mlp", {"x": x})
    same(np.array([row["p"] for row in answer["predictions"]], np.float32), p, "mlp: V1, two outputs")
    check([row["which"] for row in answer["predictions"]] == which.tolist(), "mlp: V1, the label", answer)
    words = cases["strings"][0]
    status, answer = ask("strings", {"instances": [{"left": left, "right": right} for left, right in zip(words["left"], words["right"])]})
    check(status == 200 and answer["predictions"] == answers("strings", words)[0].tolist(), "strings: V1 rows of named inputs", answer)
    say("V1: rows of one input, of named inputs, and several outputs")


def together(server, models):
    """Many callers at once, whose rows are put together where that changes no answer."""
    metric = lambda text, name, model: sum(int(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(f"{name}{{") and f'"{model}"' in line)
    for model, width, is_batched in (("mlp", 4, True), ("mixing", 2, False), ("quantized", 32, False)):
        session = onnxruntime.InferenceSession(models / model / "model.onnx")
        row = lambda number: np.full((1, width), number / 7 - 2, np.float32)

        def ask(number):
            x = row(number)
            return server.json(f"/v2/models/{model}/infer", {"inputs": [{"name": "x", "shape": [1, width], "datatype": "FP32", "data": plain(x)}]})

        _, _, before = server.get("/metrics")
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            for number, (status, answer) in enumerate(pool.map(ask, range(64))):
                check(status == 200, f"{model}: one of many callers is answered", answer)
                found = np.array(answer["outputs"][0]["data"], np.float32).reshape(answer["outputs"][0]["shape"])
                same(found, session.run(None, {"x": row(number)})[0], f"{model}: one of many callers gets its own answer")
        _, _, after = server.get("/metrics")
        calls, runs = (metric(after, name, model) - metric(before, name, model) for name in ("coracle_model_calls_total", "coracle_model_runs_total"))
        check(calls == 64 and (runs < calls) == is_batched, f"{model}: rows share runs where they may", f"{calls} calls, {runs} runs")
    say("batching: rows of several callers share a run of a graph whose rows are independent, and of no other")


def refusals(server):
    for model, inputs, part in (
        ("mlp", [{"name": "x", "shape": [1, 5], "datatype": "FP32", "data": [0] * 5}], "[-1, 4]"),
        ("fixed", [{"name": "x", "shape": [1, 1, 10], "datatype": "FP32", "data": [0] * 10}], "[2, 1, 10]"),
        ("conv", [{"name": "image", "shape": [1, 3], "datatype": "FP32", "data": [0] * 3}], "[-1, 3, -1, -1]"),
        ("mlp", [{"name": "x", "shape": [1, 4], "datatype": "BYTES", "data": ["a"] * 4}], "FP32"),
    ):
        status, answer = server.json(f"/v2/models/{model}/infer", {"inputs": inputs})
        check(status == 400 and part in answer["error"], f"{model}: a bad input is the caller's error", f"{status} {answer}")
    say("bad shapes and datatypes are answered with 400 that names what is wanted")


def left_alone(server, body):
    """Callers that leave take their runs along, which would go on for ten minutes each."""
    import tritonclient.grpc as triton

    client = triton.InferenceServerClient(f"127.0.0.1:{server.port}")
    tensors = [triton.InferInput("x", [1, 2], "FP32"), triton.InferInput("m", [1], "INT64")]
    tensors[0].set_data_from_numpy(np.array([[1, 2]], np.float32))
    tensors[1].set_data_from_numpy(np.array([2**60], np.int64))
    count = os.cpu_count()
    calls = [client.async_infer("steps", tensors, callback=lambda result, error: None, timeout=600_000_000) for _ in range(count)]

    def waits_until(is_busy, what):
        """Looks at the server's processor time, a second at a time."""
        ticks = lambda: sum(int(field) for field in pathlib.Path(f"/proc/{server.process.pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13])
        for _ in range(20):
            before = ticks()
            time.sleep(1)
            if (ticks() - before > 5) == is_busy:
                return
        check(False, what)

    waits_until(True, "runs without end keep a processor busy")
    for call in calls:
        call.cancel()
    waits_until(False, "runs that nobody waits for end long before their time")
    status, answer = server.json("/v2/models/steps/infer", {"inputs": [body["inputs"][0], {**body["inputs"][1], "data": [3]}]})
    check(status == 200, "the graph runs on", f"{status} {answer}")


def bounded(server, models, cases):
    """What one graph does to the others: nothing."""
    body = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}, {"name": "m", "shape": [1], "datatype": "INT64", "data": [2**60]}]}
    # In microseconds; more calls than threads.
    endless = {**body, "parameters": {"timeout": 3_000_000}}
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(server.json, "/v2/models/steps/infer", endless) for _ in range(4)]
        alive = [server.get("/v2/health/live")[0] for _ in range(8)]
        are_pending = not any(call.done() for call in asked)
        answers = [call.result() for call in asked]
    check(alive == [200] * 8 and are_pending, "the server is alive while graphs run without end", alive)
    # Those whose turn never came are told so at once, or when their time was over.
    check({status for status, _ in answers} <= {429, 504} and any(status == 504 for status, _ in answers), "they end when their time is over", answers)
    served(server, models, {"steps": cases["steps"]})
    left_alone(server, body)
    # A file that is cut while its graph is served changes nothing.
    expected = onnxruntime.InferenceSession(models / "external" / "model.onnx").run(None, cases["external"][0])
    os.truncate(models / "external" / "weights.bin", 16)
    v2(server, "external", cases["external"][0], dict(zip(("p", "which"), expected)))
    check(server.process.poll() is None, "the process lives", server.process.poll())
    say("graphs without end are ended in time and when their callers leave, and weights are what was read")


def tried(coracle, models, environment, directory):
    """Untrusted graphs are loaded in a child process first: one that asks for all memory there is costs that child alone."""
    given = directory / "tried"
    shutil.copytree(models / "mlp", given / "mlp")
    server = Server(coracle, given, environment, "--trial-load", "--trial-load-memory", "2GiB", "--model-control", "explicit")
    try:
        check(any("mlp: the trial load went well" in line for line in server.lines), "a good graph passes its trial", server.lines)
        # Four gigabytes for each number that comes in, and then one for the answer.
        nodes = [
            node("Shape", "x", "n"),
            node("Mul", "n,billion", "size"),
            node("Expand", "one,size", "large"),
            node("ReduceSum", "large", "sum", keepdims=0),
            node("LayerNormalization", "x,one", "normal"),
            node("Add", "normal,sum", "y"),
        ]
        constants = [numpy_helper.from_array(np.array([1 << 30], np.int64), "billion"), numpy_helper.from_array(np.ones(1, np.float32), "one")]
        save(given, "bomb", nodes, [reals("x", [1])], [reals("y", [1])], constants)
        status, _, answer = server.post("/v2/repository/models/bomb/load", "{}")
        answer = answer.decode()
        parts = ("trial load: ", "Failed to allocate memory", "4294967296", "it may take 2.0 GiB in a child process")
        check(status >= 400 and all(part in answer for part in parts), "the refusal says what happened", f"{status} {answer}")
        check(server.get("/v2/models/bomb/ready")[0] != 200, "what was refused is not ready")
        status, answer = server.json("/v2/models/mlp/infer", {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [0] * 4}]})
        check(status == 200 and server.process.poll() is None, "the server goes on", f"{status} {answer}")
    finally:
        server.close()
    say("a graph that asks for more memory than a trial load may take is refused, and the server goes on")


def main():
    coracle = sys.argv[1]
    with tempfile.TemporaryDirectory(prefix="coracle-onnx-") as directory:
        directory = pathlib.Path(directory)
        models, home = directory / "models", directory / "home"
        home.mkdir()
        cases = build(models)
        # What pip is told is in the home directory, too; the server gets one of its own.
        environment = {**os.environ, "HOME": str(home), "LD_LIBRARY_PATH": ""}
        environment.pop("ORT_DYLIB_PATH", None)
        run = lambda *arguments, **more: subprocess.run([coracle, *arguments], capture_output=True, text=True, env=environment, **more)
        missing = run("inspect", models / "conv")
        hint = "run: coracle engine install onnxruntime"
        check(missing.returncode != 0 and "Conv" in missing.stderr and hint in missing.stderr, "without the engine, the refusal says what to do", missing.stderr)
        to = home / ".coracle/engines"
        installed = subprocess.run([coracle, "engine", "install", "onnxruntime", "--to", to], capture_output=True, text=True)
        check(installed.returncode == 0, "the engine installs", installed.stderr)
        check([file.name for file in to.iterdir()] == ["libonnxruntime.so"], "one file is installed", list(to.iterdir()))
        listed = run("engine", "list")
        check("onnxruntime 1.32.0" in listed.stdout and "providers   cpu\n" in listed.stdout, "the engine is listed", listed.stdout)
        described = run("inspect", models / "conv")
        check("engine ONNX Runtime 1.32.0" in described.stdout and "operator 'Conv'" in described.stdout, "inspect says which engine, and why", described.stdout + described.stderr)
        say("the engine is installed by one command; before, the refusal names it")
        # Libraries that are none, or not whole: an error that says so, and nothing worse.
        whole = (to / "libonnxruntime.so").read_bytes()
        for bytes_kept, part in ((0, "no shared library"), (100, "cut short"), (len(whole) // 2, "cut short"), (len(whole) - (1 << 20), "cut short")):
            (directory / "cut.so").write_bytes(whole[:bytes_kept])
            refused = run("inspect", models / "conv", "--onnxruntime", directory / "cut.so", timeout=60)
            check(refused.returncode == 1 and part in refused.stderr and hint in refused.stderr, "a library that was cut is refused", f"{refused.returncode} {refused.stderr}")
        other = next(pathlib.Path(onnxruntime.__file__).parent.glob("capi/onnxruntime_pybind11_state*.so")).parent / "libonnxruntime_providers_shared.so"
        for path in (other, directory, directory / "none.so"):
            refused = run("inspect", models / "conv", "--onnxruntime", path, timeout=60)
            check(refused.returncode == 1 and "cannot be used" in refused.stderr, "a file that is no such library is refused", f"{refused.returncode} {refused.stderr}")
        say("libraries that are cut short or something else are refused")
        compared(run, models)
        server = Server(coracle, models, environment)
        try:
            served(server, models, cases)
            v1(server, models, cases)
            refusals(server)
            together(server, models)
            bounded(server, models, cases)
        finally:
            server.close()
        tried(coracle, models, environment, directory)
    print("onnx is done")


if __name__ == "__main__":
    main()
