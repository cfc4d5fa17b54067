"""The newcomer's exercise with real clients: kubectl, curl, the kserve SDK, the Python kubernetes client, kube-rs.

Usage: exercise.py CORACLE_BINARY WATCHER_BINARY (the kube-rs client in watcher/). Prints a line for every step; the first that fails ends it.
Everything runs on loopback: an S3-compatible server (moto), Coracle, and the clients.
"""

import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import boto3
import joblib
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier

NAMESPACE = "ml-serving"
NAME = "iris-classifier"
ROWS = {"instances": [[5.1, 3.5, 1.4, 0.2], [6.2, 3.4, 5.4, 2.3]]}
V1, V2 = [0, 2], [10, 12]

MANIFEST = """
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: iris-classifier
  namespace: ml-serving
spec:
  predictor:
    model:
      modelFormat:
        name: sklearn
      storageUri: s3://your-bucket/iris-model
      resources:
        requests: { cpu: "100m", memory: "256Mi" }
        limits: { cpu: "500m", memory: "512Mi" }
    minReplicas: 1
    maxReplicas: 5
"""

CANARY_UNDER_SPEC = """
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: { name: iris-classifier, namespace: ml-serving }
spec:
  predictor:
    model: { modelFormat: { name: sklearn }, storageUri: "s3://your-bucket/iris-model-v1" }
    canaryTrafficPercent: 20
  canary:
    predictor:
      model: { modelFormat: { name: sklearn }, storageUri: "s3://your-bucket/iris-model-v2" }
"""

CANARY_UNDER_PREDICTOR = """
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: { name: iris-classifier, namespace: ml-serving }
spec:
  predictor:
    model: { modelFormat: { name: sklearn }, storageUri: "s3://your-bucket/iris-model-v1" }
    canaryTrafficPercent: 20
    canary:
      predictor:
        model: { modelFormat: { name: sklearn }, storageUri: "s3://your-bucket/iris-model-v2" }
"""

CANARY_LIST = """
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: { name: iris-classifier, namespace: ml-serving }
spec:
  predictor:
    name: stable
    model: { modelFormat: { name: sklearn }, storageUri: "s3://your-bucket/iris-model-v1" }
  canary:
  - predictor:
      name: v2
      model: { modelFormat: { name: sklearn }, storageUri: "s3://your-bucket/iris-model-v2" }
    trafficPercent: 20
"""


def say(step):
    print(f"ok  {step}", flush=True)


def check(condition, step, seen=""):
    if not condition:
        raise SystemExit(f"FAILED  {step}\n  seen: {seen}")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_until(condition, what, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        seen = condition()
        if seen:
            return seen
        time.sleep(0.05)
    raise SystemExit(f"FAILED  {what}: not within {seconds} s")


class Stage:
    """The processes and files of one run."""

    def __init__(self, binary):
        self.binary = binary
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="coracle-exercise-"))
        self.api_port, self.port, self.s3_port = free_port(), free_port(), free_port()
        self.processes = {}
        # KUBECONFIG and a home of its own: nothing of the user's is read or written.
        self.environment = dict(os.environ, KUBECONFIG=str(self.state / "kubeconfig"), HOME=str(self.directory))

    @property
    def state(self):
        return self.directory / "state"

    def start(self, name, command, **options):
        log = open(self.directory / f"{name}.log", "ab")
        self.processes[name] = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, **options)

    def start_coracle(self, *options):
        self.start("coracle", [self.binary, "up", "--state", self.state, "--api-port", str(self.api_port), "--port", str(self.port), "--cache-max", "1GiB", *options])
        wait_until(lambda: self.kubectl("get", "namespaces", check_rc=False)[0] == 0, "coracle up answers kubectl")

    def close(self):
        for process in self.processes.values():
            process.kill()
            process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def kubectl(self, *arguments, stdin=None, check_rc=True, namespace=None, **extra):
        command = ["kubectl", f"--cache-dir={self.directory}/cache"]
        command += ["-n", namespace] if namespace else []
        command += arguments
        environment = dict(self.environment, **extra)
        done = subprocess.run(command, input=stdin, text=True, capture_output=True, env=environment, timeout=330)
        if check_rc:
            check(done.returncode == 0, "kubectl " + " ".join(arguments), done.stdout + done.stderr)
        return done.returncode, done.stdout + done.stderr

    def ns(self, *arguments, **options):
        return self.kubectl(*arguments, namespace=NAMESPACE, **options)[1]

    def apply(self, manifest):
        return self.kubectl("apply", "-f", "-", stdin=manifest)[1]

    def wait_ready(self):
        self.ns("wait", "--for=condition=Ready", f"inferenceservice/{NAME}", "--timeout=300s")

    def field(self, path):
        return self.ns("get", "inferenceservice", NAME, "-o", f"jsonpath={{{path}}}")

    def predict(self, connection=None):
        connection = connection or http.client.HTTPConnection("127.0.0.1", self.port)
        path = f"/serving/{NAMESPACE}/{NAME}/v1/models/{NAME}:predict"
        connection.request("POST", path, json.dumps(ROWS), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        body = answer.read()
        check(answer.status == 200, "prediction", f"{answer.status} {body}")
        return json.loads(body)["predictions"]

    def count_v2(self, requests=1000):
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        answers = [self.predict(connection) for _ in range(requests)]
        check(all(answer in (V1, V2) for answer in answers), "answers are of the first or the second model")
        return sum(answer == V2 for answer in answers)


class Load:
    """Requests without a pause from several connections; none may fail."""

    def __init__(self, stage):
        self.stage, self.failures, self.requests, self.stopping = stage, [], 0, False
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(3)]

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.stage.port)
        while not self.stopping:
            try:
                self.stage.predict(connection)
                self.requests += 1
            except (SystemExit, OSError, http.client.HTTPException) as failure:
                self.failures.append(str(failure))
                return

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping = True
        for thread in self.threads:
            thread.join()
        check(not self.failures, "no request fails under load", self.failures[:1])
        say(f"{self.requests} requests under load, none failed")


