"""KServe's batcher as its user sees it: applied with kubectl, each caller gets its own answer, fewer runs than requests.

Usage: batching.py CORACLE_BINARY. Everything runs on loopback; the model is examples/iris.
"""

import concurrent.futures
import http.client
import json
import pathlib
import sys
import time

from exercise import NAMESPACE, Stage, check, say

NAME = "iris-batched"
EXAMPLES = pathlib.Path(__file__).resolve().parent.parent / "examples"
BATCH = 8
MANIFEST = f"""
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: {NAME}
  namespace: {NAMESPACE}
spec:
  predictor:
    batcher: {{ maxBatchSize: {BATCH}, maxLatency: 20000 }}
    model:
      modelFormat: {{ name: sklearn }}
      storageUri: file://{EXAMPLES}/iris
"""
# Flowers and their classes, as the model's own library tells them.
FLOWERS = [([5.1, 3.5, 1.4, 0.2], 0), ([6.2, 3.4, 5.4, 2.3], 2)]
V1, V2 = f"/v1/models/{NAME}:predict", f"/v2/models/{NAME}/infer"


def post(stage, path, body, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", stage.port)
    connection.request("POST", f"/serving/{NAMESPACE}/{NAME}{path}", json.dumps(body), {"Content-Type": "application/json", **headers})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def ask(stage, number):
    """Asks for a flower in one of two protocols; returns the class, and the one it should be."""
    row, expected = FLOWERS[number % 2]
    if number % 4 < 2:
        status, body = post(stage, V1, {"instances": [row]})
        check(status == 200 and list(body) == ["predictions"], "V1 answers as without a batcher", body)
        return body["predictions"], [expected]
    inputs = [{"name": "X", "shape": [1, 4], "datatype": "FP64", "data": row}]
    status, body = post(stage, V2, {"inputs": inputs})
    check(status == 200, "V2 answers", body)
    return body["outputs"][0]["data"], [expected]


def metric(stage, name):
    connection = http.client.HTTPConnection("127.0.0.1", stage.port)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    return sum(int(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"{name}{{") and NAME in line)


def together(stage):
    rounds = 5
    with concurrent.futures.ThreadPoolExecutor(BATCH) as pool:
        for _ in range(rounds):
            # The batch goes once it is full: had they not been put together, the first would wait for 20 s.
            for got, expected in pool.map(lambda number: ask(stage, number), range(BATCH)):
                check(got == expected, "each caller gets its own answer", f"{got} {expected}")
    calls, runs = metric(stage, "coracle_model_calls_total"), metric(stage, "coracle_model_runs_total")
    check((calls, runs) == (rounds * BATCH, rounds), "one run for each batch", f"{calls} calls, {runs} runs")
    say(f"batcher: {calls} requests of V1 and V2 were answered by {runs} runs, each with its own answer")


def in_a_hurry(stage):
    started = time.monotonic()
    status, body = post(stage, V1, {"instances": [FLOWERS[0][0]]}, **{"x-request-timeout": "5s"})
    seconds = time.monotonic() - started
    check(status == 200 and seconds < 5, "a caller with less time than maxLatency does not wait", f"{status} {body} {seconds}")
    status, body = post(stage, V1, {"instances": [FLOWERS[0][0]]}, **{"x-request-timeout": "soon"})
    check(status == 400 and "x-request-timeout" in body["error"], "a time that is none is refused", f"{status} {body}")
    say("a caller that has less time than maxLatency is answered at once")


def main():
    stage = Stage(sys.argv[1])
    try:
        stage.start_coracle()
        stage.kubectl("create", "namespace", NAMESPACE)
        stage.apply(MANIFEST)
        stage.ns("wait", "--for=condition=Ready", f"inferenceservice/{NAME}", "--timeout=60s")
        together(stage)
        in_a_hurry(stage)
    except BaseException:
        log = stage.directory / "coracle.log"
        print(log.read_text()[-3000:] if log.exists() else "", file=sys.stderr)
        raise
    finally:
        stage.close()
    print("batching is done")


if __name__ == "__main__":
    main()
