"""ONNX Runtime in Python, on graphs that are served beside it.

Usage: bench.py build DIRECTORY        writes the graphs, and prints where the library is
       bench.py run GRAPH.onnx SECONDS prints what `session.run` takes, and what a loop of it does on all cores
       bench.py texts DIRECTORY SECONDS prints what a loop of tokenising, `session.run` and pooling does on all cores
"""

import concurrent.futures
import glob
import importlib.util
import json
import os
import pathlib
import sys
import time

import numpy as np

RANDOM = np.random.default_rng(5)
TOKENS, WIDTH, HEADS, LAYERS, VOCABULARY = 32, 384, 12, 6, 4096


class Graph:
    """A graph under construction."""

    def __init__(self):
        self.nodes, self.weights = [], []

    def weight(self, *shape):
        from onnx import numpy_helper

        name = f"w{len(self.weights)}"
        values = RANDOM.standard_normal(shape) / np.sqrt(shape[0])
        self.weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def constant(self, values):
        from onnx import numpy_helper

        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.array(values), name))
        return name

    def add(self, kind, *inputs, **attributes):
        from onnx import helper

        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def dense(self, x, n_in, n_out):
        return self.add("Add", self.add("MatMul", x, self.weight(n_in, n_out)), self.weight(n_out))

    def save(self, path, inputs, output, shape):
        from onnx import TensorProto, checker, helper, save

        self.nodes[-1].output[0] = output
        kinds = {np.float32: TensorProto.FLOAT, np.int64: TensorProto.INT64}
        inputs = [helper.make_tensor_value_info(name, kinds[kind], sizes) for name, kind, sizes in inputs]
        outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)]
        graph = helper.make_graph(self.nodes, "bench", inputs, outputs, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
        checker.check_model(model)
        path.parent.mkdir(parents=True, exist_ok=True)
        save(model, path)


def perceptron(path):
    graph = Graph()
    x = graph.add("Gelu", graph.dense("x", 16, 64))
    x = graph.add("LayerNormalization", x, graph.weight(64), axis=-1)
    graph.add("Softmax", graph.dense(x, 64, 3), axis=-1)
    graph.save(path, [("x", np.float32, ["batch", 16])], "y", ["batch", 3])


def classifier(path):
    """A perceptron of the size that digits of 28 x 28 are told apart with: 670,000 weights."""
    graph = Graph()
    x = graph.add("Relu", graph.dense("x", 784, 512))
    x = graph.add("Relu", graph.dense(x, 512, 512))
    graph.add("Softmax", graph.dense(x, 512, 10), axis=-1)
    graph.save(path, [("x", np.float32, ["batch", 784])], "y", ["batch", 10])


def convolution(path):
    graph, x, channels = Graph(), "image", 3
    for more in (16, 32, 64):
        x = graph.add("Conv", x, graph.weight(more, channels, 3, 3), pads=[1, 1, 1, 1], strides=[2, 2])
        x, channels = graph.add("Relu", x), more
    x = graph.add("Flatten", graph.add("GlobalAveragePool", x))
    graph.dense(x, channels, 10)
    graph.save(path, [("image", np.float32, ["batch", 3, 64, 64])], "y", ["batch", 10])


def encoder(path):
    """A sentence encoder of the size of MiniLM-L6: its arithmetic, with weights made up."""
    graph = Graph()
    split = graph.constant(np.array([0, 0, HEADS, WIDTH // HEADS], np.int64))
    joined = graph.constant(np.array([0, 0, WIDTH], np.int64))
    scale = graph.constant(np.float32(1 / np.sqrt(WIDTH // HEADS)))
    x = graph.add("Gather", graph.weight(VOCABULARY, WIDTH), "ids")
    for _ in range(LAYERS):
        heads = lambda turn: graph.add("Transpose", graph.add("Reshape", graph.dense(x, WIDTH, WIDTH), split), perm=turn)
        query, key, value = heads([0, 2, 1, 3]), heads([0, 2, 3, 1]), heads([0, 2, 1, 3])
        scores = graph.add("Softmax", graph.add("Mul", graph.add("MatMul", query, key), scale), axis=-1)
        seen = graph.add("Transpose", graph.add("MatMul", scores, value), perm=[0, 2, 1, 3])
        seen = graph.dense(graph.add("Reshape", seen, joined), WIDTH, WIDTH)
        x = graph.add("LayerNormalization", graph.add("Add", x, seen), graph.weight(WIDTH), axis=-1)
        inner = graph.dense(graph.add("Gelu", graph.dense(x, WIDTH, 4 * WIDTH)), 4 * WIDTH, WIDTH)
        x = graph.add("LayerNormalization", graph.add("Add", x, inner), graph.weight(WIDTH), axis=-1)
    graph.add("ReduceMean", x, graph.constant(np.array([1], np.int64)), keepdims=0)
    graph.save(path, [("ids", np.int64, ["batch", "tokens"])], "y", ["batch", WIDTH])


def sentences(directory):
    """The same encoder with a mask, a tokeniser, and the files of sentence-transformers: mean, normalised. Returns a text of TOKENS tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    graph = Graph()
    split = graph.constant(np.array([0, 0, HEADS, WIDTH // HEADS], np.int64))
    joined = graph.constant(np.array([0, 0, WIDTH], np.int64))
    scale = graph.constant(np.float32(1 / np.sqrt(WIDTH // HEADS)))
    shown = graph.add("Unsqueeze", graph.add("Cast", "attention_mask", to=1), graph.constant(np.array([1, 2], np.int64)))
    hidden = graph.add("Mul", graph.add("Sub", shown, graph.constant(np.float32(1))), graph.constant(np.float32(1e4)))
    x = graph.add("Gather", graph.weight(VOCABULARY, WIDTH), "input_ids")
    for _ in range(LAYERS):
        heads = lambda turn: graph.add("Transpose", graph.add("Reshape", graph.dense(x, WIDTH, WIDTH), split), perm=turn)
        query, key, value = heads([0, 2, 1, 3]), heads([0, 2, 3, 1]), heads([0, 2, 1, 3])
        scores = graph.add("Add", graph.add("Mul", graph.add("MatMul", query, key), scale), hidden)
        seen = graph.add("Transpose", graph.add("MatMul", graph.add("Softmax", scores, axis=-1), value), perm=[0, 2, 1, 3])
        seen = graph.dense(graph.add("Reshape", seen, joined), WIDTH, WIDTH)
        x = graph.add("LayerNormalization", graph.add("Add", x, seen), graph.weight(WIDTH), axis=-1)
        inner = graph.dense(graph.add("Gelu", graph.dense(x, WIDTH, 4 * WIDTH)), 4 * WIDTH, WIDTH)
        x = graph.add("LayerNormalization", graph.add("Add", x, inner), graph.weight(WIDTH), axis=-1)
    names = [("input_ids", np.int64, ["batch", "tokens"]), ("attention_mask", np.int64, ["batch", "tokens"])]
    graph.save(directory / "model.onnx", names, "last_hidden_state", ["batch", "tokens", WIDTH])
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"] + [f"w{n}" for n in range(VOCABULARY - 4)]
    tokenizer = Tokenizer(models.WordPiece({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    tokenizer.save(str(directory / "tokenizer.json"))
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]]
    files = {"modules.json": modules, "1_Pooling/config.json": {"pooling_mode": "mean"}, "tokenizer_config.json": {"pad_token": "[PAD]", "model_max_length": 128}}
    for name, value in files.items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(json.dumps(value))
    return " ".join(f"w{n}" for n in RANDOM.integers(0, VOCABULARY - 4, TOKENS - 2))


GRAPHS = {"perceptron": perceptron, "classifier": classifier, "convolution": convolution, "encoder": encoder}


def build(directory):
    for name, write in GRAPHS.items():
        write(directory / name / "model.onnx")
    body = directory.parent / "text.json"
    body.write_text(json.dumps({"instances": [sentences(directory / "sentences")]}))
    package = importlib.util.find_spec("onnxruntime").submodule_search_locations[0]
    library = glob.glob(os.path.join(package, "capi", "libonnxruntime.so.*"))[0]
    print(json.dumps({"library": library, "graphs": list(GRAPHS), "tokens": TOKENS, "text_body": str(body)}))


def session_of(path, n_threads=None, spins=True):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if not spins:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if n_threads is not None:
        options.intra_op_num_threads = n_threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def one_row(session):
    made = {}
    for spec in session.get_inputs():
        sizes = [size if isinstance(size, int) else {"tokens": TOKENS}.get(size, 1) for size in spec.shape]
        whole = spec.type == "tensor(int64)"
        made[spec.name] = RANDOM.integers(0, 9, sizes) if whole else RANDOM.standard_normal(sizes).astype(np.float32)
    return made


def timed(session, feed, until):
    times = []
    while (started := time.perf_counter()) < until:
        session.run(None, feed)
        times.append(time.perf_counter() - started)
    return times


def run(path, seconds):
    """Alone, all threads for a call, as Python users have it and with threads that sleep while they wait, as a server's are to; then a
    thread for each core, and whichever way does more."""
    sleeping = session_of(path, spins=False)
    feed = one_row(sleeping)
    timed(sleeping, feed, time.perf_counter() + seconds / 10)
    asleep = np.array(timed(sleeping, feed, time.perf_counter() + seconds)) * 1e6
    session = session_of(path)
    timed(session, feed, time.perf_counter() + seconds / 10)
    alone = np.array(timed(session, feed, time.perf_counter() + seconds)) * 1e6
    n_cores = len(os.sched_getaffinity(0))
    per_s = [len(alone) / seconds]
    session = session_of(path, 1)
    with concurrent.futures.ThreadPoolExecutor(n_cores) as pool:
        until = time.perf_counter() + seconds
        counts = pool.map(lambda _: len(timed(session, feed, until)), range(n_cores))
        per_s.append(sum(counts) / seconds)
    times = {"p50_us": np.percentile(alone, 50), "p99_us": np.percentile(alone, 99), "asleep_p50_us": np.percentile(asleep, 50)}
    print(json.dumps({**times, "runs_per_s": max(per_s)}))


def texts(directory, seconds):
    """One text after another on a thread for each core, and on one thread with all of the runtime's; whichever does more."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    text = json.loads((directory.parent.parent / "text.json").read_text())["instances"][0]

    def embedded(session, until):
        n = 0
        while time.perf_counter() < until:
            encoded = tokenizer.encode(text)
            mask = np.array([encoded.attention_mask], np.int64)
            (hidden,) = session.run(None, {"input_ids": np.array([encoded.ids], np.int64), "attention_mask": mask})
            vector = (hidden[0] * mask[0][:, None]).sum(axis=0) / mask.sum()
            vector / np.linalg.norm(vector)
            n += 1
        return n

    n_cores = len(os.sched_getaffinity(0))
    per_s = []
    for n_threads, n_runs in [(None, 1), (1, n_cores)]:
        session = session_of(directory / "model.onnx", n_threads)
        embedded(session, time.perf_counter() + seconds / 10)
        with concurrent.futures.ThreadPoolExecutor(n_runs) as pool:
            until = time.perf_counter() + seconds
            per_s.append(sum(pool.map(lambda _: embedded(session, until), range(n_runs))) / seconds)
    print(json.dumps({"texts_per_s": max(per_s)}))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["build", directory]:
            build(pathlib.Path(directory))
        case ["texts", directory, seconds]:
            texts(pathlib.Path(directory), float(seconds))
        case ["run", path, seconds]:
            run(path, float(seconds))
        case _:
            sys.exit(__doc__)
