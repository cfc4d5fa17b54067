"""Runtimes as processes: a kserve.Model and a FastAPI server of one's own, as people have them.

Usage: runtimes.py CORACLE_BINARY. Everything runs on loopback; the programs are those of examples/runtimes, run by the
interpreter that runs this file.
"""

import http.client
import json
import os
import pathlib
import re
import signal
import sys
import threading
import time

import grpc
import numpy as np
import tritonclient.grpc as triton

from exercise import NAMESPACE, ROWS, Stage, check, say, wait_until

EXAMPLES = pathlib.Path(__file__).resolve().parent.parent / "examples"
RUNTIMES = EXAMPLES / "runtimes"
IMAGES = [
    f"example/iris-fastapi={sys.executable} -m uvicorn server:app --app-dir {RUNTIMES}/fastapi",
    f"example/iris-kserve={sys.executable} {RUNTIMES}/kserve/model.py",
    f"exercise/echo-grpc={sys.executable} {pathlib.Path(__file__).resolve().parent}/echo_grpc.py",
]

IN_PROCESS = """
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: { name: NAME }
spec:
  predictor:
    model: { modelFormat: { name: sklearn }, storageUri: "pvc://examples/iris" }
"""

FAULTY = """
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: { name: NAME }
spec:
  predictor:
    terminationGracePeriodSeconds: 1
    containers: [{ name: kserve-container, command: [sh, -c, 'COMMAND'] }]
"""

ECHO = """
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: { name: echo }
spec:
  predictor:
    containers:
    - name: kserve-container
      image: exercise/echo-grpc
      args: ["9000"]
      ports: [{ name: h2c, containerPort: 9000 }]
      readinessProbe: { grpc: { port: 9000, service: example.Echo } }
"""


class Runtimes(Stage):
    """A server that may run the examples' programs."""

    def start_coracle(self):
        arguments = ["--state", self.state, "--api-port", str(self.api_port), "--port", str(self.port)]
        arguments += ["--pvc", f"examples={EXAMPLES}", "--run-programs"]
        arguments += [argument for image in IMAGES for argument in ("--image", image)]
        self.start("coracle", [self.binary, "up", *arguments])
        wait_until(lambda: self.kubectl("get", "namespaces", check_rc=False)[0] == 0, "coracle up answers kubectl")

    def apply(self, manifest):
        return self.ns("apply", "-f", "-", stdin=manifest)

    def ready(self, name):
        self.ns("wait", "--for=condition=Ready", f"inferenceservice/{name}", "--timeout=120s")

    def pods(self, name):
        listing = self.ns("get", "pods", "-l", f"serving.kserve.io/inferenceservice={name}", "-o", "json")
        return json.loads(listing)["items"]

    def n_ready(self, name):
        return sum(pod["status"]["containerStatuses"][0]["ready"] for pod in self.pods(name))

    def processes_left(self):
        """The processes that bear the mark of this server's programs."""
        mark = f"CORACLE_REPLICA_DIRECTORY={self.state}".encode()
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and mark in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                pass
        return found


def predict(stage, name, connection=None):
    """Returns who answered: the process's server, or none for the server itself."""
    connection = connection or http.client.HTTPConnection("127.0.0.1", stage.port)
    path = f"/serving/{NAMESPACE}/{name}/v1/models/{name}:predict"
    connection.request("POST", path, json.dumps(ROWS), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    body = answer.read()
    check(answer.status == 200, "prediction", f"{answer.status} {body}")
    check(json.loads(body) == {"predictions": [0, 2]}, "prediction", body)
    return answer.getheader("server")


class Load:
    """Requests without a pause from two connections; none may fail."""

    def __init__(self, stage, name):
        self.stage, self.name, self.failures, self.answers, self.stopping = stage, name, [], [], False
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(2)]

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.stage.port)
        while not self.stopping:
            try:
                self.answers.append(predict(self.stage, self.name, connection))
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
        say(f"{self.name}: {len(self.answers)} requests meanwhile, none failed")


