"""A model in KServe's own Python SDK: a subclass of kserve.Model around the iris forest.

    pip install kserve scikit-learn
    python model.py --model_name=iris --model_dir=examples/iris
"""

import argparse
import pathlib

import joblib
from kserve import Model, ModelServer, model_server
from kserve.utils.utils import get_predict_input, get_predict_response


class Iris(Model):
    def __init__(self, name, directory):
        super().__init__(name)
        self.path = pathlib.Path(directory) / "model.joblib"

    def load(self):
        self.forest = joblib.load(self.path)
        self.ready = True
        return self.ready

    def predict(self, payload, headers=None):
        # V1 and V2, REST and gRPC alike.
        rows = get_predict_input(payload)
        return get_predict_response(payload, self.forest.predict(rows), self.name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(parents=[model_server.parser])
    parser.add_argument("--model_dir", default="/mnt/models")
    arguments, _ = parser.parse_known_args()
    model = Iris(arguments.model_name, arguments.model_dir)
    model.load()
    ModelServer().start([model])
