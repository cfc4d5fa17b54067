"""SeldonDeployments with real models: manifests as Seldon's users write them, answers equal to scikit-learn's and XGBoost's own; then graphs of several.

Usage: seldon.py CORACLE_BINARY. Everything runs on loopback.
"""

import collections
import http.client
import importlib
import json
import pathlib
import subprocess
import sys
import threading

import grpc
import grpc_tools
import joblib
import numpy
import tritonclient.grpc
import tritonclient.http
import xgboost
from google.protobuf import empty_pb2
from grpc_tools import protoc
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

# A file beside this one has the name of the package.
beside = sys.path.pop(0)
import onnx

sys.path.insert(0, beside)
from exercise import NAMESPACE, Stage, check, say, wait_until

ROWS = [[5.1, 3.5, 1.4, 0.2], [6.2, 3.4, 5.4, 2.3], [6.1, 2.8, 4.7, 1.2]]


def train(stage):
    """Some of scikit-learn, one of XGBoost; returns them."""
    rows, classes = load_iris(return_X_y=True)
    logistic = LogisticRegression(max_iter=1000)
    models = {"logistic": logistic.fit(rows, classes), "tree": DecisionTreeClassifier(max_depth=2, random_state=0).fit(rows, classes)}
    models["constant"] = DummyClassifier(strategy="constant", constant=0).fit(rows, classes)
    # Two pairs of which each gives another number of columns: half of the one with half of the other would fail.
    for name, transformer in [("scale", StandardScaler()), ("reduce", PCA(2, random_state=0))]:
        models[name] = transformer.fit(rows)
        models[f"after-{name}"] = LogisticRegression(max_iter=1000).fit(models[name].transform(rows), classes)
    for name, model in models.items():
        (stage.directory / name).mkdir()
        joblib.dump(model, stage.directory / name / "model.joblib")
    booster = xgboost.train({"objective": "multi:softprob", "num_class": 3}, xgboost.DMatrix(rows, classes), 10)
    (stage.directory / "boosted").mkdir()
    booster.save_model(stage.directory / "boosted/model.json")
    return {**models, "boosted": booster}


def predictor(stage, name, model, extra="", implementation="SKLEARN_SERVER", graph=""):
    return f"""
  - name: {name}
    replicas: 1
    {extra}
    graph:
      name: classifier
      implementation: {implementation}
      modelUri: file://{stage.directory}/{model}
      children: []
      {graph}"""


def deployment(name, predictors, protocol=""):
    return f"""
apiVersion: machinelearning.seldon.io/v1
kind: SeldonDeployment
metadata:
  name: {name}
  namespace: {NAMESPACE}
spec:
  name: {name}
  {protocol}
  predictors:{"".join(predictors)}
"""


def post(stage, path, message, connection=None):
    connection = connection or http.client.HTTPConnection("127.0.0.1", stage.port)
    connection.request("POST", path, json.dumps(message), {"content-type": "application/json"})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def get(stage, path):
    connection = http.client.HTTPConnection("127.0.0.1", stage.port)
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def predict(stage, name, message):
    return post(stage, f"/seldon/{NAMESPACE}/{name}/api/v1.0/predictions", message)


def available(stage, name):
    stage.ns("wait", "--for=jsonpath={.status.state}=Available", f"sdep/{name}", "--timeout=60s")


def close(found, expected):
    return numpy.allclose(found, expected, rtol=1e-6, atol=1e-9)


def prepackaged(stage, models):
    stage.apply(deployment("iris", [predictor(stage, "default", "logistic")]))
    available(stage, "iris")
    status, answer = predict(stage, "iris", {"data": {"names": ["a", "b", "c", "d"], "ndarray": ROWS}})
    data = answer["data"]
    check(status == 200 and data["names"] == ["t:0", "t:1", "t:2"], "probabilities have Seldon's names", answer)
    check(close(data["ndarray"], models["logistic"].predict_proba(ROWS)), "scikit-learn's probabilities", data)
    tensor = {"shape": [3, 4], "values": sum(ROWS, [])}
    status, answer = predict(stage, "iris", {"data": {"tensor": tensor}})
    found = answer["data"]["tensor"]
    check(found["shape"] == [3, 3] and close(numpy.reshape(found["values"], (3, 3)), models["logistic"].predict_proba(ROWS)), "a tensor is answered with a tensor", answer)
    status, answer = predict(stage, "iris", {"data": {"ndarray": [[1, 2]]}})
    check(status == 400 and answer["status"]["status"] == "FAILURE", "a failure in Seldon's words", answer)
    say("SKLEARN_SERVER: scikit-learn's probabilities as ndarray and as tensor")
    method = "parameters: [{ name: method, type: STRING, value: predict }]"
    stage.apply(deployment("labels", [predictor(stage, "default", "logistic", graph=method)]))
    available(stage, "labels")
    status, answer = predict(stage, "labels", {"data": {"ndarray": ROWS}})
    check(answer["data"]["ndarray"] == models["logistic"].predict(ROWS).tolist(), "the parameter method chooses labels", answer)
    stage.apply(deployment("boosted", [predictor(stage, "default", "boosted", implementation="XGBOOST_SERVER")]))
    available(stage, "boosted")
    status, answer = predict(stage, "boosted", {"data": {"ndarray": ROWS}})
    expected = models["boosted"].predict(xgboost.DMatrix(numpy.array(ROWS)))
    check(numpy.allclose(answer["data"]["ndarray"], expected, rtol=1e-5), "XGBoost's numbers", answer)
    say("XGBOOST_SERVER: XGBoost's own numbers; the parameter method")
    stage.apply(deployment("two", [predictor(stage, "default", "tree")], protocol="protocol: v2"))
    available(stage, "two")
    inputs = [{"name": "predict", "shape": [3, 4], "datatype": "FP64", "data": ROWS}]
    status, answer = post(stage, f"/seldon/{NAMESPACE}/two/v2/models/classifier/infer", {"inputs": inputs})
    check(status == 200 and answer["model_name"] == "classifier", "V2 by the graph's name", answer)
    check(answer["outputs"][0]["data"] == models["tree"].predict(ROWS).tolist(), "V2 gives labels", answer)
    url = stage.ns("get", "sdep", "two", "-o", "jsonpath={.status.address.url}")
    check(url.endswith(f"/seldon/{NAMESPACE}/two/v2/models/classifier/infer"), "the status has the URL", url)
    say("the protocol v2, by the graph's own name")


