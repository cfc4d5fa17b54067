"""The observability exercise: `coracle serve` under the eyes of the tools that operators use.

Usage: observe.py CORACLE_BINARY. Prints a line for every step; the first that fails ends it.
"""

import http.client
import http.server
import json
import os
import pathlib
import queue
import subprocess
import sys
import tempfile
import threading
import time

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open_metrics
from prometheus_client.parser import text_string_to_metric_families as parse_prometheus

MODELS = pathlib.Path(__file__).parent.parent / "examples/models"
TRACE = "0af7651916cd43dd8448eb211c80319c"
WINE = json.dumps({"instances": [[13.0, 2.3, 2.4, 19.5, 99, 2.3, 2.0, 0.4, 1.6, 5.0, 1.0, 2.6, 740]] * 3})


def say(step):
    print(f"ok  {step}", flush=True)


def check(condition, step, seen=""):
    if not condition:
        raise SystemExit(f"FAILED  {step}\n  seen: {seen}")


class Server:
    """A server of this exercise's own; `lines` is what it says."""

    def __init__(self, binary, *more, environment=None):
        arguments = [binary, "serve", str(MODELS), "--port", "0", *more]
        environment = {**os.environ, **(environment or {})}
        self.process = subprocess.Popen(arguments, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, env=environment)
        self.lines = []
        for line in self.process.stderr:
            self.lines.append(line)
            if "listening on http://" in line:
                self.address = line.split("http://")[1].strip()
                break
        else:
            raise SystemExit(f"FAILED  {' '.join(arguments)}: {''.join(self.lines)}")
        self.reader = threading.Thread(target=lambda: self.lines.extend(self.process.stderr), daemon=True)
        self.reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.process.terminate()
        self.process.wait()
        self.reader.join()

    def ask(self, method, path, body=None, headers=None):
        """Returns the status, the headers and the text of an answer."""
        connection = http.client.HTTPConnection(self.address, timeout=30)
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, answer.headers, text


# --- metrics -----------------------------------------------------------------------------------------------------------


def exercise_metrics(binary):
    with Server(binary) as server:
        trace = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
        for headers in ({}, trace):
            status, _, text = server.ask("POST", "/v1/models/wine:predict", WINE, headers)
            check(status == 200, "a prediction", text)
        server.ask("POST", "/v1/models/wine:predict", "{")
        _, headers, text = server.ask("GET", "/metrics")
        check(headers["content-type"].startswith("text/plain; version=0.0.4"), "Prometheus' format is the default", headers)
        families = {family.name: family for family in parse_prometheus(text)}
        check(value(families, "coracle_requests", "coracle_requests_total", model="wine", protocol="v1", code="ok") == 2, "calls are counted")
        accept = {"Accept": "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"}
        _, headers, text = server.ask("GET", "/metrics", headers=accept)
        check(headers["content-type"].startswith("application/openmetrics-text; version=1.0.0"), "OpenMetrics on request", headers)
        open_families = {family.name: family for family in parse_open_metrics(text)}
        check(set(open_families) == set(families), "both formats have the same families", set(open_families) ^ set(families))
        exercise_histograms(open_families)
    say("prometheus_client reads both text formats, with histograms by phase and the trace of a request")


def value(families, family, sample, **labels):
    """Returns the only sample with these labels."""
    found = [s.value for s in families[family].samples if s.name == sample and labels.items() <= s.labels.items()]
    check(len(found) == 1, f"one {sample}{labels}", found)
    return found[0]


def exercise_histograms(families):
    for phase, count in (("request", 3), ("queue", 2), ("parse", 2), ("compute", 2), ("render", 2)):
        name = f"coracle_{phase}_duration_seconds"
        check(value(families, name, f"{name}_count", model="wine") == count, f"{name} counts", count)
        check(not [s for s in families[name].samples if s.labels["model"] != "wine"], f"{name} only of models that were asked")
    check(value(families, "coracle_batch_rows", "coracle_batch_rows_sum", model="wine") == 6, "rows are counted")
    buckets = families["coracle_request_duration_seconds"].samples
    examples = [s.exemplar for s in buckets if s.exemplar]
    check([e.labels for e in examples] == [{"trace_id": TRACE}], "one exemplar", examples)


# --- payloads ----------------------------------------------------------------------------------------------------------


class Sink:
    """Takes what is posted to it; `get` returns the next path, headers and body."""

    def __init__(self, pause=0):
        posts = self.posts = queue.Queue()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                posts.put((self.path, dict(self.headers), body))
                time.sleep(pause)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def get(self):
        return self.posts.get(timeout=30)

    def pair(self):
        """Returns a request's and its answer's headers (in lower case) and bodies."""
        events = [self.get(), self.get()]
        events = [({name.lower(): value for name, value in headers.items()}, body) for _, headers, body in events]
        return sorted(events, key=lambda event: event[0]["ce-type"])


