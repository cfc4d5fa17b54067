"""Trains the two models of this folder.

    pip install scikit-learn joblib pandas
    python train.py
"""
import pickle
from pathlib import Path

import joblib
from sklearn.datasets import load_diabetes, load_wine
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

here = Path(__file__).parent

# A regressor, written by joblib.
x, y = load_diabetes(return_X_y=True)
model = GradientBoostingRegressor(n_estimators=40, max_depth=3, random_state=0).fit(x, y)
(here / "diabetes").mkdir(exist_ok=True)
joblib.dump(model, here / "diabetes" / "model.joblib")
print("diabetes", model.predict(x[:2]))

# A pipeline fitted on a data frame with named columns and named classes, written by pickle.
wine = load_wine(as_frame=True)
names = wine.target.map(dict(enumerate(["barolo", "grignolino", "barbera"]))).to_numpy(dtype=object)
model = make_pipeline(StandardScaler(), LogisticRegression()).fit(wine.data, names)
(here / "wine").mkdir(exist_ok=True)
with open(here / "wine" / "model.pkl", "wb") as f:
    pickle.dump(model, f)
print("wine", model.predict(wine.data.iloc[[0, 60, 170]]))
