"""Experiments with real models under load: units keep their variant, nothing that was acknowledged is lost, the numbers are SciPy's, no request fails.

Usage: experiments.py CORACLE_BINARY. Everything runs on loopback; the control's model is examples/iris.
"""

import http.client
import json
import math
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time

import joblib
import numpy as np
import tritonclient.grpc as triton
from scipy import optimize, special, stats
from sklearn.datasets import load_iris
from sklearn.tree import DecisionTreeClassifier

from exercise import NAMESPACE, Stage, check, say, wait_until

EXAMPLES = pathlib.Path(__file__).resolve().parent.parent / "examples"
NAME = "iris"
USERS = [f"user-{index}" for index in range(1500)]


def service(name, uri, extra=""):
    return f"""
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {{ name: {name}, namespace: {NAMESPACE} }}
spec:
  predictor:
    {extra}
    model: {{ modelFormat: {{ name: sklearn }}, storageUri: "{uri}" }}
"""


def experiment(name, spec):
    return json.dumps({
        "apiVersion": "serving.coracle.dev/v1alpha1", "kind": "Experiment", "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"inferenceService": NAME, **spec},
    })


METRICS = [
    {"name": "converted", "type": "Conversion", "expectedDifference": 0.1},
    {"name": "spent", "type": "Mean", "expectedDifference": 1, "role": "Secondary"},
    {"name": "errors", "type": "Errors"},
    {"name": "quick", "type": "Conversion", "window": "10s", "missing": "Zero", "role": "Secondary"},
]


def train(stage):
    """A model that differs from the control's; returns a row by which the two are told apart."""
    rows, classes = load_iris(return_X_y=True)
    (stage.directory / "next").mkdir()
    next_model = DecisionTreeClassifier(max_depth=1, random_state=0).fit(rows, classes)
    joblib.dump(next_model, stage.directory / "next/model.joblib")
    old = joblib.load(EXAMPLES / "iris/model.joblib")
    return next((row.tolist(), int(a), int(b)) for row, a, b in zip(rows, old.predict(rows), next_model.predict(rows)) if a != b)


class Client:
    """One connection to the gateway, made anew when the server was."""

    def __init__(self, stage):
        self.stage, self.connection = stage, None

    def request(self, method, path, body=None, headers={}):
        while True:
            self.connection = self.connection or http.client.HTTPConnection("127.0.0.1", self.stage.port)
            try:
                self.connection.request(method, path, body, {"Content-Type": "application/json", **headers})
                answer = self.connection.getresponse()
                return answer.status, answer.read(), answer.headers
            except (OSError, http.client.HTTPException):
                self.connection = None
                time.sleep(0.05)

    def predict(self, row, user=None, body={}, name=NAME):
        headers = {"x-user": user} if user else {}
        path = f"/serving/{NAMESPACE}/{name}/v1/models/{name}:predict"
        status, answer, headers = self.request("POST", path, json.dumps({"instances": [row], **body}), headers)
        check(status == 200, "a request", (status, answer))
        return json.loads(answer)["predictions"][0], headers

    def outcomes(self, name, body):
        text = body if isinstance(body, str) else json.dumps(body)
        status, answer, _ = self.request("POST", f"/serving/{NAMESPACE}/{NAME}/experiments/{name}/outcomes", text)
        return status, json.loads(answer)

    def report(self, name):
        status, answer, _ = self.request("GET", f"/serving/{NAMESPACE}/{NAME}/experiments/{name}")
        return json.loads(answer) if status == 200 else None


class Load:
    """Requests of all users in turn; their variants are noted, and none may fail."""

    def __init__(self, stage, row):
        self.stage, self.row, self.variants, self.n_requests, self.stopping, self.failure = stage, row, {}, 0, False, None
        self.threads = [threading.Thread(target=self.run, args=(part,), daemon=True) for part in range(2)]

    def run(self, part):
        client = Client(self.stage)
        try:
            while not self.stopping:
                for user in USERS[part::2]:
                    _, headers = client.predict(self.row[0], user)
                    self.variants.setdefault(user, set()).add(headers["x-coracle-variant"])
                    self.n_requests += 1
                    if self.stopping:
                        return
        except BaseException as failure:
            self.failure = failure

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping = True
        for thread in self.threads:
            thread.join()
        check(self.failure is None, "no request fails under load", self.failure)


