"""Pictures for docs/rollouts.md: plots as the pages of a shadow and of an experiment show them, with real models.

Usage: pictures.py CORACLE_BINARY. Writes docs/pictures/*.svg.
"""

import http.client
import json
import pathlib
import random
import re
import sys

import joblib
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier

from exercise import NAMESPACE, Stage, check, say, wait_until
from experiments import EXAMPLES, NAME, experiment, service

PICTURES = pathlib.Path(__file__).resolve().parent.parent / "docs/pictures"
STYLE = "<style>text{font:11px system-ui,sans-serif;fill:#5b6b7a}</style>"
N_USERS = 6000


def save(name, page, place):
    """Keeps a plot of a page as a file of its own: the same markup, with the page's style of texts and a white ground."""
    plots = re.findall(r"<svg .*?</svg>", page, re.S)
    check(len(plots) > place, f"the page of {name} has a plot", page[:500])
    plot = plots[place].replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    head, rest = plot.split(">", 1)
    PICTURES.mkdir(exist_ok=True)
    ground = '<rect width="100%" height="100%" fill="#fff"/>'
    (PICTURES / f"{name}.svg").write_text(f"{head}>{STYLE}{ground}{rest}\n")


def main():
    stage = Stage(sys.argv[1])
    try:
        rows, classes = load_iris(return_X_y=True)
        (stage.directory / "next").mkdir()
        forest = RandomForestClassifier(n_estimators=20, max_depth=2, random_state=0).fit(rows, classes)
        joblib.dump(forest, stage.directory / "next/model.joblib")
        stage.start_coracle()
        stage.kubectl("create", "namespace", NAMESPACE)
        stage.apply(service(NAME, f"file://{EXAMPLES}/iris"))
        stage.apply(service("iris-next", f"file://{stage.directory}/next"))
        for name in (NAME, "iris-next"):
            stage.ns("wait", "--for=condition=Ready", f"inferenceservice/{name}", "--timeout=60s")
        connection = http.client.HTTPConnection("127.0.0.1", stage.port)

        def ask(method, path, body=None, headers={}):
            body = json.dumps(body) if body else None
            connection.request(method, f"/serving/{NAMESPACE}/{NAME}{path}", body, {"Content-Type": "application/json", **headers})
            answer = connection.getresponse()
            return answer.headers, answer.read().decode()

        stage.ns("annotate", "isvc", NAME, "serving.coracle.dev/shadow=iris-next")

        def compared():
            ask("POST", f"/v1/models/{NAME}:predict?method=predict_proba", {"instances": rows.tolist()})
            page = ask("GET", "/shadow/page")[1]
            return page if page.count("<svg") >= 3 else None

        save("shadow-scores", wait_until(compared, "copies reach the shadow"), 1)
        stage.ns("annotate", "isvc", NAME, "serving.coracle.dev/shadow-")
        stage.apply(experiment("ab", {
            "unit": {"header": "x-user"},
            "variants": [{"name": "control"}, {"name": "treatment", "inferenceService": "iris-next"}],
            "metrics": [{"name": "converted", "type": "Conversion", "expectedDifference": 0.1}],
        }))
        wait_until(lambda: "x-coracle-variant" in ask("POST", f"/v1/models/{NAME}:predict", {"instances": [rows[0].tolist()]})[0], "the experiment is in force")
        chance, told = random.Random(1), []
        for user in range(N_USERS):
            headers, _ = ask("POST", f"/v1/models/{NAME}:predict", {"instances": [rows[user % 150].tolist()]}, {"x-user": f"u{user}"})
            rate = {"control": 0.30, "treatment": 0.36}[headers["x-coracle-variant"]]
            told.append({"unit": f"u{user}", "metric": "converted", "value": int(chance.random() < rate)})
            if len(told) == 25:
                ask("POST", "/experiments/ab/outcomes", told)
                told = []
        save("experiment-over-time", ask("GET", "/experiments/ab/page")[1], 0)
    finally:
        stage.close()
    say("pictures are in docs/pictures")


if __name__ == "__main__":
    main()