def with_window(manifest, name):
    """The example with a short window, so that scaling to zero is not waited for long."""
    annotations = '  annotations: { autoscaling.knative.dev/class: kpa.autoscaling.knative.dev, autoscaling.knative.dev/window: "6s" }\n'
    return manifest.replace(f"  name: {name}\n", f"  name: {name}\n{annotations}", 1)


def memory_of(stage, name):
    """The MiB that kubectl top tells of a service's pod; 0 while it tells none."""
    top = re.search(name + r"\S+ +\d+m +(\d+)Mi", stage.ns("top", "pods", check_rc=False))
    return int(top[1]) if top else 0


def deploy(stage, name, manifest):
    stage.apply(with_window(manifest, name))
    stage.ready(name)
    check(predict(stage, name) == "uvicorn", "the program answers")
    [pod] = stage.pods(name)
    pid = int(pod["metadata"]["annotations"]["serving.coracle.dev/pid"])
    check(pathlib.Path(f"/proc/{pid}").exists(), "the pod names its process", pid)
    log = stage.ns("logs", pod["metadata"]["name"])
    check("predict" in log, "the program's log is the pod's", log)
    # A first sample may be of a process that is still importing.
    wait_until(lambda: memory_of(stage, name) > 50, "kubectl top tells the memory of a Python process")
    # What processes use is looked at from time to time.
    wait_until(lambda: metric(stage, "coracle_model_memory_bytes", name) > 50 << 20, "its memory is its revision's")
    say(f"{name}: a program of one's own answers, with its pod, its log and what it uses")


def metric(stage, metric_name, name, *labels):
    connection = http.client.HTTPConnection("127.0.0.1", stage.port)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    [line] = [line for line in lines if line.startswith(metric_name + "{") and all(label in line for label in (f'model="{name}"', *labels))]
    return float(line.rsplit(" ", 1)[1])


def scale(stage, name):
    with Load(stage, name):
        stage.ns("scale", "inferenceservice", name, "--replicas=2")
        wait_until(lambda: stage.n_ready(name) == 2, "two processes")
        pids = {pod["metadata"]["annotations"]["serving.coracle.dev/pid"] for pod in stage.pods(name)}
        check(len(pids) == 2, "each replica is a process", pids)
        stage.ns("scale", "inferenceservice", name, "--replicas=1")
        wait_until(lambda: len(stage.pods(name)) == 1, "one process again", seconds=120)
    check(metric(stage, "coracle_model_compute_seconds_total", name) > 0, "the processes' time is their revision's")
    stage.ns("scale", "inferenceservice", name, "--replicas=0")
    wait_until(lambda: not stage.pods(name), "no process without requests", seconds=120)
    wait_until(lambda: not any(pathlib.Path(f"/proc/{pid}").exists() for pid in pids), "its processes are gone")
    started = time.monotonic()
    predict(stage, name)
    seconds = time.monotonic() - started
    wait_until(lambda: stage.n_ready(name) == 1, "the first request brings a process")
    say(f"{name}: 1 -> 2 -> 1 -> 0 -> 1 processes; the first request after zero took {seconds:.1f} s, most of it Python's start")
    stage.ns("scale", "inferenceservice", name, "--replicas=1")


def killed(stage, name):
    [pod] = stage.pods(name)
    pod_name = pod["metadata"]["name"]
    pid = int(pod["metadata"]["annotations"]["serving.coracle.dev/pid"])
    os.kill(pid, signal.SIGKILL)
    # A request that reaches it while it dies is lost with it; one that comes after that waits for the next process.
    wait_until(lambda: not pathlib.Path(f"/proc/{pid}").exists(), "it is gone")
    predict(stage, name)
    status = wait_until(lambda: next((one["status"]["containerStatuses"][0] for one in stage.pods(name) if one["status"]["containerStatuses"][0]["ready"]), None), "it is back")
    last = status["lastState"]["terminated"]
    check((status["restartCount"], last["exitCode"], last["signal"]) == (1, 137, 9), "the pod tells the end", status)
    previous = stage.ns("logs", pod_name, "--previous")
    check("predict" in previous and "SIGKILL" in previous, "the log of the process before", previous)
    say(f"{name}: killed with -9, it is back; the next request waited for it")


