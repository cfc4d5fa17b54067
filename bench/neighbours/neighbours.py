"""What a slow neighbour does to a quick model's latency: the real binary, its own load tool, one machine.

Usage: neighbours.py CORACLE_BINARY [--rows 5000] [--rate 500] [--seconds 10] [--slow examples/models/wine] [--most 2]

The quick model is asked for one row at a steady rate, first alone, then beside a slow model that 8 connections ask for thousands
of rows each, as fast as it answers. The end is 1 if the quick model's p99 grew to more than `--most` times what it was.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys
import threading

EXAMPLES = pathlib.Path(__file__).resolve().parent.parent.parent / "examples"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("coracle")
    parser.add_argument("--tool", help="the binary whose `bench` makes the load [default: the same]")
    parser.add_argument("--quick", default=str(EXAMPLES / "iris"))
    parser.add_argument("--slow", default=str(EXAMPLES / "models" / "wine"))
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--rate", type=int, default=500)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--most", type=float, default=2.0)
    return parser.parse_args()


def start(given):
    command = [given.coracle, "serve", "--port", "0", "--model", f"quick={given.quick}", "--model", f"slow={given.slow}"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    for line in server.stderr:
        found = re.search(r"listening on (http://\S+)", line)
        if found:
            # Keeps the pipe empty, so that the server never waits for us.
            threading.Thread(target=lambda: [None for _ in server.stderr], daemon=True).start()
            return server, found.group(1)
    sys.exit(f"the server ended: {server.wait()}")


def load(given, url, model, *more):
    """Starts the load tool on a model."""
    command = [given.tool or given.coracle, "bench", f"{url}/v1/models/{model}:predict", "-q", "--threads", "1", "--json", "-", *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def result(process):
    out, _ = process.communicate()
    if process.returncode != 0:
        sys.exit(f"the load tool failed: {process.returncode}\n{out}")
    return json.loads(out)["runs"][0]


def quick(given, url):
    load_of_quick = load(given, url, "quick", "--rate", str(given.rate), "-d", f"{given.seconds}s")
    return result(load_of_quick)


def say(what, run):
    latency = run["latency_us"]
    print(f"{what}: {run['requests_per_s']:.0f} requests/s, p50 {latency['p50']:.0f} us, p99 {latency['p99']:.0f} us", flush=True)
    return latency["p99"]


def main():
    given = arguments()
    server, url = start(given)
    ratios = []
    try:
        for round_number in range(1, given.rounds + 1):
            alone = say(f"{round_number}. quick alone", quick(given, url))
            # Longer than the measurement, so that it lasts through it.
            slow = load(given, url, "slow", "-c", "8", "--rows", str(given.rows), "-d", f"{given.seconds + 3}s")
            beside = say(f"{round_number}. quick beside the slow one", quick(given, url))
            say(f"{round_number}. the slow one", result(slow))
            ratios.append(beside / alone)
    finally:
        server.terminate()
        server.wait()
    ratio = sorted(ratios)[len(ratios) // 2]
    print(f"p99 of the quick model grew {ratio:.2f} times (median of {given.rounds} rounds; {given.most} is allowed)")
    return 0 if ratio <= given.most else 1


if __name__ == "__main__":
    sys.exit(main())
