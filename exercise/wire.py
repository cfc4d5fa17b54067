"""The wire exercise: unmodified clients of other servers against `coracle serve`.

Usage: wire.py CORACLE_BINARY. Prints a line for every step; the first that fails ends it. Triton's and KServe's stubs cannot be
loaded in one process (both define the package `inference`), so every client runs in a process of its own.
"""

import asyncio
import os
import pathlib
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np

ROWS = np.array([[5.1, 3.5, 1.4, 0.2], [6.2, 3.4, 5.4, 2.3], [5.9, 3.0, 4.2, 1.5]])


def say(step):
    print(f"ok  {step}", flush=True)


def check(condition, step, seen=""):
    if not condition:
        raise SystemExit(f"FAILED  {step}\n  seen: {seen}")


def refused(call, error_type, step, part):
    try:
        answer = call()
    except error_type as error:
        check(part in str(error), step, error)
        return
    raise SystemExit(f"FAILED  {step}: not refused\n  seen: {answer}")


# --- the server and its models -------------------------------------------------------------------------------------


def train(directory):
    """Writes two models and what scikit-learn answers for ROWS."""
    import joblib
    from sklearn.datasets import load_iris
    from sklearn.ensemble import RandomForestClassifier

    iris = load_iris()
    labels = {"numbers": iris.target, "names": iris.target_names[iris.target]}
    expected = {}
    for name, target in labels.items():
        model = RandomForestClassifier(n_estimators=20, random_state=0).fit(iris.data, target)
        (directory / name).mkdir()
        joblib.dump(model, directory / name / "model.joblib")
        expected[f"{name}.predict"] = model.predict(ROWS)
        expected[f"{name}.predict_proba"] = model.predict_proba(ROWS)
    np.savez(directory / "expected.npz", **expected)


def train_versions(directory):
    """Writes versions of a model that differ in what they answer: two in place, a third and a broken one for later."""
    import joblib
    from sklearn.datasets import load_iris
    from sklearn.ensemble import RandomForestClassifier

    iris = load_iris()
    expected = {}
    for version in (1, 2, 3):
        model = RandomForestClassifier(n_estimators=5 * version, max_depth=2, random_state=version).fit(iris.data, iris.target)
        place = directory / ("models/iris" if version < 3 else "later") / str(version)
        place.mkdir(parents=True)
        joblib.dump(model, place / "model.joblib")
        expected[f"{version}.predict"] = model.predict(ROWS)
        expected[f"{version}.predict_proba"] = model.predict_proba(ROWS)
    (directory / "later/4").mkdir()
    (directory / "later/4/model.joblib").write_bytes(b"half a file")
    np.savez(directory / "expected.npz", **expected)