def status(stage, name):
    return json.loads(stage.ns("get", "experiment", name, "-o", "json")).get("status", {})


def phase(stage, name, expected):
    wait_until(lambda: status(stage, name).get("phase") == expected, f"experiment {name} is {expected}: {status(stage, name)}")


def cli(stage, *arguments):
    command = [stage.binary, "experiment", *arguments, "-n", NAMESPACE, "--state", stage.state]
    done = subprocess.run(command, capture_output=True, text=True)
    check(done.returncode == 0, " ".join(arguments), done.stdout + done.stderr)
    return done.stdout


def patch(stage, name, spec):
    stage.ns("patch", "experiment", name, "--type", "merge", "-p", json.dumps({"spec": spec}))


def split(stage, client, row):
    """Users are split, stay where they are, and the model of their variant answers."""
    variants, requests = {}, {}
    for user in USERS:
        prediction, headers = client.predict(row[0], user)
        variant = headers["x-coracle-variant"]
        check(headers["x-coracle-experiment"] == "ab" and prediction == row[1 if variant == "control" else 2], "the variant's model answers", (variant, prediction))
        variants[user], requests[user] = variant, headers["x-request-id"]
        if is_quick(user):
            code, answer = client.outcomes("ab", {"unit": user, "metric": "quick", "value": 1})
            check((code, answer["accepted"]) == (200, 1), "an outcome within its window", answer)
    again = {user: client.predict(row[0], user)[1]["x-coracle-variant"] for user in USERS}
    check(variants == again, "units stay")
    prediction, headers = client.predict(row[0])
    check((prediction, headers["x-coracle-variant"], headers["x-coracle-experiment"]) == (row[1], "control", None), "who has no unit gets the control")
    prediction, headers = client.predict(row[0], "tester")
    check((prediction, headers["x-coracle-variant"]) == (row[2], "treatment"), "an override")
    over_grpc(stage, row, variants)
    return variants, requests


def is_quick(user):
    return int(user.removeprefix("user-")) % 3 == 0


def bets(client, variants):
    """Rates by betting are SciPy's, once all windows have closed; what is told then is late."""
    settled = lambda: {one["name"]: one["metrics"]["quick"]["settled"] for one in client.report("ab")["variants"]}
    wait_until(lambda: sum(one["units"] for one in settled().values()) == len(USERS), "all windows have closed")
    code, answer = client.outcomes("ab", {"unit": "user-1", "metric": "quick", "value": 1})
    check((code, answer["accepted"], answer["late"]) == (200, 0, 1), "an outcome after its window", answer)
    for variant, found in settled().items():
        users = [user for user, of in variants.items() if of == variant]
        n, k = len(users), sum(map(is_quick, users))
        check((found["units"], "betting" in found["method"]) == (n, True) and math.isclose(found["mean"], k / n), "a rate", (found, k, n))
        # The capital of a Beta(1/2, 1/2) mixture of bets against a rate; at 20 times what it began with the rate is out.
        excess = lambda rate: special.betaln(k + 0.5, n - k + 0.5) - special.betaln(0.5, 0.5) - k * math.log(rate) - (n - k) * math.log1p(-rate) - math.log(20)
        for bound, outer in (("low", 1e-12), ("high", 1 - 1e-12)):
            expected = optimize.brentq(excess, *sorted((outer, k / n)), xtol=1e-14)
            check(math.isclose(found[bound], expected, rel_tol=1e-9), f"the {bound} bound of a rate", (found, expected))