def half_plus_two(stage):
    """TensorFlow's own example, exported to ONNX, with its protocol on Seldon's paths; then a graph of two."""
    number = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n"])
    constants = [onnx.helper.make_tensor(name, onnx.TensorProto.FLOAT, [], [value]) for name, value in [("half", 0.5), ("two", 2.0)]]
    steps = [onnx.helper.make_node("Mul", ["x", "half"], ["halved"]), onnx.helper.make_node("Add", ["halved", "two"], ["y"])]
    answer = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n"])
    graph_of = onnx.helper.make_graph(steps, "half_plus_two", [number], [answer], constants)
    model = onnx.helper.make_model(graph_of, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    (stage.directory / "half_plus_two/1").mkdir(parents=True)
    onnx.save(model, stage.directory / "half_plus_two/1/model.onnx")
    (stage.directory / "saved/1").mkdir(parents=True)
    (stage.directory / "saved/1/saved_model.pb").write_bytes(b"")
    single = predictor(stage, "default", "half_plus_two", implementation="TENSORFLOW_SERVER").replace("name: classifier", "name: halfplustwo")
    stage.apply(deployment("hpt", [single], protocol="protocol: tensorflow"))
    available(stage, "hpt")
    url = stage.ns("get", "sdep", "hpt", "-o", "jsonpath={.status.address.url}")
    check(url.endswith(f"/seldon/{NAMESPACE}/hpt/v1/models/halfplustwo:predict"), "the status has TensorFlow's path", url)
    base = f"/seldon/{NAMESPACE}/hpt"
    for path in ["/v1/models/halfplustwo:predict", "/v1/models/halfplustwo/:predict", "/v1/models/:predict", "/v1/models:predict"]:
        status, answer = post(stage, base + path, {"instances": [1, 2, 5]})
        check(status == 200 and answer == {"predictions": [2.5, 3.0, 4.5]}, f"half plus two at {path}", answer)
    status, answer = post(stage, base + "/v1/models/halfplustwo:predict", {"signature_name": "serving_default", "inputs": {"x": [1, 2, 5]}})
    check(status == 200 and answer == {"predictions": [2.5, 3.0, 4.5], "outputs": [2.5, 3.0, 4.5]}, "columns are answered as TensorFlow Serving does, and as KServe does (docs/compatibility.md)", answer)
    status, answer = get(stage, base + "/v1/models/halfplustwo")
    check(status == 200 and answer["model_version_status"][0]["state"] == "AVAILABLE", "TensorFlow Serving's status", answer)
    status, answer = get(stage, base + "/v1/models/halfplustwo/metadata")
    check(status == 200 and "signature_def" in answer["metadata"], "TensorFlow Serving's metadata", answer)
    status, answer = post(stage, base + "/api/v1.0/feedback", {"reward": 1.0})
    check(status == 200, "feedback is taken whatever the protocol", answer)
    unit = {"implementation": "TENSORFLOW_SERVER", "modelUri": f"file://{stage.directory}/half_plus_two"}
    stage.apply(graph("hpt-twice", {"name": "first", **unit, "children": [{"name": "second", **unit}]}, protocol="tensorflow"))
    available(stage, "hpt-twice")
    status, answer = post(stage, f"/seldon/{NAMESPACE}/hpt-twice/v1/models/first:predict", {"instances": [1, 2, 5]})
    check(status == 200 and answer == {"predictions": [3.25, 3.5, 4.25]}, "predictions are the next one's instances", answer)
    stage.apply(deployment("unexported", [predictor(stage, "default", "saved", implementation="TENSORFLOW_SERVER")], protocol="protocol: tensorflow"))
    wait_until(lambda: "tf2onnx" in stage.ns("get", "sdep", "unexported", "-o", "jsonpath={.status}"), "a SavedModel is called by its name in the status")
    say("TENSORFLOW_SERVER and TensorFlow's protocol on Seldon's paths: half plus two, alone and twice")
    for name in ["hpt", "hpt-twice", "unexported"]:
        stage.ns("delete", "sdep", name)


def split(stage, models):
    """As the tutorial: half of the requests to each; then a shadow. Meanwhile nobody's request fails."""
    half = "traffic: 50"
    both = [predictor(stage, "model-a", "logistic", half), predictor(stage, "model-b", "tree", half)]
    stage.apply(deployment("ab", both))
    available(stage, "ab")
    expected = {name: numpy.round(models[name].predict_proba(ROWS[2:]), 6).tolist() for name in ["logistic", "tree"]}
    seen, statuses = collections.Counter(), collections.Counter()
    is_over = threading.Event()

    def load():
        connection = http.client.HTTPConnection("127.0.0.1", stage.port)
        while not is_over.is_set():
            status, answer = post(stage, f"/seldon/{NAMESPACE}/ab/api/v1.0/predictions", {"data": {"ndarray": ROWS[2:]}}, connection)
            statuses[status] += 1
            found = numpy.round(answer["data"]["ndarray"], 6).tolist()
            seen[next((name for name, one in expected.items() if one == found), "other")] += 1

    thread = threading.Thread(target=load)
    thread.start()
    wait_until(lambda: sum(statuses.values()) > 400, "requests")
    before = dict(seen)
    with_shadow = both + [predictor(stage, "next", "tree", "shadow: true")]
    stage.apply(deployment("ab", with_shadow))
    stage.ns("wait", "--for=jsonpath={.status.deploymentStatus.ab-next-0-classifier.availableReplicas}=1", "sdep/ab", "--timeout=60s")
    report = f"http://127.0.0.1:{stage.port}/serving/{NAMESPACE}/ab/shadow"

    def compared():
        connection = http.client.HTTPConnection("127.0.0.1", stage.port)
        connection.request("GET", report)
        answer = connection.getresponse()
        text = answer.read()
        return answer.status == 200 and sum(one["requests"] for one in json.loads(text)["shadows"][0]["comparisons"]) > 100

    wait_until(compared, "copies are compared")
    stage.apply(deployment("ab", [predictor(stage, "model-b", "tree")]))
    wait_until(lambda: stage.ns("get", "isvc", "-o", "name").count("ab-next") == 0, "the shadow's service goes")
    available(stage, "ab")
    # Half of the requests each, they take turns: it has settled when the one that is left has had a hundred in a row.
    def is_settled():
        n_other, n_left = seen["logistic"], seen["tree"]
        wait_until(lambda: seen["tree"] >= n_left + 100, "requests go on")
        return seen["logistic"] == n_other

    wait_until(is_settled, "the other predictor gets no more requests")
    n_before, n_left = seen["logistic"], seen["tree"]
    wait_until(lambda: seen["tree"] > max(n_left + 500, before["tree"] + 1000), "requests go on")
    is_over.set()
    thread.join()
    check(abs(before["logistic"] - before["tree"]) <= 2, "half of the requests each", before)
    check(list(statuses) == [200] and seen["other"] == 0, "no request fails and none has another answer", (statuses, seen))
    check(seen["logistic"] == n_before, "one predictor is left", (n_before, seen))
    say(f"traffic {before} between two predictors, a shadow added, one left: {statuses[200]} requests, none failed")


def node(stage, name, model=None, children=(), **fields):
    """A node of a graph; JSON is YAML, too."""
    of_model = {"implementation": "SKLEARN_SERVER", "modelUri": f"file://{stage.directory}/{model}"} if model else {}
    return {"name": name, **of_model, "children": list(children), **fields}


def graph(name, graph, components=(), **spec):
    predictor = {"name": "default", "graph": graph, "componentSpecs": list(components)}
    return json.dumps({
        "apiVersion": "machinelearning.seldon.io/v1",
        "kind": "SeldonDeployment",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {**spec, "predictors": [predictor]},
    })


def in_turn(stage, transformer):
    """A transformer, and the classifier behind it."""
    return node(stage, "transform", transformer, [node(stage, "classify", f"after-{transformer}", type="MODEL")], type="TRANSFORMER")


def expected_in_turn(models, transformer, rows):
    return models[f"after-{transformer}"].predict_proba(models[transformer].transform(rows))


def several(stage, models):
    """A chain and a combiner, with the libraries' own numbers."""
    stage.apply(graph("chain", in_turn(stage, "scale")))
    available(stage, "chain")
    message = {"data": {"ndarray": ROWS}, "meta": {"puid": "p1", "tags": {"who": "me"}}}
    status, answer = predict(stage, "chain", message)
    check(status == 200 and close(answer["data"]["ndarray"], expected_in_turn(models, "scale", ROWS)), "what a transformer gives is what its child gets", answer)
    meta = {"puid": "p1", "tags": {"who": "me"}, "requestPath": {"transform": "coracle", "classify": "coracle"}}
    check(answer["meta"] == meta, "meta tells the whole way", answer)
    services = stage.ns("get", "isvc", "-o", "name")
    check("chain-default-transform" in services and "chain-default-classify" in services, "each model is a service", services)
    say("TRANSFORMER and MODEL in a chain: scikit-learn's own numbers")
    both = [node(stage, "a", "logistic"), node(stage, "b", "tree")]
    stage.apply(graph("mean", node(stage, "average", children=both, type="COMBINER", implementation="AVERAGE_COMBINER")))
    available(stage, "mean")
    expected = numpy.mean([models[name].predict_proba(ROWS) for name in ["logistic", "tree"]], axis=0)
    status, answer = predict(stage, "mean", {"data": {"ndarray": ROWS}})
    check(status == 200 and close(answer["data"]["ndarray"], expected), "numpy's mean of scikit-learn's probabilities", answer)
    check(answer["data"]["names"] == ["t:0", "t:1", "t:2"] and answer["meta"]["requestPath"] == {"a": "coracle", "b": "coracle"}, "names and path", answer)
    status, answer = predict(stage, "mean", {"data": {"tensor": {"shape": [3, 4], "values": sum(ROWS, [])}}})
    check(close(numpy.reshape(answer["data"]["tensor"]["values"], (3, 3)), expected), "as a tensor, too", answer)
    say("AVERAGE_COMBINER: numpy's mean of scikit-learn's probabilities")


# What callers need of Seldon's prediction.proto.
PREDICTION = """
syntax = "proto3";
package seldon.protos;
import "google/protobuf/empty.proto";
import "google/protobuf/struct.proto";
message SeldonMessage { Status status = 1; Meta meta = 2; oneof data_oneof { DefaultData data = 3; bytes binData = 4; string strData = 5; google.protobuf.Value jsonData = 6; } }
message DefaultData { repeated string names = 1; oneof data_oneof { Tensor tensor = 2; google.protobuf.ListValue ndarray = 3; } }
message Tensor { repeated int32 shape = 1 [packed=true]; repeated double values = 2 [packed=true]; }
message Meta { string puid = 1; map<string,google.protobuf.Value> tags = 2; map<string,int32> routing = 3; map<string,string> requestPath = 4; }
message Status { int32 code = 1; string info = 2; string reason = 3; int32 status = 4; }
message Feedback { SeldonMessage request = 1; SeldonMessage response = 2; float reward = 3; SeldonMessage truth = 4; }
message SeldonModelMetadataRequest { string name = 1; }
message SeldonMessageMetadata { string messagetype = 1; google.protobuf.Value schema = 2; string name = 3; string datatype = 4; repeated int64 shape = 5; }
message SeldonModelMetadata { string name = 1; repeated string versions = 2; string platform = 3; repeated SeldonMessageMetadata inputs = 4; repeated SeldonMessageMetadata outputs = 5; }
message SeldonGraphMetadata { string name = 1; map<string,SeldonModelMetadata> models = 2; repeated SeldonMessageMetadata inputs = 3; repeated SeldonMessageMetadata outputs = 4; }
service Seldon {
  rpc Predict(SeldonMessage) returns (SeldonMessage) {};
  rpc SendFeedback(Feedback) returns (SeldonMessage) {};
  rpc ModelMetadata(SeldonModelMetadataRequest) returns (SeldonModelMetadata) {};
  rpc GraphMetadata(google.protobuf.Empty) returns (SeldonGraphMetadata) {};
}
"""


def over_grpc(stage, models):
    """Seldon's gRPC service and the Open Inference Protocol's, of a model and of graphs, with the metadata of Seldon's callers."""
    (stage.directory / "prediction.proto").write_text(PREDICTION)
    include = pathlib.Path(grpc_tools.__file__).parent / "_proto"
    arguments = [f"-I{stage.directory}", f"-I{include}", f"--python_out={stage.directory}", f"--grpc_python_out={stage.directory}", "prediction.proto"]
    check(protoc.main(["protoc", *arguments]) == 0, "the messages are compiled")
    sys.path.insert(0, str(stage.directory))
    messages, services = importlib.import_module("prediction_pb2"), importlib.import_module("prediction_pb2_grpc")
    stage.apply(deployment("one", [predictor(stage, "default", "logistic")]))
    stage.apply(graph("chained", in_turn(stage, "scale")))
    parameters = [{"name": "n_branches", "value": "2", "type": "INT"}, {"name": "epsilon", "value": "0", "type": "FLOAT"}, {"name": "best_branch", "value": "0", "type": "INT"}]
    branches = [node(stage, "first", "logistic"), node(stage, "second", "tree")]
    stage.apply(graph("choosing", node(stage, "eg", children=branches, type="ROUTER", implementation="EPSILON_GREEDY", parameters=parameters)))
    for name in ["one", "chained", "choosing"]:
        available(stage, name)
    expected = {"one": models["logistic"].predict_proba(ROWS), "chained": expected_in_turn(models, "scale", ROWS), "choosing": models["logistic"].predict_proba(ROWS)}
    channel = grpc.insecure_channel(f"127.0.0.1:{stage.port}")
    stub = services.SeldonStub(channel)
    tensor = messages.Tensor(shape=numpy.shape(ROWS), values=numpy.ravel(ROWS))
    for name, probabilities in expected.items():
        metadata = (("seldon", name), ("namespace", NAMESPACE))
        asked = messages.SeldonMessage(data=messages.DefaultData(tensor=tensor))
        answer = stub.Predict(asked, metadata=metadata)
        found = numpy.reshape(answer.data.tensor.values, answer.data.tensor.shape)
        check(close(found, probabilities) and answer.meta.requestPath, f"Seldon's Predict of {name}, tensor", answer)
        rows = messages.SeldonMessage()
        for row in ROWS:
            rows.data.ndarray.append(row)
        rows.meta.puid = "p-1"
        answer = stub.Predict(rows, metadata=metadata)
        found = [list(row) for row in answer.data.ndarray]
        check(close(found, probabilities) and answer.meta.puid == "p-1", f"Seldon's Predict of {name}, ndarray", answer)
    metadata = (("seldon", "chained"), ("namespace", NAMESPACE), ("seldon-puid", "p-2"))
    described, call = stub.GraphMetadata.with_call(empty_pb2.Empty(), metadata=metadata)
    check(sorted(described.models) == ["classify", "transform"] and described.name == "chained", "a graph's models are told over gRPC", described)
    check(list(described.inputs[0].shape) == [-1, 4] and list(described.outputs[0].shape) == [-1, 3], "and what it takes and gives", described)
    check(dict(call.initial_metadata())["seldon-puid"] == "p-2", "Seldon-Puid over gRPC", call.initial_metadata())
    one = stub.ModelMetadata(messages.SeldonModelMetadataRequest(name="transform"), metadata=metadata)
    check(one == described.models["transform"] and one.platform == "sklearn", "as one of them is", one)
    # The reward goes to the branch that answered: the other one is asked from then on, since this one earned nothing.
    metadata = (("seldon", "choosing"), ("namespace", NAMESPACE))
    answer = stub.Predict(asked, metadata=metadata)
    check(dict(answer.meta.routing) == {"eg": 0}, "the branch is told", answer)
    answer.meta.routing["eg"] = 1
    stub.SendFeedback(messages.Feedback(request=asked, response=answer, reward=1.0), metadata=metadata)
    answer = stub.Predict(asked, metadata=metadata)
    check(dict(answer.meta.routing) == {"eg": 1}, "feedback over gRPC is learnt from", answer)
    for request, metadata, code, words in [
        (asked, (), grpc.StatusCode.NOT_FOUND, "metadata seldon"),
        (messages.SeldonMessage(strData="x"), metadata, grpc.StatusCode.UNIMPLEMENTED, "strData is not read"),
        (messages.SeldonMessage(data=messages.DefaultData(tensor=messages.Tensor(shape=[1, 1], values=[1]))), metadata, grpc.StatusCode.INVALID_ARGUMENT, "node second"),
    ]:
        try:
            check(False, "refused", stub.Predict(request, metadata=metadata))
        except grpc.RpcError as error:
            check(error.code() == code and words in error.details(), "refused with its code and words", error)
    # The same graphs by V2, whose models answer in V2's way: scikit-learn's with labels.
    mean = node(stage, "average", children=[node(stage, "a", "logistic"), node(stage, "b", "tree")], implementation="AVERAGE_COMBINER")
    stage.apply(graph("v2-chained", in_turn(stage, "scale"), protocol="v2"))
    stage.apply(graph("v2-mean", mean, protocol="v2"))
    labels = {
        "v2-chained": models["after-scale"].predict(models["scale"].transform(ROWS)),
        "v2-mean": numpy.mean([models[name].predict(ROWS) for name in ["logistic", "tree"]], axis=0),
    }
    client = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{stage.port}")
    for name, wanted in labels.items():
        available(stage, name)
        headers = {"seldon": name, "namespace": NAMESPACE}
        sent = tritonclient.grpc.InferInput("X", list(numpy.shape(ROWS)), "FP64")
        sent.set_data_from_numpy(numpy.array(ROWS))
        answer = client.infer(name, [sent], request_id="7", headers=headers)
        output = answer.get_response().outputs[0]
        check(close(answer.as_numpy(output.name), wanted) and answer.get_response().id == "7", f"V2 over gRPC of {name}", answer.get_response())
        check(client.is_model_ready(name, headers=headers), "a graph is ready over gRPC")
    rest = tritonclient.http.InferenceServerClient(f"127.0.0.1:{stage.port}/seldon/{NAMESPACE}/v2-chained")
    check(rest.is_model_ready("transform") and rest.get_model_metadata("classify")["platform"] == "sklearn", "nodes are ready and described")
    metadata = rest.get_model_metadata("transform")
    check([one["shape"] for one in metadata["inputs"]] == [[-1, 4]] and metadata["outputs"][0]["datatype"] == "INT64", "a graph takes what its first model takes, and gives what its last one does", metadata)
    def raw(client, name, numbers, output):
        sent = tritonclient.http.InferInput("X", list(numbers.shape), "FP64")
        sent.set_data_from_numpy(numbers, binary_data=True)
        wanted = tritonclient.http.InferRequestedOutput(output, binary_data=True)
        return client.infer(name, [sent], outputs=[wanted]).as_numpy(output)

    def alone(name, numbers, output):
        service = f"v2-chained-default-{name}"
        one = tritonclient.http.InferenceServerClient(f"127.0.0.1:{stage.port}/serving/{NAMESPACE}/{service}")
        return raw(one, service, numbers, output)

    rows = numpy.array(ROWS)
    answer = raw(rest, "transform", rows, "predict_proba")
    # scikit-learn's own last bits depend on how many rows it is given at a time; the nodes' do not.
    in_steps = alone("classify", alone("transform", rows, "transform"), "predict_proba")
    check(answer.tobytes() == in_steps.tobytes(), "raw tensors go through a graph as they are, to the bit", (answer, in_steps))
    check(numpy.allclose(answer, expected_in_turn(models, "scale", ROWS), rtol=1e-14, atol=0), "with scikit-learn's probabilities", answer)
    described = client.get_model_metadata("v2-chained", headers={"seldon": "v2-chained", "namespace": NAMESPACE})
    check(described.platform == "graph" and described.inputs[0].shape == [-1, 4], "a graph describes itself over gRPC", described)
    say("Seldon's gRPC service and V2's answer for a model and for graphs as the libraries do, and learn from feedback")
    for name in [*expected, *labels]:
        stage.ns("delete", "sdep", name)


def shadowed(stage, models):
    """A graph with a shadow that is one, too: nobody's answer is another one, and the report says where they differ."""
    shadow = {"name": "next", "shadow": True, "graph": in_turn(stage, "reduce")}
    manifest = json.loads(graph("watched", in_turn(stage, "scale")))
    manifest["spec"]["predictors"].append(shadow)
    stage.apply(json.dumps(manifest))
    available(stage, "watched")
    rows, _ = load_iris(return_X_y=True)
    connection = http.client.HTTPConnection("127.0.0.1", stage.port)
    expected, other = (expected_in_turn(models, name, rows) for name in ["scale", "reduce"])
    for row, probabilities in zip(rows.tolist(), expected):
        status, answer = post(stage, f"/seldon/{NAMESPACE}/watched/api/v1.0/predictions", {"data": {"ndarray": [row]}}, connection)
        check(status == 200 and close(answer["data"]["ndarray"][0], probabilities), "a shadow changes no answer", answer)
    report = lambda: get(stage, f"/serving/{NAMESPACE}/watched/shadow")[1]["shadows"][0]
    wait_until(lambda: report()["comparisons"][-1]["requests"] == len(rows), "all copies are compared")
    comparison = report()["comparisons"][-1]
    farthest = numpy.abs(expected - other).max()
    numbers = comparison["outputs"][0]["numbers"]
    check(numpy.isclose(numbers["distanceMax"], farthest, rtol=1e-6), "the greatest distance is scikit-learn's own", (numbers, farthest))
    say(f"a graph's shadow is a graph: {len(rows)} requests answered as without it, {farthest:.3f} apart at most")
    stage.ns("delete", "sdep", "watched")


def routed(stage, models):
    both = [node(stage, "a", "logistic"), node(stage, "b", "tree")]
    share = 0.3
    parameters = [{"name": "ratioA", "value": str(share), "type": "FLOAT"}]
    stage.apply(graph("abtest", node(stage, "ab", children=both, type="ROUTER", implementation="RANDOM_ABTEST", parameters=parameters)))
    available(stage, "abtest")
    expected = [models[name].predict_proba(ROWS[2:]) for name in ["logistic", "tree"]]
    connection = http.client.HTTPConnection("127.0.0.1", stage.port)
    n_requests, counts = 2000, collections.Counter()
    for _ in range(n_requests):
        status, answer = post(stage, f"/seldon/{NAMESPACE}/abtest/api/v1.0/predictions", {"data": {"ndarray": ROWS[2:]}}, connection)
        branch = answer["meta"]["routing"]["ab"]
        check(status == 200 and close(answer["data"]["ndarray"], expected[branch]), "the branch that answered is the one that is named", answer)
        counts[branch] += 1
    # Four standard errors.
    error = 4 * (share * (1 - share) / n_requests) ** 0.5
    check(abs(counts[0] / n_requests - share) < error, "the share is ratioA", counts)
    say(f"RANDOM_ABTEST: {counts[0]} of {n_requests} requests with ratioA {share}")


def learnt(stage):
    """Seldon's own epsilon-greedy router, known by its image, before a good and a useless model."""
    epsilon = 0.2
    parameters = [{"name": "n_branches", "value": "2", "type": "INT"}, {"name": "epsilon", "value": str(epsilon), "type": "FLOAT"}, {"name": "best_branch", "value": "0", "type": "INT"}]
    children = [node(stage, "useless", "constant"), node(stage, "good", "logistic")]
    image = {"name": "eg-router", "image": "seldonio/mab_epsilon_greedy:1.15.0"}
    manifest = graph("bandit", node(stage, "eg-router", children=children, type="ROUTER", parameters=parameters), [{"spec": {"containers": [image]}}])
    stage.apply(manifest)
    available(stage, "bandit")
    rows, classes = load_iris(return_X_y=True)
    # No flower of the first kind: the useless model earns nothing.
    rows, classes = rows[50:], classes[50:]
    connection = http.client.HTTPConnection("127.0.0.1", stage.port)

    def ask(index, tells):
        request = {"data": {"ndarray": [rows[index].tolist()]}}
        _, answer = post(stage, f"/seldon/{NAMESPACE}/bandit/api/v1.0/predictions", request, connection)
        if tells:
            reward = float(numpy.argmax(answer["data"]["ndarray"][0]) == classes[index])
            feedback = {"request": request, "response": answer, "reward": reward}
            status, told = post(stage, f"/seldon/{NAMESPACE}/bandit/api/v1.0/feedback", feedback, connection)
            check(status == 200 and told["data"] == {"ndarray": []}, "feedback is answered as Seldon's wrapper does", told)
        return answer["meta"]["routing"]["eg-router"]

    n_requests = 1000
    before = sum(ask(turn % 100, False) for turn in range(n_requests)) / n_requests
    for turn in range(300):
        ask(turn % 100, True)
    after = sum(ask(turn % 100, False) for turn in range(n_requests)) / n_requests
    error = 4 * (epsilon * (1 - epsilon) / n_requests) ** 0.5
    check(abs(before - epsilon) < error, "without feedback the branch that it is told is the best", before)
    check(abs(after - (1 - epsilon)) < error, "with feedback it is the one that earns", after)
    # What it has learnt outlives a change of one of the models.
    stage.apply(manifest.replace(f"{stage.directory}/constant", f"{stage.directory}/tree"))
    stage.ns("wait", "--for=jsonpath={.status.state}=Available", "sdep/bandit", "--timeout=60s")
    kept = sum(ask(turn % 100, False) for turn in range(n_requests)) / n_requests
    check(abs(kept - (1 - epsilon)) < error, "what is learnt stays", kept)
    connection.request("GET", "/metrics")
    metrics = connection.getresponse().read().decode()
    told = [line for line in metrics.splitlines() if line.startswith("coracle_feedback_total{") and 'service="bandit"' in line]
    check(sum(float(line.split()[-1]) for line in told) == 300, "feedback is counted", told)
    connection.close()
    stage.processes["coracle"].terminate()
    stage.processes["coracle"].wait()
    stage.start_coracle("--chaos")
    available(stage, "bandit")
    wait_until(lambda: predict(stage, "bandit", {"data": {"ndarray": ROWS}})[0] == 200, "the graph is there again")
    kept = sum(ask(turn % 100, False) for turn in range(n_requests)) / n_requests
    check(abs(kept - (1 - epsilon)) < error, "what is learnt outlives the server", kept)
    status, answer = post(stage, f"/seldon/{NAMESPACE}/bandit/api/v1.0/feedback", {"reward": 1.0})
    check(status == 400 and "eg-router" in answer["status"]["info"], "a reward for nobody is refused", answer)
    say(f"an epsilon-greedy router sent {before:.0%} of the requests to the better model before feedback, {after:.0%} after it")


def failing(stage):
    """A bandit before a model that fails for every request: it was fitted on two columns."""
    (stage.directory / "narrow").mkdir()
    rows, classes = load_iris(return_X_y=True)
    joblib.dump(LogisticRegression(max_iter=1000).fit(rows[:, :2], classes), stage.directory / "narrow" / "model.joblib")
    children = [node(stage, "narrow", "narrow"), node(stage, "good", "logistic")]
    parameters = [{"name": "n_branches", "value": "2", "type": "INT"}]
    for implementation in ["THOMPSON_SAMPLING", "EPSILON_GREEDY"]:
        stage.apply(graph("failing", node(stage, "mab", children=children, type="ROUTER", implementation=implementation, parameters=parameters)))
        available(stage, "failing")
        n_failed, n_requests = 0, 400
        for _ in range(n_requests):
            status, answer = predict(stage, "failing", {"data": {"ndarray": ROWS}})
            n_failed += status != 200
            if status == 200:
                told = {"request": {"data": {"ndarray": ROWS}}, "response": answer, "reward": 1}
                check(post(stage, f"/seldon/{NAMESPACE}/failing/api/v1.0/feedback", told)[0] == 200, "feedback is taken", answer)
        check(0 < n_failed < n_requests / 5, f"{implementation} leaves the model that fails", n_failed)
        say(f"{implementation} before a model that always fails: {n_failed} of {n_requests} requests failed")
        stage.ns("delete", "sdep", "failing")


def told(stage):
    """Manifests of older API versions, and what Seldon's paths tell."""
    for version in ["v1alpha2", "v1alpha3"]:
        manifest = deployment("older", [predictor(stage, "default", "logistic")]).replace("seldon.io/v1", f"seldon.io/{version}")
        stage.apply(manifest)
        available(stage, "older")
        shown = json.loads(stage.ns("get", f"seldondeployments.{version}.machinelearning.seldon.io", "older", "-o", "json"))
        check(shown["apiVersion"] == f"machinelearning.seldon.io/{version}", "shown in the version that is asked for", shown)
        kept = json.loads(stage.ns("get", "sdep", "older", "-o", "json"))
        check(kept["apiVersion"] == "machinelearning.seldon.io/v1", "kept in the newest", kept)
        check("unchanged" in stage.apply(manifest), "applied again it is unchanged", kept)
        check("configured" in stage.apply(manifest.replace("replicas: 1", "replicas: 2")), "changed it is another", kept)
        base = f"/seldon/{NAMESPACE}/older/api/v1.0"
        status, metadata = get(stage, f"{base}/metadata")
        model = metadata["models"]["classifier"]
        check(status == 200 and model["platform"] == "sklearn" and metadata["graphinputs"] == model["inputs"], "what it takes and gives", metadata)
        check(get(stage, f"{base}/metadata/classifier") == (200, model), "of one node", model)
        check(get(stage, f"{base}/status/classifier")[0] == 200 and get(stage, f"{base}/doc/seldon.json")[0] == 200, "status and documentation")
        connection = http.client.HTTPConnection("127.0.0.1", stage.port)
        connection.request("POST", f"{base}/predictions", json.dumps({"data": {"ndarray": ROWS}}), {"content-type": "application/json", "Seldon-Puid": "p-3"})
        answer = connection.getresponse()
        check(answer.status == 200 and answer.headers["Seldon-Puid"] == "p-3", "Seldon-Puid is given back", answer.headers)
        stage.ns("delete", f"seldondeployments.{version}.machinelearning.seldon.io", "older")
    say("v1alpha2 and v1alpha3 apply, change, and go; metadata, status and documentation are where Seldon has them")


def stood_in(stage):
    """Annotations of the deployment say what is done where its model fails."""
    message = {"data": {"ndarray": ROWS}}
    stage.apply(deployment("safe", [predictor(stage, "default", "logistic")]))
    available(stage, "safe")
    code, error = stage.kubectl("annotate", "sdep", "safe", "serving.coracle.dev/retries=7", check_rc=False, namespace=NAMESPACE)
    check(code != 0 and "no number from 0 to 5" in error, "values are checked", error)
    stage.ns("annotate", "sdep", "safe", "serving.coracle.dev/fallback=[0.5, 0.25, 0.25]")
    wait_until(lambda: "serving.coracle.dev/fallback" in stage.ns("get", "isvc", "safe", "-o", "json"), "its service has it")
    revision = stage.ns("get", "isvc", "safe", "-o", "jsonpath={.status.components.predictor.latestReadyRevision}")
    done = subprocess.run([stage.binary, "chaos", "set", f"{NAMESPACE}/{revision}", "--errors", "1", "--state", stage.state], capture_output=True, text=True)
    check(done.returncode == 0, "coracle chaos", done.stdout + done.stderr)
    wait_until(lambda: predict(stage, "safe", message)[1].get("data", {}).get("ndarray") == [[0.5, 0.25, 0.25]] * 3, "the default prediction stands in for the model that fails")
    stage.ns("annotate", "sdep", "safe", "serving.coracle.dev/fallback-")
    wait_until(lambda: predict(stage, "safe", message)[0] == 503, "and does not once it is taken away")
    subprocess.run([stage.binary, "chaos", "clear", "--state", stage.state], capture_output=True, text=True, check=True)
    say("a SeldonDeployment's default prediction stands in for its model that fails, and goes with the annotation")
    code, error = stage.kubectl("annotate", "sdep", "safe", "serving.coracle.dev/retrys=2", check_rc=False, namespace=NAMESPACE)
    check(code != 0 and "serving.coracle.dev/retries is" in error, "misspelt annotations are refused", error)
    code, error = stage.kubectl("scale", "sdep", "safe", "--replicas=2", check_rc=False, namespace=NAMESPACE)
    check(code != 0 and "a number of replicas of its own" in error, "a predictor's own number goes before", error)
    stage.ns("patch", "sdep", "safe", "--type=json", "-p", '[{"op": "remove", "path": "/spec/predictors/0/replicas"}]')
    stage.ns("scale", "sdep", "safe", "--replicas=2")
    pods = lambda: stage.ns("get", "pods", "-l", "seldon-deployment-id=safe", "--no-headers").count("1/1 ")
    wait_until(lambda: pods() == 2, "kubectl scale sdep")
    stage.ns("delete", "sdep", "safe")
    stage.apply(graph("safe-graph", in_turn(stage, "scale")))
    available(stage, "safe-graph")
    stage.ns("annotate", "sdep", "safe-graph", "serving.coracle.dev/fallback=[0.5, 0.25, 0.25]")
    service = next(name for name in stage.ns("get", "isvc", "-o", "jsonpath={.items[*].metadata.name}").split() if name.startswith("safe-graph-"))
    done = subprocess.run([stage.binary, "chaos", "set", f"{NAMESPACE}/{service}", "--errors", "1", "--state", stage.state], capture_output=True, text=True)
    check(done.returncode == 0, "coracle chaos", done.stdout + done.stderr)
    answer = lambda: predict(stage, "safe-graph", message)[1]
    wait_until(lambda: answer().get("data", {}).get("ndarray") == [[0.5, 0.25, 0.25]] * 3, "the default prediction stands in for the graph of which a node fails")
    check(answer()["meta"]["tags"] == {"fallback": "constant"}, "and says so", answer())
    subprocess.run([stage.binary, "chaos", "clear", "--state", stage.state], capture_output=True, text=True, check=True)
    say("misspelt annotations are refused, kubectl scales, and a graph is stood in for as a whole")
    stage.ns("delete", "sdep", "safe-graph")


def changed(stage, models):
    """Graphs follow graphs and models, and nobody's request fails or gets half of two."""
    rows = ROWS[2:]
    expected = {
        "scale": expected_in_turn(models, "scale", rows),
        "reduce": expected_in_turn(models, "reduce", rows),
        "mean": numpy.mean([models[name].predict_proba(rows) for name in ["logistic", "tree"]], axis=0),
        "model": models["tree"].predict_proba(rows),
    }
    mean = node(stage, "average", children=[node(stage, "a", "logistic"), node(stage, "classify", "tree")], implementation="AVERAGE_COMBINER")
    manifests = {"scale": in_turn(stage, "scale"), "reduce": in_turn(stage, "reduce"), "mean": mean, "model": node(stage, "classify", "tree")}
    stage.apply(graph("moving", manifests["scale"]))
    available(stage, "moving")
    seen, statuses, strange = collections.Counter(), collections.Counter(), []
    is_over = threading.Event()

    def load():
        connection = http.client.HTTPConnection("127.0.0.1", stage.port)
        while not is_over.is_set():
            status, answer = post(stage, f"/seldon/{NAMESPACE}/moving/api/v1.0/predictions", {"data": {"ndarray": rows}}, connection)
            statuses[status] += 1
            found = answer.get("data", {}).get("ndarray", [])
            name = next((name for name, one in expected.items() if numpy.shape(found) == one.shape and close(found, one)), "other")
            seen[name] += 1
            if name == "other":
                strange.append(answer)

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    for name in ["scale", "reduce", "scale", "mean", "model", "reduce", "model", "scale"]:
        stage.apply(graph("moving", manifests[name]))
        n_seen = seen[name]
        wait_until(lambda: seen[name] >= n_seen + 50, f"requests go to {name}")
    is_over.set()
    for thread in threads:
        thread.join()
    check(list(statuses) == [200] and not strange, "no request fails and none has half of two graphs", (statuses, seen, strange[:2]))
    check(all(seen[name] > 0 for name in expected), "all of them have answered", seen)
    say(f"eight changes between graphs and a model: {statuses[200]} requests, none failed, each with the answer of one of them")


def refused(stage):
    for manifest, words in [
        (deployment("bad", [predictor(stage, "a", "tree", "traffic: 50")]), "Traffic must sum be 100 for a single predictor when set"),
        (deployment("bad", [predictor(stage, "a", "tree"), predictor(stage, "a", "tree")]), "Duplicate predictor name"),
        (deployment("bad", [predictor(stage, "a", "tree")], protocol="protocol: tensorflow"), "Prepackaged server does not handle tensorflow protocol SKLEARN_SERVER"),
        (deployment("bad", [predictor(stage, "a", "tree", implementation="TRITON_SERVER")]), "spec.predictors[0].graph.implementation: TRITON_SERVER is not served here"),
        (graph("bad", node(stage, "ab", children=[node(stage, "a", "tree")], implementation="RANDOM_ABTEST")), "spec.predictors[0].graph.children: RANDOM_ABTEST has two, and here are 1"),
    ]:
        code, error = stage.kubectl("apply", "-f", "-", stdin=manifest, check_rc=False)
        check(code != 0 and words in error, "refused in Seldon's words, or by its place", error)
    say("what is wrong or not served is refused at once")
    stage.ns("delete", "sdep", "--all")
    wait_until(lambda: stage.ns("get", "isvc,revisions", "-o", "name").strip() == "", "what was made goes with it")
    say("what was made of a SeldonDeployment goes with it")


def main():
    stage = Stage(sys.argv[1])
    try:
        models = train(stage)
        stage.start_coracle("--chaos")
        stage.kubectl("create", "namespace", NAMESPACE)
        prepackaged(stage, models)
        half_plus_two(stage)
        split(stage, models)
        several(stage, models)
        over_grpc(stage, models)
        shadowed(stage, models)
        routed(stage, models)
        learnt(stage)
        failing(stage)
        told(stage)
        stood_in(stage)
        changed(stage, models)
        refused(stage)
    except BaseException:
        log = stage.directory / "coracle.log"
        print(log.read_text()[-3000:] if log.exists() else "", file=sys.stderr)
        raise
    finally:
        stage.close()
    print("seldon is done")


if __name__ == "__main__":
    main()