def exercise_payloads(binary):
    sink = Sink()
    with Server(binary, "--log-payloads-to", sink.url + "/sink", "--log-payload-header", "X-User") as server:
        headers = {"x-request-id": "one", "X-User": "me", "content-type": "application/json"}
        _, _, answer = server.ask("POST", "/v1/models/wine:predict", WINE, headers)
        (head, request), (answer_head, response) = sink.pair()
        check(request.decode() == WINE and response.decode() == answer, "V1's payloads are recorded as they travelled", response)
        check(head["ce-type"] == "org.kubeflow.serving.inference.request", "KServe's types of events", head)
        check(head["ce-id"] == answer_head["ce-id"] == "one", "a request and its answer have one id", head)
        check(json.loads(head["ce-metadata"]) == {"X-User": ["me"]}, "headers are recorded", head)
        check(head["ce-inferenceservicename"] == "wine", "the model is recorded", head)
        infer = {"inputs": [{"name": "X", "shape": [1, 13], "datatype": "FP64", "data": json.loads(WINE)["instances"][0]}]}
        server.ask("POST", "/v2/models/wine/infer", json.dumps(infer), headers)
        (_, request), (_, response) = sink.pair()
        check(json.loads(request) == infer and json.loads(response)["outputs"], "V2's payloads are recorded", response)
        exercise_grpc_payloads(server, sink)
        status, _, text = server.ask("POST", "/v1/models/wine:predict", '{"instances": [[1]]}', headers)
        _, (head, response) = sink.pair()
        check(head["ce-statuscode"] == str(status) == "400" and response.decode() == text, "failures are recorded, too", head)
    exercise_slow_sink(binary)
    exercise_files(binary)
    say("requests and answers are recorded as CloudEvents over HTTP and in files, by every protocol")


def exercise_grpc_payloads(server, sink):
    import numpy as np
    import tritonclient.grpc as triton
    from tritonclient.grpc import service_pb2

    client = triton.InferenceServerClient(server.address)
    tensor = triton.InferInput("X", [1, 13], "FP64")
    tensor.set_data_from_numpy(np.array(json.loads(WINE)["instances"][:1]))
    client.infer("wine", [tensor], headers={"x-request-id": "by-grpc"})
    client.close()
    (head, request), (answer_head, response) = sink.pair()
    check(head["ce-id"] == answer_head["ce-id"] == "by-grpc", "gRPC's request id is the event's", head)
    check(head["content-type"] == "application/protobuf", "gRPC's payloads are its messages", head)
    check(head["ce-messagetype"] == "inference.ModelInferRequest", "the message is named", head)
    check(service_pb2.ModelInferRequest.FromString(request).model_name == "wine", "the request can be read", request)
    check(service_pb2.ModelInferResponse.FromString(response).outputs[0].name == "predict", "the answer can be read", response)


def exercise_slow_sink(binary):
    slow = Sink(pause=8)
    with Server(binary, "--log-payloads-to", slow.url, "--payload-memory", "256KiB") as server:
        started = time.monotonic()
        for _ in range(400):
            server.ask("POST", "/v1/models/wine:predict", WINE)
        check(time.monotonic() - started < 8, "a slow receiver delays nobody", time.monotonic() - started)
        _, _, text = server.ask("GET", "/metrics")
        families = {family.name: family for family in parse_prometheus(text)}
        lost = value(families, "coracle_payloads_lost", "coracle_payloads_lost_total", reason="queue_full")
        held = value(families, "coracle_payloads_waiting_bytes", "coracle_payloads_waiting_bytes")
        check(lost > 0 and held <= 256 << 10, "what does not fit is lost and counted", (lost, held))


def exercise_files(binary):
    with tempfile.TemporaryDirectory(prefix="coracle-observe-") as directory:
        more = ["--log-payloads-to", directory, "--payload-file-max", "4KiB", "--payload-files", "3", "--log-payloads", "request"]
        with Server(binary, *more) as server:
            for _ in range(20):
                server.ask("POST", "/v1/models/wine:predict", WINE)
        files = sorted(pathlib.Path(directory).iterdir())
        names = [file.name for file in files]
        check(names == ["payloads.1.jsonl", "payloads.2.jsonl", "payloads.jsonl"], "files are rotated", names)
        check(all(file.stat().st_size <= 4096 for file in files), "files are bounded", files)
        events = [json.loads(line) for file in files for line in file.read_text().splitlines()]
        check(all(event["data"] == json.loads(WINE) for event in events), "each line is an event with its data", events[0])
        check({event["type"] for event in events} == {"org.kubeflow.serving.inference.request"}, "requests alone")


# --- traces ------------------------------------------------------------------------------------------------------------