def over_grpc(stage, row, variants):
    client = triton.InferenceServerClient(f"127.0.0.1:{stage.port}")
    tensor = triton.InferInput("X", [1, 4], "FP64")
    tensor.set_data_from_numpy(np.array([row[0]]))
    for user in USERS[:20]:
        answer = client.infer(NAME, [tensor], headers={"x-user": user}).as_numpy("predict")
        check(answer.tolist() == [row[1 if variants[user] == "control" else 2]], "the same variant over gRPC", answer)
    client.close()


def outcomes(client, variants, requests):
    """What came of it: by request and by unit, zeros and missing ones, again and again, and with mistakes."""
    draw = random.Random(7)
    rates, converted, spent = {"control": 0.2, "treatment": 0.45}, {}, {}
    for user in USERS:
        if draw.random() < 0.9:
            converted[user] = int(draw.random() < rates[variants[user]])
            spent[user] = round(draw.gauss(20, 5), 2)
    entries = [{"requestId": requests[user], "metric": "converted", "value": value, "id": f"c-{user}"} for user, value in converted.items()]
    for begin in range(0, len(entries), 500):
        code, answer = client.outcomes("ab", entries[begin:begin + 500])
        check(code == 200 and answer["accepted"] == len(entries[begin:begin + 500]) and not answer["errors"], "outcomes by request", answer)
    lines = "\n".join(json.dumps({"unit": user, "metrics": {"spent": value}, "id": f"s-{user}"}) for user, value in spent.items())
    code, answer = client.outcomes("ab", lines)
    check(code == 200 and answer["accepted"] == len(spent), "outcomes by unit, a line each", answer)
    code, answer = client.outcomes("ab", entries[:100])
    check((code, answer["accepted"], answer["duplicates"]) == (200, 0, 100), "what comes again is not counted again", answer)
    mixed = [entries[0], {"unit": "nobody", "metric": "spent", "value": 1}, {"unit": USERS[0], "metric": "spent", "value": None}, {"unit": USERS[0], "metric": "odd", "value": 1}]
    code, answer = client.outcomes("ab", mixed)
    check((code, answer["duplicates"], [error["entry"] for error in answer["errors"]]) == (200, 1, [1, 2, 3]), "mistakes are told by entry", answer)
    check(client.outcomes("ab", {"unit": "nobody", "metric": "spent", "value": 1})[0] == 400, "a single mistake is refused")
    return converted, spent


def numbers(report, variants, converted, spent):
    """The report's numbers are SciPy's."""
    def side(values, variant):
        return [value for user, value in values.items() if variants[user] == variant]

    def near(found, expected, what):
        # Relative, since p-values may be tiny; what is below the least number that is normal has few digits.
        check(math.isclose(found, expected, rel_tol=1e-6, abs_tol=sys.float_info.min), what, (found, expected))

    by_metric = {one["metric"]: one for one in report["comparisons"]}
    a, b = side(converted, "control"), side(converted, "treatment")
    found = by_metric["converted"]
    check((found["ofControl"]["units"], found["ofVariant"]["units"]) == (len(a), len(b)), "missing is not zero", found)
    near(found["fixed"]["difference"], np.mean(b) - np.mean(a), "the difference")
    table = [[sum(a), len(a) - sum(a)], [sum(b), len(b) - sum(b)]]
    near(found["fixed"]["pValue"], stats.chi2_contingency(table, correction=False).pvalue, "the two-proportion test")
    near(found["exact"]["pValue"], stats.fisher_exact(table).pvalue, "Fisher's test")
    a, b = side(spent, "control"), side(spent, "treatment")
    found = by_metric["spent"]
    expected = stats.ttest_ind(b, a, equal_var=False)
    interval = expected.confidence_interval(0.95)
    near(found["fixed"]["pValue"], expected.pvalue, "Welch's test")
    near(found["fixed"]["low"], interval.low, "Welch's interval")
    near(found["fixed"]["high"], interval.high, "Welch's interval")
    counts = [sum(variant == name for variant in variants.values()) for name in ("control", "treatment")]
    check([one["units"] for one in report["variants"]] == counts, "units", (report["variants"], counts))
    near(report["split"]["fixed"]["pValue"], stats.chisquare(counts).pvalue, "the split's test")
    check(not report["split"]["anytime"]["isMismatch"] and report["requests"]["exposuresLost"] == 0, "the split is as it should be", report["split"])
    check(report["units"]["overridden"] == 1 and report["requests"]["unassigned"] >= 1, "what is not analysed is counted", report["units"])
    check(all(one[kind]["method"] for one in report["comparisons"][:2] for kind in ("fixed", "anytime", "posterior")), "numbers name their methods")
    check(report["verdict"] == {**report["verdict"], "state": "Better", "variant": "treatment"}, "the better variant is told", report["verdict"])