def train(stage):
    features, classes = load_iris(return_X_y=True)
    client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{stage.s3_port}", aws_access_key_id="user",
                          aws_secret_access_key="password", region_name="us-east-1")
    client.create_bucket(Bucket="your-bucket")
    # The second model's classes tell whose answer it is.
    for name, offset in [("iris-model", 0), ("iris-model-v1", 0), ("iris-model-v2", 10)]:
        model = RandomForestClassifier(n_estimators=100, random_state=0).fit(features, classes + offset)
        file = stage.directory / "model.joblib"
        joblib.dump(model, file)
        client.upload_file(str(file), "your-bucket", f"{name}/model.joblib")
    client.put_object(Bucket="your-bucket", Key="notes/words.txt", Body=b"beside the model")
    say("models are trained and uploaded")


def start_s3(stage):
    server = pathlib.Path(sys.executable).with_name("moto_server")
    stage.start("moto", [server, "-H", "127.0.0.1", "-p", str(stage.s3_port)])

    def answers():
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", stage.s3_port)) == 0

    wait_until(answers, "the S3 server listens")


def add_credentials(stage):
    secret = {
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"name": "s3-credentials", "namespace": NAMESPACE, "annotations": {
            "serving.kserve.io/s3-endpoint": f"127.0.0.1:{stage.s3_port}", "serving.kserve.io/s3-usehttps": "0",
            "serving.kserve.io/s3-region": "us-east-1"}},
        "stringData": {"AWS_ACCESS_KEY_ID": "user", "AWS_SECRET_ACCESS_KEY": "password"},
    }
    stage.apply(json.dumps(secret))
    stage.ns("patch", "serviceaccount", "default", "-p", '{"secrets": [{"name": "s3-credentials"}]}')
    say("credentials as KServe documents them")


def deploy(stage):
    stage.kubectl("create", "namespace", NAMESPACE)
    add_credentials(stage)
    out = stage.apply(MANIFEST)
    check(out.strip() == f"inferenceservice.serving.kserve.io/{NAME} created", "apply", out)
    stage.wait_ready()
    url = stage.field(".status.url")
    command = ["curl", "-s", "-X", "POST", f"{url}/v1/models/{NAME}:predict", "-H", "Content-Type: application/json", "-d", json.dumps(ROWS)]
    out = subprocess.run(command, capture_output=True, text=True).stdout
    check(out == '{"predictions":[0,2]}', "curl as printed", out)
    for host in [f"{NAME}.{NAMESPACE}.example.com", f"{NAME}-{NAMESPACE}.example.com"]:
        command = ["curl", "-s", "-H", f"Host: {host}", f"http://127.0.0.1:{stage.port}/v1/models/{NAME}:predict",
                   "-H", "Content-Type: application/json", "-d", json.dumps(ROWS)]
        out = subprocess.run(command, capture_output=True, text=True).stdout
        check(out == '{"predictions":[0,2]}', f"curl with host {host}", out)
    say("deployed and asked, by path and by host")


