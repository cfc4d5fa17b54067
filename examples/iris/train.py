"""Trains the iris forest that the first example serves.

    pip install scikit-learn joblib
    python train.py
"""
from pathlib import Path

import joblib
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier

x, y = load_iris(return_X_y=True)
model = RandomForestClassifier(n_estimators=100, random_state=0).fit(x, y)
path = Path(__file__).with_name("model.joblib")
joblib.dump(model, path)
print(path.name, model.predict([[5.1, 3.5, 1.4, 0.2], [6.2, 3.4, 5.4, 2.3]]))