def ab(stage, client, row):
    stage.apply(service("iris-next", f"file://{stage.directory}/next"))
    stage.ns("wait", "--for=condition=Ready", "inferenceservice/iris-next", "--timeout=60s")
    stage.apply(experiment("ab", {
        "unit": {"header": "x-user"}, "overrides": {"tester": "treatment"}, "metrics": METRICS,
        "variants": [{"name": "control"}, {"name": "treatment", "inferenceService": "iris-next"}],
    }))
    phase(stage, "ab", "Running")
    variants, requests = split(stage, client, row)
    converted, spent = outcomes(client, variants, requests)
    report = client.report("ab")
    numbers(report, variants, converted, spent)
    bets(client, variants)
    shown = cli(stage, "report", "ab")
    check("Better treatment" in shown and "mSPRT" in shown and "betting, Beta mixture" in shown, "coracle experiment report", shown)
    _, page, _ = client.request("GET", f"/serving/{NAMESPACE}/{NAME}/experiments/ab/page")
    check(b"<svg" in page and b"confidence sequence" in page, "the page has its plot")
    say(f"{len(USERS)} users were split {[one['units'] for one in report['variants']]}, and {len(converted) + len(spent)} outcomes are SciPy's numbers")
    return variants, spent, report


def killed(stage, client, row, variants, spent, report):
    """The control process, then everything, is killed under load: units stay, and so does what was told."""
    with Load(stage, row) as load:
        subprocess.run(["pkill", "-9", "-f", f"control --objects {stage.state}"], check=True)
        wait_until(lambda: stage.kubectl("get", "ns", check_rc=False)[0] == 0 and load.n_requests > 1000, "the API is back")
        process = stage.processes["coracle"]
        process.send_signal(signal.SIGKILL)
        process.wait()
        at = load.n_requests
        stage.start_coracle()
        wait_until(lambda: load.n_requests > at + 2 * len(USERS), "requests go on")
    seen = {user: only for user, (*_, only) in load.variants.items() if len(load.variants[user]) == 1}
    check(seen == variants, "no unit has moved", len(seen))
    after = client.report("ab")
    for field in ("outcomes", "units"):
        check(after[field] == report[field], f"{field} are what they were", (report[field], after[field]))
    rounded = lambda values: {name: round(value, 9) for name, value in values.items()}
    same = lambda of: [(one["name"], one["units"], rounded(one["metrics"]["converted"]), rounded(one["metrics"]["spent"])) for one in of["variants"]]
    check(same(after) == same(report), "the sums are what they were", (same(report), same(after)))
    told = next(iter(spent))
    code, answer = client.outcomes("ab", {"unit": told, "metric": "spent", "value": 9, "id": f"s-{told}"})
    check((code, answer["accepted"], answer["duplicates"]) == (200, 0, 1), "ids are remembered", answer)
    again = client.report("ab")
    check(again["outcomes"] == after["outcomes"] and same(again) == same(after), "what comes again after a restart is not counted", (after, again))
    say(f"killed twice under load: {load.n_requests} requests, none failed, no user moved, nothing lost")