def canary(stage, name, manifest):
    """Between a revision in this process and the program; the manifests are those of the example and of the sklearn runtime."""
    service = f"{name}-canary"
    in_process = IN_PROCESS.replace("NAME", service)
    program = manifest.replace(f"name: {name}\n", f"name: {service}\n").replace("  predictor:\n", "  predictor:\n    canaryTrafficPercent: 20\n")
    stage.apply(in_process)
    stage.ready(service)
    with Load(stage, service) as load:
        stage.apply(program)
        wait_until(lambda: "uvicorn" in load.answers, "the canary takes requests", seconds=120)
        load.answers.clear()
        wait_until(lambda: len(load.answers) > 500, "five hundred requests")
    connection = http.client.HTTPConnection("127.0.0.1", stage.port)
    answers = [predict(stage, service, connection) for _ in range(1000)]
    check(answers.count("uvicorn") == 200, "20 percent of 1000", answers.count("uvicorn"))
    with Load(stage, service) as load:
        stage.ns("patch", "inferenceservice", service, "--type=merge", "-p", '{"spec": {"predictor": {"canaryTrafficPercent": 0}}}')
        wait_until(lambda: not any(load.answers[-50:]) and len(load.answers) > 50, "taken back")
        stage.ns("patch", "inferenceservice", service, "--type=merge", "-p", '{"spec": {"predictor": {"canaryTrafficPercent": null}}}')
        wait_until(lambda: all(load.answers[-50:]), "promoted")
    stage.ns("delete", "inferenceservice", service)
    say(f"{name}: 200 of 1000 requests as a canary of a model in this process; taken back and promoted")


def triton_rows():
    rows = triton.InferInput("input-0", [2, 4], "FP64")
    rows.set_data_from_numpy(np.array(ROWS["instances"]))
    return [rows]


def authority(name):
    return [("grpc.default_authority", f"{name}.{NAMESPACE}.example.com")]


def infer(client, name):
    """Returns who answered, by the name of the output: kserve's, or the server's own."""
    answer = client.infer(name, triton_rows())
    output = answer.get_response().outputs[0].name
    check(answer.as_numpy(output).tolist() == [0, 2], "prediction over gRPC", answer.get_response())
    return "kserve" if output == "output-0" else "coracle"


def kserve_over_grpc(stage, manifest):
    """The kserve.Model has a port for each protocol; Triton's client finds it by the message or by the host."""
    url, name = f"127.0.0.1:{stage.port}", "iris-kserve"
    by_message, by_host = triton.InferenceServerClient(url), triton.InferenceServerClient(url, channel_args=authority(name))
    for client in (by_message, by_host):
        check(infer(client, name) == "kserve", "the kserve.Model answers over gRPC")
        check(client.is_model_ready(name), "it says that it is ready")
    check(by_message.get_server_metadata().name == "coracle", "without a host, the server answers for itself")
    check(by_host.get_server_metadata().name == "kserve", "with one, the program does")
    check(predict(stage, name) == "uvicorn", "and over REST as well")
    stage.ns("scale", "inferenceservice", name, "--replicas=2")
    wait_until(lambda: stage.n_ready(name) == 2, "two processes, each with ports of its own")
    check({infer(by_message, name) for _ in range(50)} == {"kserve"}, "both answer")
    service = f"{name}-grpc"
    stage.apply(IN_PROCESS.replace("NAME", service))
    stage.ready(service)
    check(infer(by_message, service) == "coracle", "the model in this process answers")
    stage.apply(manifest.replace(f"name: {name}\n", f"name: {service}\n").replace("  predictor:\n", "  predictor:\n    canaryTrafficPercent: 20\n"))
    wait_until(lambda: "kserve" in [infer(by_message, service) for _ in range(20)], "the canary takes calls", seconds=120)
    for client in (by_message, triton.InferenceServerClient(url, channel_args=authority(service))):
        answers = [infer(client, service) for _ in range(500)]
        check(answers.count("kserve") == 100, "20 percent of 500", answers.count("kserve"))
    [requests] = [metric(stage, "coracle_requests_total", service, 'protocol="grpc"', f'revision="{service}-predictor-00002"')]
    check(requests >= 200, "calls count for their revision", requests)
    stage.ns("delete", "inferenceservice", service)
    stage.ns("scale", "inferenceservice", name, "--replicas=1")
    say("iris-kserve: tritonclient.grpc is answered by the kserve.Model, found by message and by host; 100 of 500 calls as a canary")


