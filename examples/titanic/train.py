"""Trains a model of a passenger list: numbers and texts in named columns, with holes.

    pip install scikit-learn pandas joblib
    python train.py

The passengers are made up, since the real list is not ours to ship; the columns are those of the well-known exercise.
"""
import random
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler


def passengers(n=800):
    r = random.Random(7)
    rows = []
    for _ in range(n):
        pclass, sex = r.choice([1, 2, 3, 3]), r.choice(["female", "male", "male"])
        age = max(1.0, round(r.gauss(42 - 5 * pclass, 13), 1)) if r.random() > 0.2 else np.nan
        fare = round(abs(r.gauss(90 / pclass, 20)) + 5, 2)
        embarked = r.choice(["S", "S", "S", "C", "Q"]) if r.random() > 0.02 else np.nan
        chance = 0.1 + 0.5 * (sex == "female") + 0.12 * (3 - pclass) - 0.1 * (age > 60)
        rows.append((pclass, sex, age, r.choice([0, 0, 0, 1, 2]), fare, embarked, int(r.random() < chance)))
    return pd.DataFrame(rows, columns=["pclass", "sex", "age", "sibsp", "fare", "embarked", "survived"])


data = passengers()
x, y = data.drop(columns="survived"), data["survived"]
prepare = ColumnTransformer([
    ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), ["age", "fare", "sibsp"]),
    ("words", make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")), ["embarked", "sex"]),
    ("class", OneHotEncoder(), ["pclass"])])
model = Pipeline([("prepare", prepare), ("classify", LogisticRegression())]).fit(x, y)
path = Path(__file__).with_name("model.joblib")
joblib.dump(model, path)
asked = pd.DataFrame({"pclass": [1, 3], "sex": ["female", "male"], "age": [29.0, np.nan], "sibsp": [0, 1], "fare": [211.3, 7.9], "embarked": ["S", "Q"]})
print(path.name, model.predict(asked), model.predict_proba(asked)[:, 1].round(4))
