"""Times 1,000 InferenceServices on the local control plane. Usage: bench.py CORACLE_BINARY MODEL_DIRECTORY.

Only Python's own library: one keep-alive connection, JSON bodies. Prints a Markdown table.
"""

import http.client
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time

COUNT = 1000
BASE = "/apis/serving.kserve.io/v1beta1/namespaces/many/inferenceservices"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Plane:
    def __init__(self, binary):
        self.binary, self.api_port, self.port = binary, free_port(), free_port()
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="coracle-bench-"))

    def start(self):
        command = [self.binary, "up", "--state", self.directory, "--api-port", str(self.api_port), "--port", str(self.port)]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)

    def connect(self):
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", self.api_port)
            try:
                connection.connect()
                return connection
            except OSError:
                time.sleep(0.005)

    def processes(self):
        children = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True).stdout.split()
        return [str(self.process.pid), *children]

    def close(self):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


def send(connection, method, path, body=None, content_type="application/json"):
    connection.request(method, path, None if body is None else json.dumps(body), {"Content-Type": content_type})
    answer = connection.getresponse()
    return answer.status, answer.read()


def is_ready(item):
    conditions = item.get("status", {}).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def predict_until_answered(plane):
    body = json.dumps({"instances": [[5.1, 3.5, 1.4, 0.2]]})
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", plane.port)
        try:
            connection.request("POST", f"/serving/many/m{COUNT - 1:04}/v1/models/m{COUNT - 1:04}:predict", body, {"Content-Type": "application/json"})
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.005)


def cpu_seconds(plane):
    ticks = 0
    for process in plane.processes():
        fields = pathlib.Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def resident_mb(process):
    for line in pathlib.Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1e3
    return 0.0


def cold_starts(plane, connection, model, show):
    """Times the first request to services that have never had a replica: it loads the model and is answered by it."""
    send(connection, "POST", "/api/v1/namespaces", {"metadata": {"name": "asleep"}})
    base = BASE.replace("/many/", "/asleep/")
    names = [f"a{index:02}" for index in range(50)]
    for name in names:
        service = {
            "apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService",
            "metadata": {"name": name, "annotations": {"autoscaling.knative.dev/initial-scale": "0"}},
            "spec": {"predictor": {"minReplicas": 0, "model": {"modelFormat": {"name": "sklearn"}, "storageUri": f"file://{model}"}}}}
        status, body = send(connection, "POST", base, service)
        assert status == 201, body
    while not all(map(is_ready, json.loads(send(connection, "GET", base)[1])["items"])):
        time.sleep(0.05)
    pods = json.loads(send(connection, "GET", "/api/v1/namespaces/asleep/pods")[1])["items"]
    assert pods == [], "nothing is loaded before the first request"
    body = {"instances": [[5.1, 3.5, 1.4, 0.2]]}
    requests = http.client.HTTPConnection("127.0.0.1", plane.port)
    requests.connect()
    times = {"first": [], "second": []}
    for name in names:
        for turn in times.values():
            started = time.perf_counter()
            status, answer = send(requests, "POST", f"/serving/asleep/{name}/v1/models/{name}:predict", body)
            turn.append((time.perf_counter() - started) * 1e3)
            assert (status, json.loads(answer)) == (200, {"predictions": [0]}), answer
    for what, turn in (("first request to a service without replicas", "first"), ("the request after it", "second")):
        median, most = sorted(times[turn])[25], max(times[turn])
        show(f"{what}, median and most of 50", f"{median:.1f} ms, {most:.1f} ms")


def measure(plane, model, show):
    connection = plane.connect()
    send(connection, "POST", "/api/v1/namespaces", {"metadata": {"name": "many"}})
    started = time.perf_counter()
    for index in range(COUNT):
        service = {
            "apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "metadata": {"name": f"m{index:04}"},
            "spec": {"predictor": {"model": {"modelFormat": {"name": "sklearn"}, "storageUri": f"file://{model}"}}}}
        status, body = send(connection, "POST", BASE, service)
        assert status == 201, body
    created = time.perf_counter() - started
    show("create 1,000, one after another", f"{created:.2f} s ({created:.2f} ms each)")
    while not all(map(is_ready, json.loads(send(connection, "GET", BASE)[1])["items"])):
        time.sleep(0.05)
    show("all of them ready, from the first create", f"{time.perf_counter() - started:.2f} s")
    times = []
    for _ in range(5):
        started = time.perf_counter()
        size = len(send(connection, "GET", BASE)[1])
        times.append(time.perf_counter() - started)
    show("list", f"{sorted(times)[2] * 1e3:.0f} ms ({size / 1e6:.1f} MB)")
    watching = plane.connect()
    started = time.perf_counter()
    watching.request("GET", f"{BASE}?watch=1")
    events = watching.getresponse()
    for _ in range(COUNT):
        events.readline()
    show("watch: the 1,000 that are there", f"{(time.perf_counter() - started) * 1e3:.0f} ms")
    times = []
    for index in range(50):
        started = time.perf_counter()
        patch = {"metadata": {"labels": {"turn": str(index)}}}
        send(connection, "PATCH", f"{BASE}/m{index:04}", patch, "application/merge-patch+json")
        while json.loads(events.readline())["object"]["metadata"].get("labels", {}).get("turn") != str(index):
            pass
        times.append(time.perf_counter() - started)
    show("patch until its watch event, median of 50", f"{sorted(times)[25] * 1e3:.1f} ms")
    time.sleep(1)
    before = cpu_seconds(plane)
    time.sleep(10)
    show("processor time of both processes in 10 s of rest", f"{(cpu_seconds(plane) - before) * 1e3:.0f} ms")
    cold_starts(plane, connection, model, show)
    serving, control = (plane.processes() + ["self"])[:2]
    show("resident memory: serving, control", f"{resident_mb(serving):.0f} MB, {resident_mb(control):.0f} MB")
    plane.process.kill()
    plane.process.wait()
    started = time.perf_counter()
    plane.start()
    predict_until_answered(plane)
    show("killed and started: until the first answer, all models loaded", f"{time.perf_counter() - started:.2f} s")


def main():
    plane = Plane(sys.argv[1])
    plane.start()
    print("| 1,000 InferenceServices of the iris forest | |\n|---|---|")
    try:
        measure(plane, sys.argv[2], lambda what, figure: print(f"| {what} | {figure} |", flush=True))
    finally:
        plane.close()


if __name__ == "__main__":
    main()