def experiments(stage):
    """A model in this process, a kserve.Model and a FastAPI server are variants of one experiment, over REST and gRPC; outcomes and failures are told of all."""
    stage.apply(IN_PROCESS.replace("NAME", "iris-here"))
    stage.ready("iris-here")
    variants = [{"name": "here"}, {"name": "kserve", "inferenceService": "iris-kserve"}, {"name": "fastapi", "inferenceService": "iris-fastapi"}]
    spec = {"inferenceService": "iris-here", "unit": {"header": "x-user"}, "variants": variants, "metrics": [{"name": "liked", "type": "Conversion"}, {"name": "errors", "type": "Errors"}]}
    stage.apply(json.dumps({"apiVersion": "serving.coracle.dev/v1alpha1", "kind": "Experiment", "metadata": {"name": "programs"}, "spec": spec}))
    wait_until(lambda: "Running" in stage.ns("get", "experiment", "programs", "-o", "jsonpath={.status.phase}"), "programs take part in an experiment")
    connection = http.client.HTTPConnection("127.0.0.1", stage.port)

    def ask(method, path, body=None, user=None):
        connection.request(method, f"/serving/{NAMESPACE}/iris-here{path}", json.dumps(body), {"Content-Type": "application/json"} | ({"x-user": user} if user else {}))
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read()), answer.headers

    of = {}
    for user in (f"user-{index}" for index in range(150)):
        code, answer, headers = ask("POST", "/v1/models/iris-here:predict", ROWS, user)
        of[user] = variant = headers["x-coracle-variant"]
        check((code, answer, headers["x-coracle-experiment"]) == (200, {"predictions": [0, 2]}, "programs"), "a variant answers", (variant, code, answer))
        check((headers["server"] == "uvicorn") == (variant != "here"), "it is the variant's program", (variant, dict(headers)))
        code, told, _ = ask("POST", "/experiments/programs/outcomes", {"requestId": headers["x-request-id"], "metric": "liked", "value": variant == "kserve"})
        check((code, told["accepted"]) == (200, 1), "an outcome by the request's id", told)
    counts = {name: list(of.values()).count(name) for name in ("here", "kserve", "fastapi")}
    check(min(counts.values()) > 25, "each variant has users", counts)
    client = triton.InferenceServerClient(f"127.0.0.1:{stage.port}", channel_args=authority("iris-here"))
    over_grpc = [user for user, variant in of.items() if variant != "fastapi"]
    for user in over_grpc:
        output = client.infer("iris-here", triton_rows(), headers={"x-user": user}).get_response().outputs[0].name
        check((output == "output-0") == (of[user] == "kserve"), "the same variant over gRPC, by its own name", (of[user], output))
    failed = {name: next(user for user, variant in of.items() if variant == name) for name in counts}
    for name, user in failed.items():
        code, answer, headers = ask("POST", "/v1/models/iris-here:predict", {"instances": [[1.0]]}, user)
        check(code >= 400 and headers["x-coracle-variant"] == name, "a failure says whose it is", (name, code, answer))
    code, report, _ = ask("GET", "/experiments/programs")
    for one in report["variants"]:
        name = one["name"]
        n_requests = counts[name] * (1 if name == "fastapi" else 2) + 1
        check((one["units"], one["requests"], one["errors"]) == (counts[name], n_requests, 1), "what came of a variant", one)
        check(one["metrics"]["liked"] == {**one["metrics"]["liked"], "units": counts[name], "mean": float(name == "kserve")}, "its outcomes", one)
    stage.ns("delete", "experiment", "programs")
    stage.ns("delete", "inferenceservice", "iris-here")
    say(f"programs and a model in this process were variants of one experiment: {counts}")