def steer(stage, client, row, variants):
    """Weights that grow move units one way; a winner takes all, by rule and by hand."""
    patch(stage, "ab", {"variants": [{"name": "control"}, {"name": "treatment", "inferenceService": "iris-next", "weight": 3}]})
    probe = [user for user in USERS if variants[user] == "control"]
    wait_until(lambda: any(client.predict(row[0], user)[1]["x-coracle-variant"] == "treatment" for user in probe), "weights grow")
    grown = {user: client.predict(row[0], user)[1]["x-coracle-variant"] for user in USERS}
    check(all(grown[user] == "treatment" for user in USERS if variants[user] == "treatment"), "units move only to what grows")
    report = client.report("ab")
    check(report["units"]["severalVariants"] == sum(grown[user] != variants[user] for user in USERS), "who moved is not analysed", report["units"])
    patch(stage, "ab", {"promotion": {"when": "Better"}})
    phase(stage, "ab", "Promoted")
    wait_until(lambda: client.predict(row[0])[0] == row[2], "the winner takes all requests")
    check("ExperimentPromoted" in stage.ns("get", "events"), "an event tells")
    refused = subprocess.run([stage.binary, "experiment", "resume", "ab", "-n", NAMESPACE, "--state", stage.state], capture_output=True, text=True)
    check(refused.returncode != 0 and "by spec.promotion it ends again at once" in refused.stderr, "what its rule ends at once is not resumed", refused)
    patch(stage, "ab", {"promotion": None})
    cli(stage, "stop", "ab")
    phase(stage, "ab", "Stopped")
    wait_until(lambda: client.predict(row[0], "tester")[0] == row[1], "the control takes all requests")
    cli(stage, "promote", "ab", "treatment")
    phase(stage, "ab", "Promoted")
    cli(stage, "resume", "ab")
    phase(stage, "ab", "Running")
    check("phase       Running" in cli(stage, "status", "ab"), "coracle experiment status")
    stage.ns("delete", "experiment", "ab")
    wait_until(lambda: client.predict(row[0], "tester")[1]["x-coracle-variant"] is None, "without the experiment nothing is split")
    say("weights grew, a winner was promoted by rule and by hand, and the experiment ended")


def groups(stage, client, row):
    """Two experiments over revisions share no unit; an A/A test finds nothing; the unit is a field of the body."""
    stage.apply(service(NAME, f"file://{stage.directory}/next", "canaryTrafficPercent: 0"))
    wait_until(lambda: stage.ns("get", "revision", "iris-predictor-00002", "-o", "jsonpath={.status.conditions[?(@.type=='Ready')].status}") == "True", "a second revision")
    by_field = {"unit": {"field": "user.id"}}
    revisions = [{"name": "old", "revision": "iris-predictor-00001"}, {"name": "new", "revision": "iris-predictor-00002"}]
    stage.apply(experiment("one", {**by_field, "variants": revisions, "exclusionGroup": {"name": "g", "fromPercent": 0, "toPercent": 40}}))
    phase(stage, "one", "Running")
    stage.apply(experiment("two", {**by_field, "variants": revisions, "exclusionGroup": {"name": "g", "fromPercent": 30, "toPercent": 70}}))
    phase(stage, "two", "Waiting")
    check("0 to 40 percent" in status(stage, "two")["message"], "parts that meet are refused", status(stage, "two"))
    stage.apply(experiment("two", {
        **by_field, "mode": "AA", "variants": [{"name": "left"}, {"name": "right"}], "exclusionGroup": {"name": "g", "fromPercent": 40, "toPercent": 70},
        "metrics": [{"name": "errors", "type": "Errors"}],
    }))
    phase(stage, "two", "Running")
    counts = {}
    for user in USERS:
        prediction, headers = client.predict(row[0], body={"user": {"id": user}})
        where, variant = headers["x-coracle-experiment"], headers["x-coracle-variant"]
        check(prediction == (row[2] if variant == "new" else row[1]), "the variant's revision answers", (variant, prediction))
        counts[where] = counts.get(where, 0) + 1
    for where, share in (("one", 0.4), ("two", 0.3), (None, 0.3)):
        check(stats.binomtest(counts[where], len(USERS), share).pvalue > 1e-4, "parts are as large as they should be", counts)
    report = client.report("two")
    check(sum(one["units"] for one in report["variants"]) == counts["two"] and report["verdict"]["state"] == "Wait", "an A/A test finds nothing", report["verdict"])
    code, answer, _ = client.request("GET", f"/experiments?namespace={NAMESPACE}")
    check([one["experiment"] for one in json.loads(answer)["experiments"]] == ["one", "two"], "all are listed", answer)
    stage.ns("delete", "experiment", "one", "two")
    say(f"two experiments of a group shared no unit: {counts}")