def serve(binary, directory, *more):
    arguments = [binary, "serve", directory, "--port", "0", *more]
    server = subprocess.Popen(arguments, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    for line in server.stderr:
        if "listening on http://" in line:
            return server, line.split("http://")[1].strip()
    raise SystemExit(f"FAILED  {' '.join(map(str, arguments))}: ended with {server.wait()}")


def main(binary):
    run(CLIENTS, train, lambda directory: serve(binary, directory, "--allow-shared-memory", "--model-control", "explicit"))
    rules = ["--versions", "latest:2", "--label", "stable=iris:1", "--poll", "50ms"]
    run(VERSION_CLIENTS, train_versions, lambda directory: serve(binary, directory / "models", *rules))
    say("the wire exercise is done")


def run(clients, train, serve):
    """Runs each client against a server of its own process and files that all of them share."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="coracle-wire-"))
    train(directory)
    server, address = serve(directory)
    # A server that nobody listens to must not stop at a full pipe.
    threading.Thread(target=lambda: [None for _ in server.stderr], daemon=True).start()
    try:
        for client in clients:
            command = [sys.executable, __file__, "--client", client, address, str(directory / "expected.npz")]
            done = subprocess.run(command, timeout=300)
            if done.returncode != 0:
                raise SystemExit(f"FAILED  {client}: ended with {done.returncode}")
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(directory, ignore_errors=True)
    check(server.returncode == 0, "the server ends in peace", server.returncode)


# --- tritonclient ----------------------------------------------------------------------------------------------------


def tensor(module, values, datatype, **options):
    given = module.InferInput("X", values.shape, datatype)
    given.set_data_from_numpy(values, **options)
    return given


def same(result, expected, model, step, outputs=("predict", "predict_proba")):
    for output in outputs:
        wanted, seen = expected[f"{model}.{output}"], result.as_numpy(output)
        if wanted.dtype.kind == "U":
            # JSON gives text, raw data bytes.
            seen = np.array([text if isinstance(text, str) else text.decode() for text in seen])
        check(np.array_equal(seen, wanted) or np.allclose(seen, wanted, rtol=1e-12), step, seen)


def triton_common(module, client, expected):
    from tritonclient.utils import InferenceServerException

    kind = module.__name__
    check(client.is_server_live() and client.is_server_ready() and client.is_model_ready("numbers"), f"{kind}: health")
    say(f"{kind}: health")
    json = {"as_json": True} if kind.endswith("grpc") else {}
    metadata = client.get_model_metadata("numbers", **json)
    check(metadata["inputs"][0]["name"] == "X" and metadata["inputs"][0]["datatype"] == "FP64", f"{kind}: metadata", metadata)
    check([int(size) for size in metadata["inputs"][0]["shape"]] == [-1, 4], f"{kind}: metadata", metadata)
    check("binary_tensor_data" in client.get_server_metadata(**json)["extensions"], f"{kind}: server metadata")
    config = client.get_model_config("numbers", **json)
    config = config.get("config", config)
    check(config["max_batch_size"] > 0 and config["input"][0]["data_type"] == "TYPE_FP64", f"{kind}: config", config)
    index = client.get_model_repository_index(**json)
    index = index["models"] if isinstance(index, dict) else index
    check([entry["name"] for entry in index] == ["names", "numbers"], f"{kind}: index", index)
    say(f"{kind}: metadata, configuration, index")

    asked = [module.InferRequestedOutput(name) for name in ("predict", "predict_proba")]
    for model in ("numbers", "names"):
        for datatype in (np.float64, np.float32):
            name = "FP64" if datatype == np.float64 else "FP32"
            result = client.infer(model, [tensor(module, ROWS.astype(datatype), name)], outputs=asked, request_id="7")
            same(result, expected, model, f"{kind}: infer {model} {name}")
            check(result.get_response(**json)["id"] == "7", f"{kind}: the id comes back")
    say(f"{kind}: infer with numbers and strings")
    halves = ROWS.astype(np.float16)
    client.infer("numbers", [tensor(module, halves, "FP16")])
    refused(lambda: client.infer("nope", [tensor(module, ROWS, "FP64")]), InferenceServerException, f"{kind}: unknown model", "nope")
    wide = np.zeros((1, 5))
    refused(lambda: client.infer("numbers", [tensor(module, wide, "FP64")]), InferenceServerException, f"{kind}: wrong width", "5")
    zzz = [module.InferRequestedOutput("zzz")]
    refused(
        lambda: client.infer("numbers", [tensor(module, ROWS, "FP64")], outputs=zzz),
        InferenceServerException,
        f"{kind}: unknown output",
        "zzz",
    )
    refused(
        lambda: client.infer("numbers", [tensor(module, ROWS, "FP64")], model_version="9"),
        InferenceServerException,
        f"{kind}: unknown version",
        "9",
    )
    say(f"{kind}: refusals")
    statistics(kind, client, json, lambda: client.infer("numbers", [tensor(module, ROWS, "FP64")]))
    model_control(kind, client, InferenceServerException)
    shared_memory(module, client, expected)


def statistics(kind, client, json, infer):
    def seen():
        (model,) = client.get_inference_statistics("numbers", **json)["model_stats"]
        success = model["inference_stats"]["success"]
        phases = ("queue", "compute_input", "compute_infer", "compute_output")
        times = sum(int(model["inference_stats"][phase].get("ns", 0)) for phase in phases)
        return int(model["inference_count"]), int(model["execution_count"]), int(success["count"]), int(success["ns"]), times

    before = seen()
    for _ in range(5):
        infer()
    grown = [after - earlier for earlier, after in zip(before, seen())]
    check(grown[:3] == [15, 5, 5], f"{kind}: statistics count rows and requests", grown)
    check(0 < grown[4] <= grown[3], f"{kind}: the phases fit in the time of the requests", grown)
    say(f"{kind}: statistics")


def model_control(kind, client, error):
    client.unload_model("names")
    check(not client.is_model_ready("names") if kind.endswith("grpc") else True, f"{kind}: unloaded")
    refused(lambda: client.get_model_metadata("names"), error, f"{kind}: an unloaded model is not there", "names")
    client.load_model("names")
    check(client.is_model_ready("names"), f"{kind}: loaded again")
    refused(lambda: client.load_model("nope"), error, f"{kind}: load of an unknown model", "nope")
    say(f"{kind}: load and unload")


def shared_memory(module, client, expected):
    import tritonclient.utils.shared_memory as shm

    kind = module.__name__
    client.unregister_system_shared_memory()
    client.unregister_cuda_shared_memory()
    name = f"coracle-wire-{os.getpid()}"
    given = shm.create_shared_memory_region("in", f"/{name}-in", ROWS.nbytes)
    taken = shm.create_shared_memory_region("out", f"/{name}-out", 3 * 3 * 8)
    try:
        shm.set_shared_memory_region(given, [ROWS])
        client.register_system_shared_memory("in", f"/{name}-in", ROWS.nbytes)
        client.register_system_shared_memory("out", f"/{name}-out", 3 * 3 * 8)
        status = client.get_system_shared_memory_status()
        check("in" in str(status) and "out" in str(status), f"{kind}: shared memory status", status)
        source = module.InferInput("X", ROWS.shape, "FP64")
        source.set_shared_memory("in", ROWS.nbytes)
        output = module.InferRequestedOutput("predict_proba")
        output.set_shared_memory("out", 3 * 3 * 8)
        client.infer("numbers", [source], outputs=[output])
        seen = shm.get_contents_as_numpy(taken, np.float64, [3, 3])
        check(np.allclose(seen, expected["numbers.predict_proba"], rtol=1e-12), f"{kind}: shared memory", seen)
        client.unregister_system_shared_memory("in")
        client.unregister_system_shared_memory()
    finally:
        shm.destroy_shared_memory_region(given)
        shm.destroy_shared_memory_region(taken)
    say(f"{kind}: system shared memory")


def triton_http(address, expected):
    import tritonclient.http as module
    import tritonclient.http.aio as aio

    client = module.InferenceServerClient(address, concurrency=4)
    triton_common(module, client, expected)
    given = tensor(module, ROWS, "FP64", binary_data=False)
    asked = [module.InferRequestedOutput(name, binary_data=False) for name in ("predict", "predict_proba")]
    same(client.infer("names", [given], outputs=asked), expected, "names", "JSON")
    say("tritonclient.http: JSON both ways")
    for algorithm in ("gzip", "deflate"):
        options = {"request_compression_algorithm": algorithm, "response_compression_algorithm": algorithm}
        same(client.infer("numbers", [tensor(module, ROWS, "FP64")], outputs=asked, **options), expected, "numbers", algorithm)
    say("tritonclient.http: compression")
    binary = [tensor(module, ROWS, "FP64")]
    pending = [client.async_infer("numbers", binary) for _ in range(8)]
    for one in pending:
        same(one.get_result(), expected, "numbers", "async", ("predict",))
    say("tritonclient.http: async")

    async def run():
        async with aio.InferenceServerClient(address) as client:
            return await asyncio.gather(*(client.infer("numbers", binary) for _ in range(8)))

    for result in asyncio.run(run()):
        same(result, expected, "numbers", "asyncio", ("predict",))
    say("tritonclient.http: asyncio")


def triton_grpc(address, expected):
    import tritonclient.grpc as module
    import tritonclient.grpc.aio as aio

    client = module.InferenceServerClient(address)
    triton_common(module, client, expected)
    given = [tensor(module, ROWS, "FP64")]
    for compression in ("gzip", "deflate"):
        result = client.infer("numbers", given, compression_algorithm=compression)
        same(result, expected, "numbers", compression, ("predict",))
    say("tritonclient.grpc: compression")
    results = queue.Queue()
    for _ in range(8):
        client.async_infer("numbers", given, lambda result, error: results.put((result, error)))
    for _ in range(8):
        result, error = results.get(timeout=20)
        check(error is None, "async", error)
        same(result, expected, "numbers", "async", ("predict",))
    say("tritonclient.grpc: async")
    client.start_stream(lambda result, error: results.put((result, error)))
    for turn in range(8):
        client.async_stream_infer("nope" if turn == 4 else "numbers", given, request_id=str(turn))
    for turn in range(8):
        result, error = results.get(timeout=20)
        if turn == 4:
            check("nope" in str(error), "a failure in a stream", error)
        else:
            check(error is None and result.get_response().id == str(turn), "a stream is answered in order", error)
            same(result, expected, "numbers", "stream", ("predict",))
    client.stop_stream()
    say("tritonclient.grpc: stream")

    async def run():
        async with aio.InferenceServerClient(address) as client:
            return await asyncio.gather(*(client.infer("numbers", given) for _ in range(8)))

    for result in asyncio.run(run()):
        same(result, expected, "numbers", "asyncio", ("predict",))
    say("tritonclient.grpc: asyncio")


# --- the kserve SDK --------------------------------------------------------------------------------------------------


def kserve_sdk(address, expected):
    from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

    def request(model, binary):
        given = InferInput("X", list(ROWS.shape), "FP64")
        given.set_data_from_numpy(ROWS, binary_data=binary)
        return InferRequest(model, [given])

    def values(response):
        seen = response.outputs[0].as_numpy()
        return [value.decode() if isinstance(value, bytes) else value for value in seen.tolist()]

    async def rest():
        client = InferenceRESTClient(RESTConfig(protocol="v2"))
        base = f"http://{address}"
        check(await client.is_server_live(base) and await client.is_server_ready(base), "kserve REST: health")
        check(await client.is_model_ready(base, "numbers"), "kserve REST: model health")
        for model in ("numbers", "names"):
            for binary in (False, True):
                response = await client.infer(base, request(model, binary), model_name=model)
                seen = values(response)
                check(seen == expected[f"{model}.predict"].tolist(), f"kserve REST: {model}, binary {binary}", seen)
        v1 = InferenceRESTClient(RESTConfig(protocol="v1"))
        seen = await v1.infer(base, {"instances": ROWS.tolist()}, model_name="numbers")
        check(seen["predictions"] == expected["numbers.predict"].tolist(), "kserve REST: V1", seen)

    async def grpc():
        client = InferenceGRPCClient(address)
        check(await client.is_server_live() and await client.is_server_ready(), "kserve gRPC: health")
        check(await client.is_model_ready("numbers"), "kserve gRPC: model health")
        for model in ("numbers", "names"):
            for binary in (False, True):
                seen = values(await client.infer(request(model, binary)))
                check(seen == expected[f"{model}.predict"].tolist(), f"kserve gRPC: {model}, binary {binary}", seen)
        await client.close()

    asyncio.run(rest())
    say("kserve SDK: REST, V1 and V2, JSON and binary")
    asyncio.run(grpc())
    say("kserve SDK: gRPC, typed and raw")
    compare_descriptors(address, "kserve.protocol.grpc.grpc_predict_v2_pb2", {"RepositoryModelLoadRequest", "RepositoryModelUnloadRequest"})
    say("kserve SDK: the reflected descriptors are those of its stubs")


# --- gRPC's own services ---------------------------------------------------------------------------------------------


def reflected(address):
    """The inference service's messages as the server describes them."""
    import grpc
    from google.protobuf import descriptor_pool
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

    database = ProtoReflectionDescriptorDatabase(grpc.insecure_channel(address))
    check("inference.GRPCInferenceService" in database.get_services(), "reflection lists the service")
    pool = descriptor_pool.DescriptorPool(database)
    return pool.FindServiceByName("inference.GRPCInferenceService")


def compare_descriptors(address, module, other_layout):
    """Every message that both have must have the same fields, except those that the two projects lay out differently."""
    import importlib

    stubs = importlib.import_module(module).DESCRIPTOR
    ours = reflected(address).file.message_types_by_name
    for name, message in stubs.message_types_by_name.items():
        if name in ours and name not in other_layout:
            compare_fields(message, ours[name], set())


def compare_fields(theirs, ours, seen):
    if theirs.full_name in seen:
        return
    seen.add(theirs.full_name)
    for field in ours.fields:
        if field.number not in theirs.fields_by_number:
            continue
        other = theirs.fields_by_number[field.number]
        same = (field.name, field.type, field.is_repeated) == (other.name, other.type, other.is_repeated)
        check(same, f"field {field.full_name}", f"{other.name} {other.type}")
        if field.message_type is not None:
            compare_fields(other.message_type, field.message_type, seen)


def grpc_services(address, _expected):
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    channel = grpc.insecure_channel(address)
    health = health_pb2_grpc.HealthStub(channel)
    for service in ("", "inference.GRPCInferenceService", "numbers"):
        check(health.Check(health_pb2.HealthCheckRequest(service=service)).status == 1, f"health of {service!r}")
    first = next(health.Watch(health_pb2.HealthCheckRequest()))
    check(first.status == 1, "health is watched", first)
    try:
        health.Check(health_pb2.HealthCheckRequest(service="nope"))
    except grpc.RpcError as error:
        check(error.code() == grpc.StatusCode.NOT_FOUND, "health of an unknown service", error.code())
    service = reflected(address)
    check("ModelInfer" in service.methods_by_name, "reflection describes the service")
    compare_descriptors(address, "tritonclient.grpc.service_pb2", {"RepositoryModelLoadResponse", "RepositoryModelUnloadResponse"})
    say("gRPC: health, reflection; the reflected descriptors are those of Triton's stubs")


# --- TensorFlow Serving ----------------------------------------------------------------------------------------------


def tensorflow_stubs():
    """Stubs generated from the published messages' own layout (crates/protocol/proto): the package needs TensorFlow itself."""
    from grpc_tools import protoc

    protos = pathlib.Path(__file__).parent.parent / "crates/protocol/proto"
    directory = tempfile.mkdtemp(prefix="coracle-tfs-")
    arguments = ["protoc", f"-I{protos}", f"-I{pathlib.Path(protoc.__file__).parent}/_proto", f"--python_out={directory}"]
    check(protoc.main([*arguments, f"--grpc_python_out={directory}", "tensorflow.proto", "tensorflow_serving.proto"]) == 0, "protoc")
    sys.path.insert(0, directory)
    import tensorflow_pb2 as core
    import tensorflow_serving_pb2 as serving
    import tensorflow_serving_pb2_grpc as services

    shutil.rmtree(directory)
    return core, serving, services


def predict_request(core, serving, name):
    request = serving.PredictRequest(output_filter=["predict", "predict_proba"])
    request.model_spec.name = name
    tensor = core.TensorProto(dtype=2, tensor_content=ROWS.tobytes())
    for size in ROWS.shape:
        tensor.tensor_shape.dim.add(size=size)
    request.inputs["X"].CopyFrom(tensor)
    return request


def tensorflow_serving(address, expected):
    import json
    import urllib.request

    import grpc

    core, serving, services = tensorflow_stubs()
    channel = grpc.insecure_channel(address)
    stub = services.PredictionServiceStub(channel)
    request = predict_request(core, serving, "numbers")
    request.model_spec.version.value = 1
    answer = stub.Predict(request)
    check(list(answer.outputs["predict"].int64_val) == expected["numbers.predict"].tolist(), "Predict", answer)
    scores = np.array(answer.outputs["predict_proba"].double_val).reshape(3, 3)
    check(np.allclose(scores, expected["numbers.predict_proba"], rtol=1e-12), "Predict", scores)
    check(answer.model_spec.version.value == 1, "the version that answered", answer.model_spec)
    examples = serving.ClassificationRequest()
    examples.model_spec.name = "names"
    for row in ROWS:
        example = examples.input.example_list.examples.add()
        example.features.feature["X"].float_list.value.extend(row)
    classes = stub.Classify(examples).result.classifications
    scores = np.array([[one.score for one in row.classes] for row in classes])
    check(np.allclose(scores, expected["names.predict_proba"], atol=1e-6), "Classify", scores)
    metadata = serving.GetModelMetadataRequest(metadata_field=["signature_def"])
    metadata.model_spec.name = "numbers"
    signatures = serving.SignatureDefMap()
    stub.GetModelMetadata(metadata).metadata["signature_def"].Unpack(signatures)
    check(signatures.signature_def["serving_default"].inputs["X"].dtype == 2, "GetModelMetadata", signatures)
    status = services.ModelServiceStub(channel).GetModelStatus(serving.GetModelStatusRequest(model_spec=metadata.model_spec))
    check(status.model_version_status[0].state == 30, "GetModelStatus", status)
    request.model_spec.name = "nope"
    try:
        stub.Predict(request)
    except grpc.RpcError as error:
        check(error.code() == grpc.StatusCode.NOT_FOUND, "an unknown model", error)
    say("TensorFlow Serving: Predict, Classify, GetModelMetadata, GetModelStatus over gRPC")

    def post(path, body):
        url = f"http://{address}/v1/models/{path}"
        with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})) as answer:
            return json.load(answer)

    numbers = expected["numbers.predict"].tolist()
    check(post("numbers/versions/1:predict", {"instances": ROWS.tolist()})["predictions"] == numbers, "rows")
    check(post("numbers:predict", {"inputs": {"X": ROWS.tolist()}}) == {"outputs": numbers}, "columns")
    results = post("names:classify", {"examples": [{"X": row.tolist()} for row in ROWS]})["results"]
    scores = np.array([[score for _, score in row] for row in results])
    check(np.allclose(scores, expected["names.predict_proba"], rtol=1e-12), "classify", results)
    say("TensorFlow Serving: rows, columns, classify over REST")


