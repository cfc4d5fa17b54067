"""SeldonDeployments with real models: manifests as Seldon's users write them, answers equal to scikit-learn's and XGBoost's own.

Usage: seldon.py CORACLE_BINARY. Everything runs on loopback.
"""

import collections
import http.client
import json
import sys
import threading

import joblib
import numpy
import xgboost
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from exercise import NAMESPACE, Stage, check, say, wait_until

ROWS = [[5.1, 3.5, 1.4, 0.2], [6.2, 3.4, 5.4, 2.3], [6.1, 2.8, 4.7, 1.2]]


def train(stage):
    """Two of scikit-learn, one of XGBoost; returns them."""
    rows, classes = load_iris(return_X_y=True)
    models = {"logistic": LogisticRegression(max_iter=1000).fit(rows, classes), "tree": DecisionTreeClassifier(max_depth=2, random_state=0).fit(rows, classes)}
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


def refused(stage):
    for manifest, words in [
        (deployment("bad", [predictor(stage, "a", "tree", "traffic: 50")]), "Traffic must sum be 100 for a single predictor when set"),
        (deployment("bad", [predictor(stage, "a", "tree"), predictor(stage, "a", "tree")]), "Duplicate predictor name"),
        (deployment("bad", [predictor(stage, "a", "tree", implementation="TRITON_SERVER")]), "spec.predictors[0].graph.implementation: TRITON_SERVER is not served here"),
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
        stage.start_coracle()
        stage.kubectl("create", "namespace", NAMESPACE)
        prepackaged(stage, models)
        split(stage, models)
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