def bandit(stage, client, row):
    stage.apply(experiment("learn", {
        "unit": {"header": "x-user"}, "allocation": {"strategy": "Thompson", "floor": 0.1}, "metrics": [{"name": "clicked", "type": "Conversion"}],
        "variants": [{"name": "old", "revision": "iris-predictor-00001"}, {"name": "new", "revision": "iris-predictor-00002"}],
    }))
    phase(stage, "learn", "Running")
    draw, rates, chosen = random.Random(3), {"old": 0.2, "new": 0.6}, []

    def play(n):
        for index in range(n):
            _, headers = client.predict(row[0], USERS[index % len(USERS)])
            variant = headers["x-coracle-variant"]
            chosen.append(variant)
            code, answer = client.outcomes("learn", {"requestId": headers["x-request-id"], "metric": "clicked", "value": draw.random() < rates[variant]})
            check(code == 200, "a reward", answer)

    play(400)
    earned = client.report("learn")["bandit"]
    process = stage.processes["coracle"]
    process.send_signal(signal.SIGKILL)
    process.wait()
    stage.start_coracle()
    wait_until(lambda: (client.report("learn") or {}).get("outcomes") == 400, "what was earned is remembered")
    check([one["rewards"] for one in client.report("learn")["bandit"]["arms"]] == [one["rewards"] for one in earned["arms"]], "rewards", earned)
    with Load(stage, row) as load:
        play(200)
    share = chosen[400:].count("new") / 200
    # The floor gives the other variant a twentieth; what is left goes to the better one.
    check(share > 0.8, "the better variant is chosen", share)
    estimates = {one["variant"]: one for one in client.report("learn")["bandit"]["offPolicy"]["estimates"]}
    for variant, rate in rates.items():
        error = 4 * max(estimates[variant]["standardError"], 0.02)
        check(abs(estimates[variant]["selfNormalised"] - rate) < error, "off-policy estimates", estimates)
    stage.ns("delete", "experiment", "learn")
    say(f"a bandit chose the better variant in {share:.0%} of the requests, across a restart; of {load.n_requests} others none failed")