def canary_forms(stage):
    for form, manifest in [("under spec", CANARY_UNDER_SPEC), ("under predictor", CANARY_UNDER_PREDICTOR), ("as a list", CANARY_LIST)]:
        with Load(stage):
            stage.apply(manifest)
            stage.wait_ready()
        n_v2 = stage.count_v2()
        check(n_v2 == 200, f"canary {form} gets 200 of 1,000", n_v2)
        shown = stage.ns("get", "inferenceservice", NAME, "-o", "yaml")
        check("traffic:" in shown and "percent: 20" in shown and "percent: 80" in shown, "the split is shown", shown)
        say(f"canary {form}: 200 of 1,000 requests")


def promote_block(stage):
    """The course's own way: the canary block, promoted and rolled back by a patch."""
    stage.apply(CANARY_UNDER_SPEC)
    stage.wait_ready()
    for percent, expected in [(100, 1000), (0, 0), (20, 200)]:
        with Load(stage):
            patch = json.dumps({"spec": {"predictor": {"canaryTrafficPercent": percent}}})
            stage.ns("patch", "inferenceservice", NAME, "--type=merge", "-p", patch)
            stage.wait_ready()
        n_v2 = stage.count_v2()
        check(n_v2 == expected, f"canaryTrafficPercent {percent}", n_v2)
        say(f"canary block at {percent}: {n_v2} of 1,000")


def revisions(stage):
    """KServe's own way: the same object with another storageUri and a percentage."""
    stage.ns("delete", "inferenceservice", NAME)
    stage.apply(MANIFEST)
    stage.wait_ready()
    canary = MANIFEST.replace("iris-model", "iris-model-v2").replace("    minReplicas", "    canaryTrafficPercent: 20\n    minReplicas")
    with Load(stage):
        stage.apply(canary)
        stage.wait_ready()
    check(stage.count_v2() == 200, "20 percent to the new revision")
    steps = [("100", 1000), ("0", 0)]
    for percent, expected in steps:
        with Load(stage):
            # As courses print it: YAML, over several lines.
            stage.ns("patch", "inferenceservice", NAME, "--type=merge", "-p", f"spec:\n  predictor:\n    canaryTrafficPercent: {percent}")
            stage.wait_ready()
        n_v2 = stage.count_v2()
        check(n_v2 == expected, f"canaryTrafficPercent {percent}", n_v2)
    row = stage.ns("get", "isvc", NAME, "--no-headers").split()
    check(row[2:5] == ["True", "100", "0"], "kubectl get shows the rollback", row)
    say("canary, promotion and rollback by revisions")


def failure(stage):
    before = stage.predict()
    with Load(stage):
        patch = {"spec": {"predictor": {"canaryTrafficPercent": None, "model": {"storageUri": "s3://your-bucket/missing"}}}}
        stage.ns("patch", "inferenceservice", NAME, "--type=merge", "-p", json.dumps(patch))
        wait_until(lambda: "FailedToLoad" in stage.field(".status.modelStatus.states"), "the failure is seen")
        check(stage.predict() in (V1, V2), "what served goes on serving")
    message = stage.field(".status.modelStatus.lastFailureInfo.message")
    check("s3://your-bucket/missing" in message, "the failure names what is missing", message)
    ready = stage.ns("get", "isvc", NAME, "-o", 'jsonpath={.status.conditions[?(@.type=="Ready")].status}')
    check(ready == "False", "Ready is False", ready)
    described = stage.ns("describe", "isvc", NAME)
    check("ModelLoadFailed" in described, "describe tells", described)
    say(f"a broken revision takes no request: {message} (served {before})")