def any_grpc(stage):
    """A service of one's own: streams both ways, deadlines, cancellation, a health probe, from zero."""
    stage.apply(ECHO)
    stage.ready("echo")
    with grpc.insecure_channel(f"127.0.0.1:{stage.port}", options=authority("echo")) as channel:
        check(channel.unary_unary("/example.Echo/Unary")(b"a", timeout=20) == b"a", "unary")
        check(list(channel.unary_stream("/example.Echo/Count")(b"1000", timeout=20)) == [b"%d" % i for i in range(1000)], "server streaming")
        check(channel.stream_unary("/example.Echo/Join")(iter([b"a", b"b", b"c"]), timeout=20) == b"abc", "client streaming")
        turns, gate = [], threading.Semaphore(1)

        def questions():
            for turn in range(20):
                # Only once the answer to the one before has come.
                check(gate.acquire(timeout=20), "answers come while the caller goes on asking")
                yield b"%d" % turn

        call = channel.stream_stream("/example.Echo/Chat")(questions(), timeout=60, metadata=[("x-mine", "1")])
        for answer in call:
            turns.append(answer)
            gate.release()
        check(turns == [b"1:%d" % turn for turn in range(20)], "both ways, with metadata", turns)
        check(("x-its-own", "2") in call.trailing_metadata(), "trailers", call.trailing_metadata())

        def fails(method, code, words, **options):
            try:
                channel.unary_unary(f"/example.Echo/{method}")(b"a", **options)
            except grpc.RpcError as error:
                check(error.code() == code and words in error.details(), method, error)
                return
            raise SystemExit(f"FAILED  {method} did not fail")

        fails("Refuses", grpc.StatusCode.FAILED_PRECONDITION, "not today", timeout=20)
        fails("Absent", grpc.StatusCode.UNIMPLEMENTED, "", timeout=20)
        fails("Hangs", grpc.StatusCode.DEADLINE_EXCEEDED, "", timeout=1)
        hanging = channel.unary_unary("/example.Echo/Hangs").future(b"a", timeout=60)
        log = lambda: stage.ns("logs", "-l", "serving.kserve.io/inferenceservice=echo", "--tail=-1")
        wait_until(lambda: log().count("hangs") == 2, "the call is at the program")
        hanging.cancel()
        wait_until(lambda: log().count("cancelled") == 2, "the program hears of deadline and cancellation")
        stage.ns("scale", "inferenceservice", "echo", "--replicas=0")
        wait_until(lambda: not stage.pods("echo"), "no process without calls", seconds=120)
        check(channel.unary_unary("/example.Echo/Unary")(b"back", timeout=60) == b"back", "the first call brings a process")
    stage.ns("delete", "inferenceservice", "echo")
    say("a gRPC service of one's own: streams both ways, statuses, deadline and cancellation, a health probe, from zero to one")


