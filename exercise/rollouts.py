"""Shadows, rollouts and fallbacks with real models under load: what is promised to users is that they notice nothing, or next to nothing.

Usage: rollouts.py CORACLE_BINARY. Everything runs on loopback; the stable model is examples/iris.
"""

import http.client
import http.server
import json
import pathlib
import random
import subprocess
import sys
import threading
import time
import urllib.parse

import joblib
import numpy as np
from scipy import stats
from sklearn.datasets import load_iris
from sklearn.metrics import accuracy_score, cohen_kappa_score, confusion_matrix
from sklearn.tree import DecisionTreeClassifier

from exercise import NAMESPACE, Stage, check, say, wait_until

EXAMPLES = pathlib.Path(__file__).resolve().parent.parent / "examples"
NAME = "iris"
ROW = [6.1, 2.8, 4.7, 1.2]


def service(name, uri):
    return f"""
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {{ name: {name}, namespace: {NAMESPACE} }}
spec:
  predictor:
    model: {{ modelFormat: {{ name: sklearn }}, storageUri: "{uri}" }}
"""


ROLLOUT = f"""
apiVersion: serving.coracle.dev/v1alpha1
kind: Rollout
metadata: {{ name: careful, namespace: {NAMESPACE} }}
spec:
  inferenceService: {NAME}
  steps:
  - {{ percent: 10, duration: 3s }}
  - {{ percent: 50, duration: 3s }}
  analysis: {{ requestsMin: 40, latencyMax: 5s }}
"""


def train(stage):
    """Models that are nearly as good, one that takes three columns (every request of four fails), and one that never says 2."""
    rows, classes = load_iris(return_X_y=True)
    for name, columns, depth in [("good", 4, 2), ("good-2", 4, 2), ("good-3", 4, 2), ("bad", 3, 2), ("coarse", 4, 1)]:
        (stage.directory / name).mkdir()
        model = DecisionTreeClassifier(max_depth=depth, random_state=0).fit(rows[:, :columns], classes)
        joblib.dump(model, stage.directory / name / "model.joblib")
    good = joblib.load(stage.directory / "good/model.joblib")
    stable = joblib.load(EXAMPLES / "iris/model.joblib")
    differ = [int(a != b) for a, b in zip(stable.predict(rows), good.predict(rows))]
    return rows.tolist(), sum(differ)


def post(connection, rows):
    path = f"/serving/{NAMESPACE}/{NAME}/v1/models/{NAME}:predict"
    connection.request("POST", path, json.dumps({"instances": rows}), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read()), answer.getheader("x-coracle-fallback")


class Load:
    """Some hundred requests a second; counts what they are answered with."""

    def __init__(self, stage):
        self.port, self.statuses, self.stopping = stage.port, {}, False
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        while not self.stopping:
            status, _, _ = post(connection, [ROW])
            self.statuses[status] = self.statuses.get(status, 0) + 1
            time.sleep(0.002)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping = True
        self.thread.join()


def shadow(stage, rows, n_different):
    stage.apply(service("iris-next", f"file://{stage.directory}/good"))
    stage.ns("wait", "--for=condition=Ready", "inferenceservice/iris-next", "--timeout=60s")
    stage.ns("annotate", "isvc", NAME, "serving.coracle.dev/shadow=iris-next")
    connection = http.client.HTTPConnection("127.0.0.1", stage.port)

    def report():
        connection.request("GET", f"/serving/{NAMESPACE}/{NAME}/shadow")
        shadows = json.loads(connection.getresponse().read()).get("shadows", [])
        return shadows[0]["comparisons"][0] if shadows and shadows[0]["comparisons"] else None

    def compared():
        post(connection, rows)
        return report()

    found = wait_until(compared, "copies reach the shadow")
    labels = found["outputs"][0]["labels"]
    n_rows = found["outputs"][0]["rows"]
    expected = 1 - n_different / len(rows)
    # The same rows are asked again and again.
    check(n_rows % len(rows) == 0 and abs(labels["agreementRatio"] - expected) < 1e-9, "the libraries' own agreement", found["outputs"])
    shown = subprocess.run([stage.binary, "shadow", "report", NAME, "-n", NAMESPACE, "--state", stage.state], capture_output=True, text=True)
    check(f"{expected * 100:.2f} % of" in shown.stdout, "coracle shadow report", shown.stdout + shown.stderr)
    drift(stage, connection, rows)
    # A shadow that always fails.
    stage.apply(service("iris-next", f"file://{stage.directory}/bad"))
    with Load(stage) as load:
        wait_until(lambda: any(one["name"] == "failed" and one["count"] > 20 for one in (report() or {"outcomes": []})["outcomes"]), "a shadow fails")
    check(list(load.statuses) == [200], "a failing shadow fails no request", load.statuses)
    stage.ns("annotate", "isvc", NAME, "serving.coracle.dev/shadow-")
    say(f"shadow: {n_different} of {len(rows)} flowers would change; {load.statuses[200]} requests, none failed by a failing shadow")