def commands(stage):
    stage.apply(MANIFEST)
    stage.wait_ready()
    stage.kubectl("api-resources")
    stage.kubectl("explain", "isvc.spec.predictor.model")
    check("LAST SEEN" in stage.ns("get", "events"), "events have Kubernetes' columns")
    check(f"pod/{NAME}-predictor" in stage.ns("get", "all"), "get all")
    stage.kubectl("wait", "--for=condition=Established", "crd/inferenceservices.serving.kserve.io", "--timeout=5s")
    check("control plane is running" in stage.kubectl("cluster-info")[1], "cluster-info")
    code, shown = stage.kubectl("create", "-f", "-", stdin=MANIFEST.replace("v1beta1", "v1"), check_rc=False)
    check(code == 1 and 'no matches for kind "InferenceService" in version "serving.kserve.io/v1"' in shown, "an unknown version", shown)
    stage.kubectl("auth", "can-i", "create", "inferenceservices")
    stage.ns("label", "isvc", NAME, "team=a")
    stage.ns("annotate", "isvc", NAME, "note=b")
    check(NAME in stage.ns("get", "isvc", "-l", "team=a", "-o", "name"), "labels select")
    stage.ns("edit", "isvc", NAME, KUBE_EDITOR="sed -i s/note:/memo:/")
    check("memo" in stage.field(".metadata.annotations"), "edit")
    code, shown = stage.kubectl("diff", "-f", "-", stdin=MANIFEST.replace("maxReplicas: 5", "maxReplicas: 6"), check_rc=False)
    check(code == 1 and "maxReplicas: 6" in shown, "diff", shown)
    code, shown = stage.kubectl("apply", "-f", "-", stdin=MANIFEST.replace("maxReplicas", "maxReplicaz"), check_rc=False)
    check(code == 1 and 'unknown field "spec.predictor.maxReplicaz"' in shown, "unknown fields are refused", shown)
    code, shown = stage.kubectl("apply", "--server-side", "--field-manager=other", "-f", "-", stdin=MANIFEST.replace("maxReplicas: 5", "maxReplicas: 7"), check_rc=False)
    check(code == 1 and 'conflict with "kubectl-client-side-apply"' in shown, "server-side apply sees conflicts", shown)
    stage.kubectl("apply", "--server-side", "--field-manager=other", "--force-conflicts", "-f", "-", stdin=MANIFEST.replace("maxReplicas: 5", "maxReplicas: 7"))
    check(stage.field(".spec.predictor.maxReplicas") == "7", "forced")
    code, shown = stage.kubectl("patch", "isvc", NAME, "-n", NAMESPACE, "-p", "{}", check_rc=False)
    check("UnsupportedMediaType" in shown or "unknown format" in shown, "strategic patches are refused for custom resources", shown)
    say("kubectl's other commands")


def replicas(stage):
    """Replicas as pods, their logs, scaling, and what they use."""
    label = f"serving.kserve.io/inferenceservice={NAME}"
    stage.ns("scale", f"inferenceservice/{NAME}", "--replicas=3")
    wait_until(lambda: stage.ns("get", "pods", "-l", label, "--no-headers").count("1/1 ") == 3, "three replicas")
    check(stage.field(".spec.predictor.minReplicas") == "3", "scale sets minReplicas")
    stage.ns("scale", f"inferenceservice/{NAME}", "--replicas=1")
    wait_until(lambda: stage.ns("get", "pods", "-l", label, "-o", "name").count("pod/") == 1, "one replica")
    pod = stage.ns("get", "pods", "-l", label, "-o", "name").strip()
    check("storage-initializer" in stage.ns("describe", pod), "describe a pod")
    log = stage.ns("logs", pod)
    check("RandomForestClassifier" in log and "; ready" in log, "logs tell what was loaded", log)
    log = stage.ns("logs", pod, "-c", "storage-initializer", "--timestamps", "--tail=1")
    check(log.startswith("20") and "fetched 1 files" in log, "logs tell what was fetched", log)
    follow = subprocess.Popen(
        ["kubectl", f"--cache-dir={stage.directory}/cache", "-n", NAMESPACE, "logs", "-f", "--tail=0", pod, "-c", "kserve-container"],
        env=stage.environment, stdout=subprocess.PIPE, text=True)
    try:
        connection = http.client.HTTPConnection("127.0.0.1", stage.port)
        time.sleep(1)
        connection.request("POST", f"/serving/{NAMESPACE}/{NAME}/v1/models/{NAME}:predict", '{"instances": [[1]]}', {"Content-Type": "application/json"})
        check(connection.getresponse().status == 400, "a bad request")
        line = follow.stdout.readline()
        check(":predict 400 " in line, "a log is followed", line)
    finally:
        follow.kill()
        follow.wait()
    wait_until(lambda: pod.split("/")[1] in stage.kubectl("top", "pods", "-n", NAMESPACE, check_rc=False)[1], "top pods")
    say("replicas as pods, their logs, kubectl scale and top")