def exercise_traces(binary):
    sink = Sink()
    environment = {"OTEL_SERVICE_NAME": "wines", "OTEL_EXPORTER_OTLP_HEADERS": "x-key=secret"}
    with Server(binary, "--otlp-endpoint", sink.url, environment=environment) as server:
        caller = "b7ad6b7169203331"
        headers = {"traceparent": f"00-{TRACE}-{caller}-01", "x-request-id": "one"}
        _, answer, _ = server.ask("POST", "/v1/models/wine:predict", WINE, headers)
        spans = Spans(sink)
        check(spans.path == "/v1/traces" and spans.headers["x-key"] == "secret", "spans are sent where they should be", spans.headers)
        check(spans.resource["service.name"] == "wines", "the service is named", spans.resource)
        root = spans.named("POST /v1/models/wine:predict")
        check(root.trace_id.hex() == TRACE and root.parent_span_id.hex() == caller, "a span is below its caller's", root)
        check(answer["traceparent"] == f"00-{TRACE}-{root.span_id.hex()}-01", "the answer names the span", answer["traceparent"])
        check(root.kind == root.SPAN_KIND_SERVER, "a server's span", root)
        seen = attributes(root)
        expected = {
            "http.request.method": "POST", "url.path": "/v1/models/wine:predict", "http.response.status_code": 200,
            "coracle.model.name": "wine", "coracle.model.version": "1", "coracle.rows": 3,
        }
        check(expected.items() <= seen.items(), "attributes by the semantic conventions", seen)
        for phase in ("parse", "compute", "render"):
            span = spans.named(phase)
            check(span.parent_span_id == root.span_id, f"{phase} is below the request", span)
            inside = root.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano <= root.end_time_unix_nano
            check(inside, f"{phase} is within the request", (root, span))
        check(abs(root.end_time_unix_nano / 1e9 - time.time()) < 60, "spans have the time of day", root)
        # A caller that does not record is followed.
        server.ask("POST", "/v1/models/wine:predict", WINE, {"traceparent": f"00-{TRACE}-{caller}-00"})
        exercise_grpc_trace(server, sink)
        status, _, _ = server.ask("POST", "/v1/models/wine:predict", '{"instances": [[1]]}')
        spans = Spans(sink)
        root = spans.named("POST /v1/models/wine:predict")
        check(status == attributes(root)["http.response.status_code"] == 400 and not root.parent_span_id, "a trace of its own", root)
        _, _, text = server.ask("GET", "/metrics")
        families = {family.name: family for family in parse_prometheus(text)}
        check(value(families, "coracle_spans_exported", "coracle_spans_exported_total") >= 9, "spans are counted")
    with Server(binary, "--otlp-endpoint", sink.url, environment={"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25"}) as server:
        for _ in range(200):
            server.ask("GET", "/v1/models")
    n_spans = 0
    while not sink.posts.empty():
        n_spans += len(Spans(sink).spans)
    check(20 <= n_spans <= 90, "a quarter of the traces is recorded", n_spans)
    exercise_dead_collector(binary)
    say("opentelemetry-proto reads the spans of requests and their phases")


def exercise_dead_collector(binary):
    with Server(binary, "--otlp-endpoint", "http://127.0.0.1:9") as server:
        for _ in range(20):
            check(server.ask("GET", "/v1/models")[0] == 200, "a collector that is gone delays nobody")
    said = [line for line in server.lines if "spans are lost" in line]
    check(len(said) == 1, "the log says so once", server.lines)


def exercise_grpc_trace(server, sink):
    import numpy as np
    import tritonclient.grpc as triton

    client = triton.InferenceServerClient(server.address)
    tensor = triton.InferInput("X", [1, 13], "FP64")
    tensor.set_data_from_numpy(np.array(json.loads(WINE)["instances"][:1]))
    client.infer("wine", [tensor], headers={"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"})
    client.close()
    spans = Spans(sink)
    root = spans.named("inference.GRPCInferenceService/ModelInfer")
    seen = attributes(root)
    expected = {"rpc.system": "grpc", "rpc.method": "ModelInfer", "rpc.grpc.status_code": 0, "coracle.model.name": "wine", "coracle.rows": 1}
    check(expected.items() <= seen.items(), "attributes of gRPC", seen)
    check(spans.named("compute").parent_span_id == root.span_id, "gRPC's phases are below the request", spans.spans)


class Spans:
    """The spans of the next export."""

    def __init__(self, sink):
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        self.path, headers, body = sink.get()
        self.headers = {name.lower(): text for name, text in headers.items()}
        check(self.headers["content-type"] == "application/x-protobuf", "OTLP in protobuf", self.headers)
        (resource,) = ExportTraceServiceRequest.FromString(body).resource_spans
        self.resource = attributes(resource.resource)
        self.spans = list(resource.scope_spans[0].spans)

    def named(self, name):
        found = [span for span in self.spans if span.name == name]
        check(len(found) == 1, f"one span {name}", [span.name for span in self.spans])
        return found[0]


def attributes(message):
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in message.attributes}


def main(binary):
    exercise_metrics(binary)
    exercise_payloads(binary)
    exercise_traces(binary)
    say("the observability exercise is done")


if __name__ == "__main__":
    main(sys.argv[1])