def faulty(stage):
    commands = {
        "crashes": ("echo no such weights >&2; exit 3", "RevisionFailed", "exit code 3; its last lines: no such weights"),
        "never-ready": ("sleep 1000", "Deploying", "nothing listens on port"),
        "ignores-sigterm": ('trap "" TERM; while :; do sleep 1; done', "Deploying", "nothing listens on port"),
        "floods": ("yes overflowing", "Deploying", "nothing listens on port"),
    }
    for name, (command, reason, message) in commands.items():
        stage.apply(FAULTY.replace("NAME", name).replace("COMMAND", command))
        path = "jsonpath={.status.conditions[?(@.type=='Ready')]}"
        seen = lambda: stage.ns("get", "inferenceservice", name, "-o", path)
        wait_until(lambda: message in seen() and reason in seen(), f"{name} says {message!r}")
    overdue = FAULTY.replace("metadata: { name: NAME }", 'metadata: { name: overdue, annotations: { serving.knative.dev/progress-deadline: "2s" } }')
    stage.apply(overdue.replace("COMMAND", "sleep 1000"))
    path = "jsonpath={.status.conditions[?(@.type=='Ready')]}"
    seen = wait_until(lambda: (now := stage.ns("get", "inferenceservice", "overdue", "-o", path)) and "ProgressDeadlineExceeded" in now and now, "a deadline")
    check("not ready within 2 s: readiness probe: nothing listens on port" in seen, "what the probe sees", seen)
    [pod] = stage.pods("crashes")
    state = wait_until(lambda: stage.pods("crashes")[0]["status"]["containerStatuses"][0]["state"].get("waiting"), "it waits")
    check(state["reason"] == "CrashLoopBackOff", "CrashLoopBackOff", state)
    log = stage.ns("logs", "-l", "serving.kserve.io/inferenceservice=floods", "--tail=-1", check_rc=False)
    check(len(log) < 40_000_000, "a flood is bounded", len(log))
    image = FAULTY.replace("command: [sh, -c, 'COMMAND']", "image: some/image:v1").replace("NAME", "image-only")
    stage.apply(image)
    why = wait_until(lambda: stage.ns("get", "inferenceservice", "image-only", "-o", "jsonpath={.status.conditions[?(@.type=='Ready')].message}"), "a condition")
    check("this machine runs no images" in why and "--image 'some/image:v1=" in why, "an image alone says what to do", why)
    stage.ns("delete", "inferenceservice", "image-only", "overdue", *commands)
    say("programs that crash, never listen, ignore SIGTERM or flood their log say so; an image alone says what to do")


def server_killed(stage):
    check(len(stage.processes_left()) >= 4, "guards and programs run", stage.processes_left())
    stage.processes["coracle"].kill()
    stage.processes["coracle"].wait()
    wait_until(lambda: not stage.processes_left(), "no process outlives the server", seconds=60)
    stage.start_coracle()
    for name in ("iris-fastapi", "iris-kserve"):
        wait_until(lambda: stage.n_ready(name) >= 1, "it is served again")
        predict(stage, name)
    stage.processes["coracle"].terminate()
    stage.processes["coracle"].wait(timeout=60)
    check(not stage.processes_left(), "nothing is left of a server that was stopped", stage.processes_left())
    say("no process outlives the server, killed or stopped")


def main():
    stage = Runtimes(sys.argv[1])
    examples = {
        "iris-fastapi": (RUNTIMES / "fastapi" / "service.yaml").read_text(),
        "iris-kserve": (RUNTIMES / "kserve" / "service.yaml").read_text(),
    }
    try:
        stage.start_coracle()
        stage.kubectl("create", "namespace", NAMESPACE)
        stage.apply((RUNTIMES / "kserve" / "runtime.yaml").read_text())
        for name, manifest in examples.items():
            deploy(stage, name, manifest)
            scale(stage, name)
            killed(stage, name)
            canary(stage, name, manifest)
        kserve_over_grpc(stage, examples["iris-kserve"])
        experiments(stage)
        any_grpc(stage)
        faulty(stage)
        server_killed(stage)
    except BaseException:
        log = stage.directory / "coracle.log"
        print(log.read_text()[-3000:] if log.exists() else "", file=sys.stderr)
        raise
    finally:
        stage.close()
    print("runtimes are done")


if __name__ == "__main__":
    main()