def own_commands(stage):
    """What people without kubectl use."""

    def coracle(*arguments):
        done = subprocess.run([stage.binary, *arguments, "--state", stage.state], capture_output=True, text=True)
        check(done.returncode == 0, "coracle " + " ".join(arguments), done.stderr)
        return done.stdout

    file = stage.directory / "service.yaml"
    file.write_text(MANIFEST.replace(NAME, "own"))
    check(coracle("apply", "-f", str(file)).strip() == "inferenceservice.serving.kserve.io/own created", "coracle apply")
    stage.ns("wait", "--for=condition=Ready", "inferenceservice/own", "--timeout=60s")
    file.write_text(MANIFEST.replace(NAME, "own").replace("iris-model", "iris-model-v2").replace("    minReplicas", "    canaryTrafficPercent: 20\n    minReplicas"))
    coracle("apply", "-f", str(file))
    stage.ns("wait", "--for=condition=Ready", "inferenceservice/own", "--timeout=60s")
    out = coracle("promote", "own", "-n", NAMESPACE)
    check(out.split() == ["own-predictor-00002", "100%"], "coracle promote", out)
    out = coracle("rollback", "own", "-n", NAMESPACE)
    check(out.split() == ["own-predictor-00002", "0%", "own-predictor-00001", "100%"], "coracle rollback", out)
    check("own-predictor-00002" in coracle("get"), "coracle get")
    check("own" in coracle("status"), "coracle status")
    out = coracle("describe", "own", "-n", NAMESPACE)
    check("Ready                        True" in out and "own-predictor-00001  100%" in out, "coracle describe", out)
    out = coracle("logs", "own", "-n", NAMESPACE, "--revision", "own-predictor-00001")
    check("loaded own: RandomForestClassifier" in out, "coracle logs", out)
    coracle("delete", "own", "-n", NAMESPACE)
    check("own-predictor" not in coracle("get", "-n", NAMESPACE), "coracle delete")
    say("coracle apply, promote, rollback, get, describe, logs, status, delete")


def storage_forms(stage):
    """Places by a key of storage-config, several places, and what is said of places that cannot be reached."""
    entry = {"type": "s3", "access_key_id": "user", "secret_access_key": "password", "bucket": "your-bucket",
             "endpoint_url": f"http://127.0.0.1:{stage.s3_port}", "region": "us-east-1"}
    stage.apply(json.dumps({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "storage-config", "namespace": NAMESPACE},
        "stringData": {"minio": json.dumps(entry)}}))
    model = {"modelFormat": {"name": "sklearn"}}

    def apply(name, predictor):
        stage.apply(json.dumps({
            "apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService",
            "metadata": {"name": name, "namespace": NAMESPACE}, "spec": {"predictor": predictor}}))

    def ask(name):
        stage.ns("wait", "--for=condition=Ready", f"inferenceservice/{name}", "--timeout=60s")
        connection = http.client.HTTPConnection("127.0.0.1", stage.port)
        connection.request("POST", f"/serving/{NAMESPACE}/{name}/v1/models/{name}:predict", json.dumps(ROWS), {"Content-Type": "application/json"})
        return json.loads(connection.getresponse().read())["predictions"]

    apply("by-key", {"model": dict(model, storage={"key": "minio", "path": "iris-model-v2"})})
    check(ask("by-key") == V2, "storage by key")
    apply("several", {"model": model, "storageUris": [
        {"uri": "s3://your-bucket/iris-model-v2"}, {"uri": "s3://your-bucket/notes", "mountPath": "/mnt/models/notes"}]})
    check(ask("several") == V2, "several storageUris")
    refused = [
        ("no-key", {"model": dict(model, storage={"key": "other", "path": "x"})}, "specified storage key other not found in storage secret storage-config"),
        ("no-bucket", {"model": dict(model, storageUri="s3://no-such-bucket/x")}, "NoSuchBucket: The specified bucket does not exist"),
        ("no-account", {"model": dict(model, storageUri="s3://your-bucket/x"), "serviceAccountName": "nobody"}, 'serviceaccount "nobody" not found'),
        ("no-volume", {"model": dict(model, storageUri="pvc://claim/x")}, "--pvc CLAIM=DIRECTORY"),
    ]
    for name, predictor, words in refused:
        apply(name, predictor)
        message = lambda: stage.ns("get", "isvc", name, "-o", "jsonpath={.status.modelStatus.lastFailureInfo.message}")
        wait_until(lambda: words in message(), f"{name} says: {words}")
    stage.ns("delete", "isvc", "by-key", "several", *[name for name, _, _ in refused])
    say("storage by key, several places, and words for what is missing")