# --- versions ------------------------------------------------------------------------------------------------------------


def until(step, seen):
    """Waits until what is seen is true; a step that never comes ends the exercise."""
    deadline = time.monotonic() + 60
    while not seen():
        check(time.monotonic() < deadline, step, "not within a minute")


def triton_versions(address, expected):
    import tritonclient.grpc
    import tritonclient.http
    from tritonclient.utils import InferenceServerException

    for module in (tritonclient.http, tritonclient.grpc):
        kind = module.__name__
        client = module.InferenceServerClient(address)
        outputs = [module.InferRequestedOutput("predict"), module.InferRequestedOutput("predict_proba")]

        def answer(version=""):
            return client.infer("iris", [tensor(module, ROWS, "FP64")], model_version=version, outputs=outputs)

        for version, served in (("1", "1"), ("2", "2"), ("", "2")):
            result = answer(version)
            same(result, expected, served, f"{kind}: version {version!r}")
            response = result.get_response()
            seen = response["model_version"] if isinstance(response, dict) else response.model_version
            check(seen == served, f"{kind}: the version that answered", seen)
        check(client.is_model_ready("iris", "1") and not client.is_model_ready("iris", "3"), f"{kind}: ready versions")
        refused(lambda: answer("3"), InferenceServerException, f"{kind}: an unknown version", "it has 1, 2")
        options = {"as_json": True} if kind.endswith("grpc") else {}
        metadata = client.get_model_metadata("iris", **options)
        check(metadata["versions"] == ["1", "2"], f"{kind}: metadata", metadata)
        statistics = client.get_inference_statistics("iris", **options)["model_stats"]
        check([one["version"] for one in statistics] == ["1", "2"], f"{kind}: statistics of all versions", statistics)
        one = client.get_inference_statistics("iris", "1", **options)["model_stats"]
        check([one["version"] for one in one] == ["1"], f"{kind}: statistics of one version", one)
        index = client.get_model_repository_index(**options)
        index = index["models"] if isinstance(index, dict) else index
        states = [(one["version"], one["state"]) for one in index]
        check(states == [("1", "READY"), ("2", "READY")], f"{kind}: index", index)
        say(f"{kind}: versions side by side")