def drift(stage, connection, asked):
    """A shadow that succeeds: what `coracle shadow report --json` says of labels and scores is what the libraries say of the two models, over all rows that were asked."""
    chance = np.random.default_rng(3)
    asked = np.array(asked)
    rows = chance.uniform(asked.min(axis=0), asked.max(axis=0), (600, 4))
    for part in np.split(rows, 12):
        inputs = [{"name": "X", "shape": list(part.shape), "datatype": "FP64", "data": part.ravel().tolist()}]
        body = {"inputs": inputs, "outputs": [{"name": "predict"}, {"name": "predict_proba"}]}
        connection.request("POST", f"/serving/{NAMESPACE}/{NAME}/v2/models/{NAME}/infer", json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        check(answer.status == 200, "labels and scores", answer.read())

    def told():
        shown = subprocess.run([stage.binary, "shadow", "report", NAME, "-n", NAMESPACE, "--state", stage.state, "--json"], capture_output=True, text=True)
        outputs = {one["name"]: one for one in json.loads(shown.stdout)["comparisons"][0]["outputs"]}
        return outputs if outputs.get("predict_proba", {}).get("rows") == len(rows) else None

    outputs = wait_until(told, "all copies reach the shadow")
    stable, shadow = (joblib.load(path) for path in (EXAMPLES / "iris/model.joblib", stage.directory / "good/model.joblib"))
    # The flowers were asked before, some times over.
    times, rest = divmod(outputs["predict"]["rows"] - len(rows), len(asked))
    check(rest == 0, "every row is compared", outputs["predict"])
    everything = np.concatenate([np.tile(asked, (times, 1)), rows])
    given, copied = (model.predict(everything) for model in (stable, shadow))
    labels = outputs["predict"]["labels"]
    check(np.isclose(labels["agreementRatio"], accuracy_score(given, copied), rtol=1e-12), "agreement is scikit-learn's", labels)
    check(np.isclose(labels["cohensKappa"], cohen_kappa_score(given, copied), rtol=1e-9), "kappa is scikit-learn's", labels)
    confusion = {(int(one["stable"]), int(one["shadow"])): one["count"] for one in labels["confusion"]}
    expected = confusion_matrix(given, copied)
    check(confusion == {(a, b): n for (a, b), n in np.ndenumerate(expected) if n}, "the confusion matrix is scikit-learn's", labels)
    given, copied = (model.predict_proba(rows) for model in (stable, shadow))
    numbers, differences = outputs["predict_proba"]["numbers"], copied - given
    check(np.isclose(numbers["differenceMean"], differences.mean(), atol=1e-12), "mean difference", numbers)
    check(np.isclose(numbers["differenceDeviation"], differences.std(ddof=1), rtol=1e-9), "deviation of differences", numbers)
    check(np.isclose(numbers["distanceMax"], abs(differences).max(), rtol=1e-12), "greatest distance", numbers)
    for column, shown in enumerate(numbers["columns"]):
        counts = []
        for scores, name in [(given[:, column], "stable"), (copied[:, column], "shadow")]:
            bins = np.bincount(np.searchsorted(shown["edges"], scores, side="right"), minlength=len(shown["edges"]) + 1)
            check(shown[name] == bins.tolist(), f"scores of the {name} model by bin", (column, shown, bins))
            counts.append(bins)
        # The index is the divergence of Kullback and Leibler in both directions, with half a count added to each bin.
        p, q = (bins + 0.5 for bins in counts)
        check(np.isclose(shown["stabilityIndex"], stats.entropy(p, q) + stats.entropy(q, p), rtol=1e-9), "the stability index is SciPy's", shown)
        # Of scores that are told apart by bin only.
        binned = [np.repeat(np.arange(len(bins)), bins) for bins in counts]
        check(np.isclose(shown["kolmogorovSmirnov"], stats.ks_2samp(*binned).statistic, rtol=1e-9), "the distance is SciPy's", shown)
    say(f"a shadow that succeeds: agreement, kappa, distances and drift of {len(everything)} rows are scikit-learn's and SciPy's")


def mirror(stage):
    """An Experiment of Seldon Core v2 with a mirror is a shadow as long as it is there."""
    experiment = {
        "apiVersion": "mlops.seldon.io/v1alpha1",
        "kind": "Experiment",
        "metadata": {"name": "mirror", "namespace": NAMESPACE},
        "spec": {"default": NAME, "candidates": [{"name": NAME, "weight": 100}], "mirror": {"name": "iris-next", "percent": 100}},
    }
    stage.apply(service("iris-next", f"file://{stage.directory}/good-2"))
    stage.apply(json.dumps(experiment))
    stage.ns("wait", "--for=condition=ExperimentReady", "experiments.mlops.seldon.io/mirror", "--timeout=60s")
    connection = http.client.HTTPConnection("127.0.0.1", stage.port)

    def agreed():
        post(connection, [ROW])
        connection.request("GET", f"/serving/{NAMESPACE}/{NAME}/shadow")
        shadows = json.loads(connection.getresponse().read()).get("shadows", [])
        found = shadows and shadows[0]["comparisons"]
        return found and any(one["name"] == "agreed" and one["count"] > 0 for one in found[0]["outcomes"])

    wait_until(agreed, "copies reach the mirror")
    experiment["spec"]["candidates"].append({"name": "other", "weight": 50})
    rc, shown = stage.kubectl("apply", "-f", "-", stdin=json.dumps(experiment), check_rc=False)
    check(rc != 0 and "spec.candidates[1]" in shown, "weights between services are refused", shown)
    stage.ns("delete", "experiments.mlops.seldon.io", "mirror")
    say("a mirror of Seldon Core v2 gets copies")


class Buyers(Load):
    """Requests for all kinds of flowers, of which some come to a purchase: every second one, if `canary_rate` says nothing else of the canary's."""

    def __init__(self, stage, rows, rollout, canary_rate=0.5):
        super().__init__(stage)
        self.rows, self.rollout, self.canary_rate = rows, rollout, canary_rate

    def run(self):
        chance, told = random.Random(7), []
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        while not self.stopping:
            path = f"/serving/{NAMESPACE}/{NAME}/v1/models/{NAME}:predict"
            connection.request("POST", path, json.dumps({"instances": [chance.choice(self.rows)]}), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            self.statuses[answer.status] = self.statuses.get(answer.status, 0) + 1
            variant = answer.getheader("x-coracle-variant")
            rate = self.canary_rate if variant == "canary" else 0.5
            if variant:
                told.append({"requestId": answer.getheader("x-request-id"), "metric": "bought", "value": int(chance.random() < rate)})
            if len(told) >= 50:
                connection.request("POST", f"/serving/{NAMESPACE}/{NAME}/rollouts/{self.rollout}/outcomes", json.dumps(told))
                answer = connection.getresponse()
                # Between stages nobody takes any.
                self.told = (answer.status, answer.read())
                told = []
            time.sleep(0.002)


class Prometheus(http.server.ThreadingHTTPServer):
    """Answers queries with a number, or not at all."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), PrometheusAnswers)
        self.numbers, self.asked = {}, []
        threading.Thread(target=self.serve_forever, daemon=True).start()


class PrometheusAnswers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        query = urllib.parse.parse_qs(urllib.parse.urlparse(self.path).query)["query"][0]
        self.server.asked.append(query)
        number = self.server.numbers.get(query[-6:-1])
        result = [] if number is None else [{"metric": {}, "value": [time.time(), str(number)]}]
        body = json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def metrics(stage, rows):
    """Outcomes, predictions and Prometheus decide, with real models."""
    spec = json.loads(stage.ns("get", "rollout", "careful", "-o", "json"))["spec"]
    prometheus = Prometheus()
    spec["analysis"] |= {
        "predictions": {},
        "metrics": [
            {"name": "bought", "type": "Conversion", "margin": 0.1},
            {"name": "orders", "type": "Prometheus", "address": f"http://127.0.0.1:{prometheus.server_port}",
             "query": "sum(orders{{revision}})", "margin": 1, "interval": "1s", "looks": 2},
        ],
    }
    stage.ns("patch", "rollout", "careful", "--type", "merge", "-p", json.dumps({"spec": spec}))

    def until(phase, uri, seconds=90):
        before = status(stage).get("canaryRevision")
        change(stage, f"file://{stage.directory}/{uri}")
        wait_until(lambda: status(stage).get("canaryRevision") != before and status(stage).get("phase") == phase, f"{uri}: {phase}", seconds)
        return status(stage)["message"]

    # By revisions' last five digits: all orders are as many.
    prometheus.numbers = {f"{n:05}": 10 for n in range(1, 20)}
    with Buyers(stage, rows, "careful", canary_rate=0.2) as load:
        message = until("RolledBack", "good-2")
        check("bought 0." in message and "evidence" in message, "fewer purchases take a revision back", message)
    with Buyers(stage, rows, "careful") as load:
        message = until("RolledBack", "coarse")
        check("predictions of predict: stability index" in message, "other predictions take a revision back", message)
    check(list(load.statuses) == [200], "nobody notices", load.statuses)
    with Buyers(stage, rows, "careful") as load:
        change(stage, f"file://{stage.directory}/good-3")
        # The new revision's number is not there yet: nothing goes on.
        canary = wait_until(lambda: status(stage).get("percent") == 10 and status(stage)["canaryRevision"], "the first stage", 30)
        prometheus.numbers.pop(canary[-5:])
        waits = wait_until(lambda: "no result yet" in status(stage)["message"] and status(stage)["message"], "a number that is not there", 60)
        check("not known yet: orders" in waits and status(stage)["step"] == 1, "what is not known holds", waits)
        check("RolloutWaits" in stage.ns("get", "events"), "an event tells what it waits for")
        prometheus.numbers[canary[-5:]] = 8
        wait_until(lambda: status(stage).get("phase") == "RolledBack", "fewer orders")
        check("orders 8 of the canary, 10 of the stable revision" in status(stage)["message"], "Prometheus takes a revision back", status(stage))
        prometheus.numbers[canary[-5:]] = 10
        stage.ns("annotate", "rollout", "careful", "serving.coracle.dev/rollout=retry")
        wait_until(lambda: status(stage).get("phase") == "Promoted", "a revision that is as good", 120)
    check(list(load.statuses) == [200] and load.told[0] == 200, "nobody notices", (load.statuses, load.told))
    shown = subprocess.run([stage.binary, "rollout", "status", "careful", "-n", NAMESPACE, "--state", stage.state], capture_output=True, text=True)
    for words in ["Passed    bought 0.", "Passed    orders 10 of the canary", "Passed    predictions of predict"]:
        check(words in shown.stdout, "coracle rollout status", shown.stdout + shown.stderr)
    prometheus.shutdown()
    say("purchases, predictions and Prometheus took revisions back, what was not known held one, and one that is as good was promoted; no request failed")


def status(stage):
    return json.loads(stage.ns("get", "rollout", "careful", "-o", "json")).get("status", {})


def change(stage, uri):
    stage.ns("patch", "isvc", NAME, "--type", "merge", "-p", json.dumps({"spec": {"predictor": {"model": {"storageUri": uri}}}}))


def rollouts(stage):
    stage.apply(ROLLOUT)
    wait_until(lambda: status(stage).get("phase") == "Idle", "a rollout that has nothing to do")
    with Load(stage) as load:
        wait_until(lambda: load.statuses.get(200, 0) > 300, "requests")
        before = sum(load.statuses.values())
        change(stage, f"file://{stage.directory}/bad")
        started = time.monotonic()
        wait_until(lambda: status(stage).get("phase") == "RolledBack", "a bad revision goes back", 30)
        seconds = time.monotonic() - started
        since = sum(load.statuses.values()) - before
    stage.ns("wait", "--for=condition=Ready", f"inferenceservice/{NAME}", "--timeout=60s")
    failed = load.statuses.get(400, 0)
    check(set(load.statuses) <= {200, 400} and failed * 20 < load.statuses[200], "few requests meet a bad revision", load.statuses)
    # The first stage's share of them, of which one may be on its way.
    check(failed <= since / 10 + 1, "no more than the stage's share", (failed, since))
    check("errors 100.00 % of the canary" in status(stage)["message"], "the reasons are told", status(stage))
    check("RolloutRolledBack" in stage.ns("get", "events"), "an event tells")
    say(f"a bad revision went back {seconds:.1f} s after the change; {failed} of {sum(load.statuses.values())} requests met it")
    with Load(stage) as load:
        change(stage, f"file://{stage.directory}/good")
        wait_until(lambda: status(stage).get("percent") == 10, "the first stage", 30)
        # In the middle of a stage.
        before = status(stage)["canaryRevision"]
        subprocess.run(["pkill", "-9", "-f", f"coracle control.*{stage.state}"], check=True)
        wait_until(lambda: stage.kubectl("get", "ns", check_rc=False)[0] == 0 and status(stage).get("phase") == "Promoted", "a good revision is promoted")
    check(list(load.statuses) == [200] and status(stage)["canaryRevision"] == before, "a good revision and a restart fail nothing", load.statuses)
    say(f"a good revision was promoted, across the end of the control process; {load.statuses[200]} requests, none failed")


class Users(Load):
    """Requests of 400 users. One of those who have the new revision asks as often as all others together, and all their requests fail, whoever answers them."""

    def __init__(self, stage):
        super().__init__(stage)
        self.busy, self.variants = None, {}

    def ask(self, connection, user, row):
        path = f"/serving/{NAMESPACE}/{NAME}/v1/models/{NAME}:predict"
        connection.request("POST", path, json.dumps({"instances": [row]}), {"Content-Type": "application/json", "x-user": user})
        answer = connection.getresponse()
        answer.read()
        key = ("busy" if user == self.busy else "others", answer.status)
        self.statuses[key] = self.statuses.get(key, 0) + 1
        return answer.getheader("x-coracle-variant")

    def run(self):
        chance = random.Random(11)
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        while not self.stopping:
            user = f"u{chance.randrange(400)}"
            if user != self.busy and self.ask(connection, user, ROW) == "canary" and self.busy is None:
                self.busy = user
            if self.busy is not None:
                # Three numbers where four are asked for.
                self.ask(connection, self.busy, ROW[:3])
            time.sleep(0.002)


def users(stage):
    """Users are split and judged: one who fails always takes no good revision back, and one that fails for all goes back."""
    spec = {"analysis": {"unit": {"header": "x-user"}, "requestsMin": 40, "latencyMax": "5s", "metrics": None, "predictions": None}}
    stage.ns("patch", "rollout", "careful", "--type", "merge", "-p", json.dumps({"spec": spec}))
    for name in ["good-7", "bad-2"]:
        (stage.directory / name).mkdir()
        (stage.directory / name / "model.joblib").write_bytes((stage.directory / name[:-2] / "model.joblib").read_bytes())
    with Users(stage) as load:
        before = status(stage).get("canaryRevision")
        change(stage, f"file://{stage.directory}/good-7")
        wait_until(lambda: status(stage).get("canaryRevision") != before and status(stage)["phase"] in ("Promoted", "RolledBack"), "a revision with a user who fails always", 60)
    now = status(stage)
    failed = load.statuses.get(("busy", 400), 0)
    check(now["phase"] == "Promoted" and failed > 40, "one user takes no good revision back", (now, load.statuses))
    check(not any(key == "others" and code != 200 for key, code in load.statuses), "no other user notices", load.statuses)
    errors_of = next(one for one in now["checks"] if one["name"] == "errors")
    check("by unit (cluster-robust)" in errors_of["message"], "the method is named", errors_of)
    say(f"one user whose {failed} requests all failed took no good revision back ({errors_of['message']})")
    with Users(stage) as load:
        change(stage, f"file://{stage.directory}/bad-2")
        started = time.monotonic()
        wait_until(lambda: status(stage).get("canaryRevision") != now["canaryRevision"] and status(stage)["phase"] == "RolledBack", "a revision that fails for everybody", 30)
        seconds = time.monotonic() - started
    check("by unit" in status(stage)["message"], "the reasons are told", status(stage))
    say(f"one that failed for everybody went back {seconds:.1f} s after the change")
    stage.ns("patch", "rollout", "careful", "--type", "merge", "-p", json.dumps({"spec": {"analysis": {"unit": None}}}))


def chaos(stage):
    """A canary that fails on purpose: its rollout takes it back, and users notice nothing."""
    def coracle(*arguments):
        return subprocess.run([stage.binary, "chaos", *arguments, "--state", stage.state], capture_output=True, text=True)

    spec = {"analysis": {"metrics": None, "predictions": None}}
    stage.ns("patch", "rollout", "careful", "--type", "merge", "-p", json.dumps({"spec": spec}))
    stage.ns("annotate", "isvc", NAME, 'serving.coracle.dev/fallback={"predict": 1}', "serving.coracle.dev/retries=2")
    (stage.directory / "good-4").mkdir()
    (stage.directory / "good-4/model.joblib").write_bytes((stage.directory / "good/model.joblib").read_bytes())
    newest = stage.ns("get", "isvc", NAME, "-o", "jsonpath={.status.components.predictor.latestReadyRevision}")
    canary = f"{NAME}-predictor-{int(newest[-5:]) + 1:05}"
    faults = ("set", f"{NAMESPACE}/{canary}", "--errors", "1", "--latency", "5ms", "--load-delay", "2s", "--for", "5m")
    shown = coracle(*faults)
    check("allow-absent" in shown.stderr and "no faults" in coracle("list").stdout, "a target that is not served is refused", shown.stdout + shown.stderr)
    shown = coracle(*faults, "--allow-absent")
    check(f"{NAMESPACE}/{canary}" in shown.stdout, "coracle chaos set", shown.stdout + shown.stderr)
    with Load(stage) as load:
        change(stage, f"file://{stage.directory}/good-4")
        wait_until(lambda: status(stage).get("phase") == "RolledBack" and status(stage)["canaryRevision"] == canary, "a canary under chaos goes back", 60)
    check(list(load.statuses) == [200], "nobody notices", load.statuses)
    shown = coracle("list").stdout
    check("errors 100 %" in shown and "struck 0" not in shown, "coracle chaos list", shown)
    shown = subprocess.run([stage.binary, "status", "--state", stage.state], capture_output=True, text=True).stdout
    check(f"chaos       {NAMESPACE}/{canary}" in shown, "coracle status", shown)
    check("cleared: 1" in coracle("clear").stdout and "no faults" in coracle("list").stdout, "coracle chaos clear")
    # Copies for a shadow are struck, too; who asks the service notices nothing.
    stage.ns("annotate", "isvc", NAME, "serving.coracle.dev/shadow=iris-next")
    stage.apply(service("iris-next", f"file://{stage.directory}/good-4"))
    stage.ns("wait", "--for=condition=Ready", "inferenceservice/iris-next", "--timeout=60s")
    coracle("set", f"{NAMESPACE}/iris-next", "--errors", "1", "--code", "resource_exhausted", "--for", "5m")
    with Load(stage) as load:
        wait_until(lambda: "struck 0" not in coracle("list").stdout, "copies are struck")
        wait_until(lambda: sum(load.statuses.values()) > 100, "requests")
    check(list(load.statuses) == [200], "nobody notices that a shadow fails on purpose", load.statuses)
    coracle("clear")
    stage.ns("annotate", "isvc", NAME, "serving.coracle.dev/shadow-")
    stage.ns("annotate", "isvc", NAME, "serving.coracle.dev/fallback-", "serving.coracle.dev/retries-")
    say(f"a canary that failed on purpose went back; {load.statuses[200]} requests, none failed")


def borderline(stage):
    """Canaries that are hardly worse: one within what is tolerated is promoted, one just beyond it goes back. Users notice neither."""
    def coracle(*arguments):
        done = subprocess.run([stage.binary, "chaos", *arguments, "--state", stage.state], capture_output=True, text=True)
        check(done.returncode == 0, "coracle chaos", done.stdout + done.stderr)

    stage.ns("annotate", "isvc", NAME, 'serving.coracle.dev/fallback={"predict": 1}')
    # Both fail: what strikes the revision that serves, too, is no evidence. The margin is what one may fail more often than the other.
    for name, errors, margin, phase in [("good-5", "0.08", 0.2, "Promoted"), ("good-6", "0.12", 0.05, "RolledBack")]:
        (stage.directory / name).mkdir()
        (stage.directory / name / "model.joblib").write_bytes((stage.directory / "good/model.joblib").read_bytes())
        newest = stage.ns("get", "isvc", NAME, "-o", "jsonpath={.status.components.predictor.latestReadyRevision}")
        canary = f"{NAME}-predictor-{int(newest[-5:]) + 1:05}"
        stage.ns("patch", "rollout", "careful", "--type", "merge", "-p", json.dumps({"spec": {"analysis": {"errorRateMargin": margin}}}))
        coracle("set", f"{NAMESPACE}/{canary}", "--errors", errors, "--for", "5m", "--allow-absent")
        with Load(stage) as load:
            change(stage, f"file://{stage.directory}/{name}")
            wait_until(lambda: status(stage).get("phase") == phase and status(stage)["canaryRevision"] == canary, f"{name}: {phase}", 90)
        check(list(load.statuses) == [200], "nobody notices a canary that is hardly worse", load.statuses)
        errors_of = next(one for one in status(stage)["checks"] if one["name"] == "errors")
        check((errors_of["state"] == "Failed") == (phase == "RolledBack"), "the check says why", errors_of)
        say(f"a canary that failed {float(errors):.0%} of its calls, where {margin:.0%} more are tolerated, was {'promoted' if phase == 'Promoted' else 'taken back'}; {load.statuses[200]} requests, none failed")
        coracle("clear")
    stage.ns("annotate", "isvc", NAME, "serving.coracle.dev/fallback-")


def stands_in(stage):
    """A model that fails each call, under load: another service, the last good answer and the default prediction answer, and nobody's request fails."""
    def coracle(*arguments):
        done = subprocess.run([stage.binary, "chaos", *arguments, "--state", stage.state], capture_output=True, text=True)
        check(done.returncode == 0, "coracle chaos", done.stdout + done.stderr)

    connection = http.client.HTTPConnection("127.0.0.1", stage.port)

    def ask(user):
        path = f"/serving/{NAMESPACE}/{NAME}/v1/models/{NAME}:predict"
        connection.request("POST", path, json.dumps({"instances": [ROW]}), {"Content-Type": "application/json", "x-user": user})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read()), answer.getheader("x-coracle-fallback")

    stage.apply(service("iris-next", f"file://{stage.directory}/coarse"))
    stage.ns("wait", "--for=condition=Ready", "inferenceservice/iris-next", "--timeout=60s")
    coarse = int(joblib.load(stage.directory / "coarse/model.joblib").predict([ROW])[0])
    stage.ns("annotate", "isvc", NAME, "serving.coracle.dev/fallback=2", "serving.coracle.dev/fallback-last-good=x-user")
    # What is answered before the annotations are in force is not kept.
    coracle("set", f"{NAMESPACE}/{NAME}", "--errors", "1", "--for", "5m")
    wait_until(lambda: ask("eve") == (200, {"predictions": [2]}, "constant"), "the annotations are in force")
    coracle("clear", f"{NAMESPACE}/{NAME}")
    wait_until(lambda: ask("ann")[2] is None, "an answer of the model's own")
    status, own, source = ask("ann")
    check((status, source) == (200, None), "the model answers again", (status, own, source))
    with Load(stage) as load:
        wait_until(lambda: load.statuses.get(200, 0) > 100, "requests")
        coracle("set", f"{NAMESPACE}/{NAME}", "--errors", "1", "--for", "5m")
        wait_until(lambda: ask("eve") == (200, {"predictions": [2]}, "constant"), "the default prediction")
        check(ask("ann") == (200, own, "last-good"), "who was answered gets what he was told last", ask("ann"))
        stage.ns("annotate", "isvc", NAME, "serving.coracle.dev/fallback-service=iris-next")
        wait_until(lambda: ask("ann") == (200, {"predictions": [coarse]}, "service"), "another service's model answers")
        n_before = sum(load.statuses.values())
        wait_until(lambda: sum(load.statuses.values()) > n_before + 200, "requests")
    check(list(load.statuses) == [200], "a model that always fails fails nobody", load.statuses)
    coracle("clear")
    annotations = [f"serving.coracle.dev/fallback{which}-" for which in ("", "-last-good", "-service")]
    stage.ns("annotate", "isvc", NAME, *annotations)
    say(f"another service, the last good answer and the default prediction stood in for a model that failed always; {load.statuses[200]} requests, none failed")


def fallback(stage):
    stage.ns("delete", "rollout", "careful")
    stage.ns("annotate", "isvc", NAME, 'serving.coracle.dev/fallback={"predict": 1}', "serving.coracle.dev/fallback-timeout=1ms")
    connection = http.client.HTTPConnection("127.0.0.1", stage.port)

    def stood_in():
        status, body, fallback = post(connection, [ROW] * 20000)
        check(status == 200, "a slow call is answered", body)
        return (body, fallback) if fallback else None

    body, fallback = wait_until(stood_in, "a call that takes too long is stood in for")
    check(fallback == "constant" and body == {"predictions": [1] * 20000}, "the default prediction", fallback)
    status, body, fallback = post(connection, [ROW])
    check((status, fallback) == (200, None), "who is answered in time gets the model's answer", body)
    say("a default prediction stands in for what takes too long, and says so")


def main():
    stage = Stage(sys.argv[1])
    try:
        rows, n_different = train(stage)
        stage.start_coracle("--chaos")
        stage.kubectl("create", "namespace", NAMESPACE)
        stage.apply(service(NAME, f"file://{EXAMPLES}/iris"))
        stage.ns("wait", "--for=condition=Ready", f"inferenceservice/{NAME}", "--timeout=60s")
        shadow(stage, rows, n_different)
        mirror(stage)
        rollouts(stage)
        metrics(stage, rows)
        users(stage)
        chaos(stage)
        borderline(stage)
        stands_in(stage)
        fallback(stage)
    except BaseException:
        log = stage.directory / "coracle.log"
        print(log.read_text()[-3000:] if log.exists() else "", file=sys.stderr)
        raise
    finally:
        stage.close()
    print("rollouts are done")


if __name__ == "__main__":
    main()