def stopped(stage):
    stage.ns("annotate", "isvc", NAME, "serving.kserve.io/stop=true")

    def status():
        connection = http.client.HTTPConnection("127.0.0.1", stage.port)
        connection.request("GET", f"/serving/{NAMESPACE}/{NAME}/v1/models/{NAME}")
        return connection.getresponse().status

    wait_until(lambda: status() == 404, "a stopped service is not served")
    check(stage.field('.status.conditions[?(@.type=="Stopped")].status') == "True", "Stopped is True")
    stage.ns("annotate", "isvc", NAME, "serving.kserve.io/stop-")
    stage.wait_ready()
    check(status() == 200, "served again")
    say("stopped by annotation, and started again")


def writes_killed(stage):
    """Writers without a pause while the control process is killed: what was answered 201 is there afterwards."""
    acknowledged, stopping = [], threading.Event()

    def write(writer):
        for index in range(100_000):
            if stopping.is_set():
                return
            name = f"write-{writer}-{index}"
            body = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"x": "y" * 200}})
            try:
                connection = http.client.HTTPConnection("127.0.0.1", stage.api_port, timeout=30)
                connection.request("POST", f"/api/v1/namespaces/{NAMESPACE}/configmaps", body, {"Content-Type": "application/json"})
                if connection.getresponse().status == 201:
                    acknowledged.append(name)
            except (OSError, http.client.HTTPException):
                time.sleep(0.01)

    writers = [threading.Thread(target=write, args=(writer,), daemon=True) for writer in range(4)]
    for writer in writers:
        writer.start()
    for _ in range(3):
        before = len(acknowledged)
        wait_until(lambda: len(acknowledged) > before + 20, "writes go on")
        subprocess.run(["pkill", "-9", "-f", f"control --objects {stage.state}"], check=True)
    before = len(acknowledged)
    wait_until(lambda: len(acknowledged) > before + 20, "writes go on after a kill")
    stopping.set()
    for writer in writers:
        writer.join()
    there = set(stage.ns("get", "configmaps", "-o", "jsonpath={.items[*].metadata.name}").split())
    lost = [name for name in acknowledged if name not in there]
    check(not lost, "no acknowledged object is lost", lost[:3])
    stage.ns("delete", "configmaps", "--all")
    say(f"{len(acknowledged)} objects written while the control process was killed three times, none lost")


def control_plane_killed(stage):
    with Load(stage):
        for round_number in range(3):
            stage.ns("label", "isvc", NAME, "--overwrite", f"round={round_number}")
            subprocess.run(["pkill", "-9", "-f", f"control --objects {stage.state}"], check=True)
            wait_until(lambda: stage.kubectl("get", "isvc", "-A", check_rc=False)[0] == 0, "the API is back")
            shown = stage.field(".metadata.labels.round")
            check(shown == str(round_number), "what was acknowledged is there", shown)
    say("the control process killed three times under load")


def everything_killed(stage):
    before = json.loads(stage.kubectl("get", "isvc,secrets,sa", "-A", "-o", "json")[1])["items"]
    process = stage.processes["coracle"]
    process.send_signal(signal.SIGKILL)
    process.wait()
    stage.start_coracle()
    check(stage.predict() == V1, "what was served is served again")
    after = json.loads(stage.kubectl("get", "isvc,secrets,sa", "-A", "-o", "json")[1])["items"]
    spec = lambda items: sorted((i["kind"], i["metadata"]["name"], i["metadata"]["uid"], json.dumps(i.get("spec"))) for i in items)
    check(spec(before) == spec(after), "every object is there again")
    say("killed and started again: everything is there")


