"""Scaling as people watch it: from one replica to many, to none, and back, with kubectl and without a failed request.

Usage: scaling.py CORACLE_BINARY. Everything runs on loopback; the model is examples/iris.
"""

import concurrent.futures
import http.client
import json
import pathlib
import signal
import subprocess
import sys
import time

from exercise import NAMESPACE, ROWS, Stage, check, say, wait_until

NAME = "iris-scaled"
EXAMPLES = pathlib.Path(__file__).resolve().parent.parent / "examples"
MANIFEST = f"""
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: {NAME}
  namespace: {NAMESPACE}
  annotations:
    autoscaling.knative.dev/class: kpa.autoscaling.knative.dev
    autoscaling.knative.dev/window: "6s"
spec:
  predictor:
    minReplicas: 0
    maxReplicas: 4
    scaleMetric: rps
    scaleTarget: 20
    model:
      modelFormat: {{ name: sklearn }}
      storageUri: file://{EXAMPLES}/iris
"""


class Requests:
    """Requests at a steady pace from several connections; none may fail."""

    def __init__(self, stage, per_second):
        self.stage, self.pause, self.stopping = stage, 4 / per_second, False
        self.pool = concurrent.futures.ThreadPoolExecutor(4)

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.stage.port)
        sent = 0
        while not self.stopping:
            predict(self.stage, connection)
            sent += 1
            time.sleep(self.pause)
        return sent

    def __enter__(self):
        self.sent = [self.pool.submit(self.run) for _ in range(4)]
        return self

    def __exit__(self, *_):
        self.stopping = True
        total = sum(sent.result() for sent in self.sent)
        say(f"{total} requests at a steady pace, none failed")


def predict(stage, connection=None):
    connection = connection or http.client.HTTPConnection("127.0.0.1", stage.port)
    path = f"/serving/{NAMESPACE}/{NAME}/v1/models/{NAME}:predict"
    connection.request("POST", path, json.dumps(ROWS), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    body = answer.read()
    check(answer.status == 200, "prediction", f"{answer.status} {body}")
    check(json.loads(body) == {"predictions": [0, 2]}, "prediction", body)


def pods(stage):
    listing = stage.ns("get", "pods", "-l", f"serving.kserve.io/inferenceservice={NAME}", "-o", "name")
    return len(listing.split()) if "pod/" in listing else 0


def autoscaler(stage, path):
    return stage.ns("get", "hpa", f"{NAME}-predictor-00001", "-o", f"jsonpath={{{path}}}")


def memory_bytes(stage):
    """What the gateway says that the model holds."""
    connection = http.client.HTTPConnection("127.0.0.1", stage.port)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    [line] = [line for line in lines if line.startswith("coracle_model_memory_bytes{") and NAME in line]
    return int(line.rsplit(" ", 1)[1])


def up(stage, watch):
    stage.kubectl("create", "namespace", NAMESPACE)
    stage.apply(MANIFEST)
    stage.ns("wait", "--for=condition=Ready", f"inferenceservice/{NAME}", "--timeout=60s")
    watch["process"] = subprocess.Popen(
        ["kubectl", "get", "pods", "-n", NAMESPACE, "-w", "--no-headers"], env=stage.environment, stdout=open(watch["file"], "w")
    )
    check(pods(stage) == 1, "one replica at first", pods(stage))
    with Requests(stage, per_second=150):
        wait_until(lambda: pods(stage) == 4, "four replicas under load")
        wait_until(lambda: float(autoscaler(stage, ".status.currentMetrics[0].pods.current.averageValue").rstrip("m") or 0) > 0, "the autoscaler shows the load")
    table = stage.ns("get", "hpa")
    check("(avg)" in table and "TARGETS" in table and f"Revision/{NAME}-predictor-00001" in table, "kubectl get hpa", table)
    described = stage.ns("describe", "inferenceservice", NAME)
    check("New size: 4" in described and "per replica" in described, "events tell the numbers", described)
    say("one replica becomes four under load; kubectl get hpa and describe tell why")


def down(stage):
    check(memory_bytes(stage) > 0, "the model holds memory")
    wait_until(lambda: pods(stage) == 0, "no replica without load", seconds=120)
    wait_until(lambda: memory_bytes(stage) == 0, "no memory at zero")
    ready = stage.ns("get", "inferenceservice", NAME, "-o", "jsonpath={.status.conditions[?(@.type=='Ready')].status}")
    check(ready == "True", "a service at zero is Ready", ready)
    say("no replica without load: the model's memory is given back, the service stays Ready")


def first_request(stage):
    connection = http.client.HTTPConnection("127.0.0.1", stage.port)
    connection.connect()
    started = time.monotonic()
    predict(stage, connection)
    milliseconds = 1e3 * (time.monotonic() - started)
    wait_until(lambda: pods(stage) == 1, "the first request brings a replica")
    say(f"the first request after zero is answered, here in {milliseconds:.1f} ms")


def burst_at_zero(stage):
    wait_until(lambda: pods(stage) == 0, "zero again", seconds=120)
    # What serves wakes a model without the control process.
    subprocess.run(["pkill", "-KILL", "-f", f"control --objects {stage.state}"], check=True)
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        list(pool.map(lambda _: predict(stage), range(50)))
    wait_until(lambda: stage.kubectl("get", "namespaces", check_rc=False)[0] == 0, "the control process is back")
    wait_until(lambda: pods(stage) >= 1, "the new control process sees the replica")
    say("fifty requests at once to nothing, with the control process killed: all answered")


def floor(stage):
    stage.ns("scale", "inferenceservice", NAME, "--replicas=3")
    wait_until(lambda: pods(stage) == 3, "kubectl scale sets a floor")
    refused = stage.ns("annotate", "inferenceservice", NAME, "autoscaling.knative.dev/window=1s", "--overwrite", check_rc=False)
    check("autoscaling.knative.dev/window" in refused and "denied" in refused, "a window of a second is refused", refused)
    say("kubectl scale sets a floor; what cannot be is refused by name")


def restart_at_zero(stage):
    stage.ns("scale", "inferenceservice", NAME, "--replicas=0")
    wait_until(lambda: pods(stage) == 0, "zero once more", seconds=120)
    stage.processes["coracle"].send_signal(signal.SIGTERM)
    stage.processes["coracle"].wait(timeout=60)
    stage.start_coracle()
    wait_until(lambda: stage.ns("get", "inferenceservice", NAME, check_rc=False), "the service is there")
    check(pods(stage) == 0, "what had no replica has none after a restart", pods(stage))
    predict(stage)
    wait_until(lambda: pods(stage) == 1, "a request brings one")
    say("what had no replica starts without, and answers")


def main():
    stage = Stage(sys.argv[1])
    watch = {"file": stage.directory / "watch.txt"}
    try:
        stage.start_coracle()
        up(stage, watch)
        down(stage)
        watch["process"].kill()
        watched = watch["file"].read_text().split()
        names = {word for word in watched if word.startswith(f"{NAME}-predictor-00001-deployment-")}
        check(len(names) == 4, "kubectl get pods -w shows every replica", watched)
        for step in [first_request, burst_at_zero, floor, restart_at_zero]:
            step(stage)
    except BaseException:
        log = stage.directory / "coracle.log"
        print(log.read_text()[-3000:] if log.exists() else "", file=sys.stderr)
        raise
    finally:
        stage.close()
    print("scaling is done")


if __name__ == "__main__":
    main()