def tensorflow_versions(address, expected, directory):
    import grpc

    core, serving, services = tensorflow_stubs()
    channel = grpc.insecure_channel(address)
    stub, status = services.PredictionServiceStub(channel), services.ModelServiceStub(channel)

    def answers(served, step, **spec):
        request = predict_request(core, serving, "iris")
        if "version" in spec:
            request.model_spec.version.value = spec["version"]
        elif "label" in spec:
            request.model_spec.version_label = spec["label"]
        answer = stub.Predict(request)
        scores = np.array(answer.outputs["predict_proba"].double_val).reshape(3, 3)
        check(np.allclose(scores, expected[f"{served}.predict_proba"], rtol=1e-12), step, scores)
        check(answer.model_spec.version.value == served, f"{step}: the version that answered", answer.model_spec)

    def states():
        request = serving.GetModelStatusRequest()
        request.model_spec.name = "iris"
        return {one.version: (one.state, one.status.error_code) for one in status.GetModelStatus(request).model_version_status}

    answers(2, "the newest version")
    answers(1, "a version", version=1)
    answers(1, "a label", label="stable")
    for spec in ({"version": 7}, {"label": "canary"}):
        try:
            answers(0, "unknown", **spec)
        except grpc.RpcError as error:
            check(error.code() == grpc.StatusCode.NOT_FOUND, f"unknown {spec}", error)
    say("TensorFlow Serving: versions and labels")
    models = directory / "models/iris"
    shutil.copytree(directory / "later/4", models / "4")
    until("a version that does not load is told", lambda: states().get(4, (0, 0)) == (50, 9))
    answers(2, "the newest version that loads")
    (directory / "later/3").rename(models / "3")
    until("a new version is found", lambda: states().get(3) == (30, 0))
    answers(3, "the new version")
    check(states()[1] == (30, 0) and states()[2] == (30, 0), "the versions before it serve on", states())
    for version in (1, 2, 3):
        shutil.rmtree(models / str(version))
    shutil.copytree(directory / "later/4", models / "5")
    until("the files are looked at again", lambda: states().get(5, (0, 0)) == (50, 9))
    answers(3, "a version whose files are gone")
    answers(1, "a labelled version whose files are gone", label="stable")
    say("TensorFlow Serving: reload by polling; broken and deleted versions take nothing out of service")


CLIENTS = {
    "tritonclient.http": triton_http,
    "tritonclient.grpc": triton_grpc,
    "kserve": kserve_sdk,
    "grpc": grpc_services,
    "tensorflow_serving": tensorflow_serving,
}

VERSION_CLIENTS = {
    "tritonclient, versions": triton_versions,
    "tensorflow_serving, versions": tensorflow_versions,
}


if __name__ == "__main__":
    if sys.argv[1] == "--client":
        client, address, expected = sys.argv[2:]
        answers = dict(np.load(expected))
        if client in CLIENTS:
            CLIENTS[client](address, answers)
        elif VERSION_CLIENTS[client] is tensorflow_versions:
            tensorflow_versions(address, answers, pathlib.Path(expected).parent)
        else:
            VERSION_CLIENTS[client](address, answers)
    else:
        main(sys.argv[1])