def sdk(stage):
    from kserve import KServeClient, V1beta1InferenceService, V1beta1InferenceServiceSpec
    from kserve import V1beta1ModelFormat, V1beta1ModelSpec, V1beta1PredictorSpec
    from kubernetes import client, config, watch

    kubeconfig = str(stage.state / "kubeconfig")
    kserve = KServeClient(config_file=kubeconfig)

    def service(path, percent=None):
        model = V1beta1ModelSpec(model_format=V1beta1ModelFormat(name="sklearn"), storage_uri=f"s3://your-bucket/{path}")
        predictor = V1beta1PredictorSpec(model=model, min_replicas=1, canary_traffic_percent=percent)
        return V1beta1InferenceService(
            api_version="serving.kserve.io/v1beta1", kind="InferenceService",
            metadata=client.V1ObjectMeta(name="sdk", namespace=NAMESPACE), spec=V1beta1InferenceServiceSpec(predictor=predictor))

    kserve.create(service("iris-model"))
    kserve.wait_isvc_ready("sdk", namespace=NAMESPACE, timeout_seconds=60, polling_interval=1)
    kserve.patch("sdk", service("iris-model-v2", percent=20), namespace=NAMESPACE)
    kserve.wait_isvc_ready("sdk", namespace=NAMESPACE, timeout_seconds=60, polling_interval=1)
    split = kserve.get("sdk", namespace=NAMESPACE)["status"]["components"]["predictor"]["traffic"]
    check(sorted(target["percent"] for target in split) == [20, 80], "the SDK sees the canary", split)
    config.load_kube_config(kubeconfig)
    where = ("serving.kserve.io", "v1beta1", NAMESPACE, "inferenceservices")
    listed = client.CustomObjectsApi().list_namespaced_custom_object(*where)["items"]
    check({item["metadata"]["name"] for item in listed} >= {NAME, "sdk"}, "the Python client lists")
    seen = set()
    for event in watch.Watch().stream(client.CustomObjectsApi().list_namespaced_custom_object, *where, timeout_seconds=10):
        seen.add(event["object"]["metadata"]["name"])
        if seen >= {NAME, "sdk"}:
            break
    check(seen >= {NAME, "sdk"}, "the Python client watches", seen)
    kserve.delete("sdk", namespace=NAMESPACE)
    code, _ = stage.kubectl("get", "isvc", "sdk", "-n", NAMESPACE, check_rc=False)
    check(code == 1, "deleted by the SDK")
    say("kserve SDK and Python kubernetes client")


def kube_rs(stage):
    """A watcher of kube-rs, which lists by a watch that begins with what is there."""
    watcher = subprocess.Popen([sys.argv[2]], env=stage.environment, stdout=subprocess.PIPE, text=True)
    try:
        lines = iter(watcher.stdout.readline, "")
        seen = []
        for line in lines:
            seen.append(line.strip())
            if line == "init done\n":
                break
        check(seen == ["init", f"there {NAME}", "init done"], "a streaming list", seen)
        stage.ns("annotate", "isvc", NAME, "watched=yes")
        check(next(lines) == f"applied {NAME}\n", "a change is seen")
    finally:
        watcher.kill()
        watcher.wait()
    say("kube-rs watches by a streaming list")