def contextual(stage, client, row):
    """A bandit that chooses by a number in the body and one in a header: the old model is clicked by day, the new one by night."""
    stage.apply(experiment("fits", {
        "unit": {"header": "x-user"}, "metrics": [{"name": "clicked", "type": "Conversion"}],
        "allocation": {"strategy": "LinUCB", "floor": 0.1, "features": [{"name": "night", "field": "when.night"}, {"name": "age", "header": "x-age"}]},
        "variants": [{"name": "old", "revision": "iris-predictor-00001"}, {"name": "new", "revision": "iris-predictor-00002"}],
    }))
    phase(stage, "fits", "Running")
    draw = random.Random(4)

    def ask(user, night, age):
        headers = {"x-user": user, "Content-Type": "application/json"} | ({"x-age": str(age)} if age is not None else {})
        body = json.dumps({"instances": [row[0]], "when": {"night": night}})
        code, answer, headers = client.request("POST", f"/serving/{NAMESPACE}/{NAME}/v1/models/{NAME}:predict", body, headers)
        check(code == 200, "an answer", answer)
        return headers

    def play(n):
        n_right = 0
        for index in range(n):
            night = index % 2 == 0
            headers = ask(USERS[index % len(USERS)], night, draw.uniform(-1, 1))
            variant = headers["x-coracle-variant"]
            n_right += (variant == "new") == night
            rate = 0.7 if (variant == "new") == night else 0.2
            code, answer = client.outcomes("fits", {"requestId": headers["x-request-id"], "metric": "clicked", "value": draw.random() < rate})
            check(code == 200, "a reward", answer)
        return n_right / n

    play(400)
    earned = client.report("fits")["bandit"]
    process = stage.processes["coracle"]
    process.send_signal(signal.SIGKILL)
    process.wait()
    stage.start_coracle()
    wait_until(lambda: (client.report("fits") or {}).get("outcomes") == 400, "what was earned is remembered")
    weights = [one["weights"] for one in client.report("fits")["bandit"]["arms"]]
    check(weights == [one["weights"] for one in earned["arms"]], "what features are worth outlives the server", (weights, earned))
    share = play(200)
    # The floor gives the other variant a twentieth.
    check(share > 0.8, "the variant that fits the request is chosen", share)
    report = client.report("fits")["bandit"]
    for one in report["offPolicy"]["estimates"]:
        # Each alone is right in every second request.
        check(abs(one["doublyRobust"] - 0.45) < 4 * one["standardError"] < 0.4, "what each alone would have earned", report)
    old, new = (one["weights"]["night"] for one in report["arms"])
    check(old < -0.2 and new > 0.2, "what the night is worth", report)
    headers = ask("nobody", True, None)
    check(headers["x-coracle-variant"] == "old" and headers.get("x-coracle-experiment") is None, "without a feature the control answers", dict(headers))
    check(client.report("fits")["requests"]["unassigned"] == 1, "and it is counted", client.report("fits"))
    shown = subprocess.run([stage.binary, "experiment", "report", "fits", "-n", NAMESPACE, "--state", stage.state], capture_output=True, text=True)
    check("doubly robust" in shown.stdout and "night -0." in shown.stdout, "coracle experiment report", shown.stdout + shown.stderr)
    code, page, _ = client.request("GET", f"/experiments/fits/page?namespace={NAMESPACE}")
    check(code == 200 and "What features add" in str(page), "the page", page)
    stage.ns("delete", "experiment", "fits")
    say(f"a bandit chose the variant that fits the request in {share:.0%} of them, across a restart")


def refusals(stage):
    bad = {"unit": {}, "variants": [{"name": "a"}, {"name": "b"}]}
    code, answer = stage.kubectl("apply", "-f", "-", stdin=experiment("bad", bad), check_rc=False)
    check(code != 0 and "spec.variants[1]" in answer, "what makes no sense is refused with its place", answer)
    planned = subprocess.run([stage.binary, "experiment", "plan", "--baseline", "0.05", "--lift", "0.05", "--units-per-day", "50000"], capture_output=True, text=True)
    check("122121 units" in planned.stdout, "coracle experiment plan", planned.stdout + planned.stderr)


def main():
    stage = Stage(sys.argv[1])
    try:
        row = train(stage)
        stage.start_coracle()
        stage.kubectl("create", "namespace", NAMESPACE)
        stage.apply(service(NAME, f"file://{EXAMPLES}/iris"))
        stage.ns("wait", "--for=condition=Ready", f"inferenceservice/{NAME}", "--timeout=60s")
        client = Client(stage)
        refusals(stage)
        variants, spent, report = ab(stage, client, row)
        killed(stage, client, row, variants, spent, report)
        steer(stage, client, row, variants)
        groups(stage, client, row)
        bandit(stage, client, row)
        contextual(stage, client, row)
    except BaseException:
        log = stage.directory / "coracle.log"
        print(log.read_text()[-3000:] if log.exists() else "", file=sys.stderr)
        raise
    finally:
        stage.close()
    print("experiments are done")


if __name__ == "__main__":
    main()
