"""The observability exercise: `coracle serve` under the eyes of the tools that operators use.

Usage: observe.py CORACLE_BINARY. Prints a line for every step; the first that fails ends it.
"""

import http.client
import json
import pathlib
import subprocess
import sys
import threading

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

    def __init__(self, binary, *more):
        arguments = [binary, "serve", str(MODELS), "--port", "0", *more]
        self.process = subprocess.Popen(arguments, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        self.lines = []
        for line in self.process.stderr:
            self.lines.append(line)
            if "listening on http://" in line:
                self.address = line.split("http://")[1].strip()
                break
        else:
            raise SystemExit(f"FAILED  {' '.join(arguments)}: {''.join(self.lines)}")
        threading.Thread(target=lambda: self.lines.extend(self.process.stderr), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.process.terminate()
        self.process.wait()

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


def main(binary):
    exercise_metrics(binary)
    say("the observability exercise is done")


if __name__ == "__main__":
    main(sys.argv[1])