def access(stage):
    """An API that needs credentials: certificates, tokens, roles."""
    state, port = stage.directory / "secured", free_port()
    stage.start("secured", [
        stage.binary, "up", "--state", state, "--listen", "0.0.0.0", "--api-port", str(port), "--port", str(free_port()), "--tls-name", "coracle.test"])

    def kubectl(kubeconfig, *arguments, check_rc=True):
        return stage.kubectl("--kubeconfig", str(kubeconfig), *arguments, check_rc=check_rc)

    def coracle(*arguments, file=None):
        done = subprocess.run([stage.binary, *arguments, "--state", state], capture_output=True, text=True)
        check(done.returncode == 0, "coracle " + " ".join(arguments), done.stderr)
        if file:
            file.write_text(done.stdout)
        return done.stdout

    owner, alice, bob = state / "kubeconfig", stage.directory / "alice", stage.directory / "bob"
    wait_until(lambda: owner.exists() and kubectl(owner, "get", "namespaces", check_rc=False)[0] == 0, "the secured API answers")
    unsafe = subprocess.run(["curl", "-sk", f"https://127.0.0.1:{port}/api/v1/namespaces"], capture_output=True, text=True).stdout
    check('"code":401' in unsafe, "nobody is let in without credentials", unsafe)
    kubectl(owner, "create", "namespace", "ml")
    coracle("kubeconfig", "alice", file=alice)
    coracle("kubeconfig", "bob", "--group", "devs", "--certificate", file=bob)
    code, shown = kubectl(alice, "get", "isvc", "-n", "ml", check_rc=False)
    check(code == 1 and 'User "alice" cannot list resource "inferenceservices"' in shown, "no role, no look", shown)
    kubectl(owner, "create", "rolebinding", "readers", "--clusterrole=view", "--user=alice", "-n", "ml")
    kubectl(owner, "create", "rolebinding", "devs", "--clusterrole=edit", "--group=devs", "-n", "ml")
    kubectl(alice, "get", "isvc", "-n", "ml")
    check(kubectl(bob, "auth", "can-i", "create", "isvc", "-n", "ml")[1].startswith("yes"), "edit may create")
    check(kubectl(alice, "auth", "can-i", "create", "isvc", "-n", "ml", check_rc=False)[1].startswith("no"), "view may not")
    kubectl(bob, "create", "configmap", "x", "-n", "ml")
    code, shown = kubectl(alice, "delete", "configmap", "x", "-n", "ml", check_rc=False)
    check(code == 1 and "Forbidden" in shown, "view may not delete", shown)
    kubectl(owner, "create", "serviceaccount", "robot", "-n", "ml")
    token = kubectl(owner, "create", "token", "robot", "-n", "ml")[1].strip()
    kubectl(owner, "create", "clusterrolebinding", "robots", "--clusterrole=view", "--serviceaccount=ml:robot")
    listed = subprocess.run([
        "curl", "-s", "--cacert", state / "access/server-ca.crt", "-H", f"Authorization: Bearer {token}",
        f"https://localhost:{port}/apis/serving.kserve.io/v1beta1/inferenceservices"], capture_output=True, text=True).stdout
    check('"kind":"InferenceServiceList"' in listed, "a service account's token", listed)
    check("ml" not in coracle("get"), "coracle's own commands")
    coracle("token", "rotate", "--revoke")
    code, shown = kubectl(alice, "get", "isvc", "-n", "ml", check_rc=False)
    check(code == 1 and "Unauthorized" in shown, "revoked tokens are refused", shown)
    say("TLS, certificates, tokens and roles")


def delete(stage):
    """Every request is answered: with a prediction before, with 404 after, and with nothing else between."""
    answers = [[] for _ in range(3)]

    def ask(mine):
        connection = http.client.HTTPConnection("127.0.0.1", stage.port)
        while not mine or mine[-1] == 200:
            connection.request("POST", f"/serving/{NAMESPACE}/{NAME}/v1/models/{NAME}:predict", json.dumps(ROWS), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            mine.append(answer.status)

    askers = [threading.Thread(target=ask, args=(mine,), daemon=True) for mine in answers]
    for asker in askers:
        asker.start()
    wait_until(lambda: all(len(mine) > 20 for mine in answers), "requests are answered")
    stage.ns("delete", "inferenceservice", NAME)
    for asker in askers:
        asker.join(timeout=30)
    ends = [mine[-1] for mine in answers]
    check(ends == [404, 404, 404], "a deleted service is unknown, and no request before fails", ends)
    stage.kubectl("delete", "namespace", NAMESPACE)
    code, _ = stage.kubectl("get", "namespace", NAMESPACE, check_rc=False)
    check(code == 1, "the namespace is gone")
    say("deleted")


def main():
    stage = Stage(sys.argv[1])
    try:
        start_s3(stage)
        train(stage)
        stage.start_coracle()
        for step in [deploy, canary_forms, promote_block, revisions, failure, commands, replicas, own_commands, storage_forms, stopped, control_plane_killed, writes_killed, everything_killed, sdk, kube_rs, access, delete]:
            step(stage)
    except BaseException:
        log = stage.directory / "coracle.log"
        print(log.read_text()[-3000:] if log.exists() else "", file=sys.stderr)
        raise
    finally:
        stage.close()
    print("the exercise is done")


if __name__ == "__main__":
    main()
