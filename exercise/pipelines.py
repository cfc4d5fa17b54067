"""Two dozen pipelines as people deploy them, trained here, served by the real binary, and asked in every form of request.

Usage: pipelines.py CORACLE_BINARY WATCHER_BINARY (not used). Each pipeline is saved with joblib and must answer over HTTP what it answers in
Python: V1 rows as lists and as objects, V1 by column, V2 with a tensor per column, and V2 as MLServer's clients send a data frame (`content_type: pd`).
"""

import http.client
import json
import math
import pathlib
import subprocess
import sys
import tempfile
import warnings

import joblib
import numpy as np
import pandas as pd
from catboost import CatBoostClassifier
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_selector, make_column_transformer
from sklearn.decomposition import NMF, PCA, TruncatedSVD
from sklearn.ensemble import (
    ExtraTreesClassifier, HistGradientBoostingClassifier, IsolationForest, RandomForestClassifier, RandomForestRegressor, StackingClassifier, VotingRegressor,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.feature_selection import SelectKBest
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, SGDClassifier
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.multioutput import MultiOutputClassifier
from sklearn.naive_bayes import ComplementNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer, KBinsDiscretizer, MinMaxScaler, OneHotEncoder, OrdinalEncoder, PolynomialFeatures, StandardScaler, TargetEncoder
from sklearn.svm import SVC
from xgboost import XGBClassifier, XGBRegressor

warnings.filterwarnings("ignore")

RANDOM = np.random.RandomState(0)
N = 300
NUMBERS, TEXTS = ["age", "income", "visits"], ["city", "plan"]


def people():
    """Numbers and categories with missing values, as a data frame from a database has them."""
    table = pd.DataFrame({
        "age": RANDOM.randint(18, 90, N).astype(float), "city": RANDOM.choice(["Oslo", "Bergen", "Ulm", "\u00c5lesund"], N).astype(object),
        "income": np.round(RANDOM.lognormal(10, 0.5, N), 2), "plan": RANDOM.choice(["free", "pro", "team"], N).astype(object),
        "visits": RANDOM.poisson(4, N),
    })
    score = table["age"] / 30 + table["city"].isin(["Oslo", "Ulm"]) * 1.5 - table["visits"] / 4 + (table["plan"] == "pro")
    table.loc[RANDOM.rand(N) < 0.1, "age"] = np.nan
    table.loc[RANDOM.rand(N) < 0.1, "city"] = np.nan
    return table, score.to_numpy()


TABLE, SCORE = people()
FULL = TABLE.fillna({"age": 40.0, "city": "Oslo"})
CHURN = np.where(SCORE > np.median(SCORE), "stays", "goes")
LEVEL = np.digitize(SCORE, np.quantile(SCORE, [0.3, 0.7]))
VALUE = np.round(SCORE * 10 + RANDOM.randn(N), 3)
WORDS = ["cheap", "meeting", "offer", "report", "winner", "lunch", "caf\u00e9", "money", "agenda", "free"]
MAILS = [" ".join(RANDOM.choice(WORDS, 8)) + "!" * (n % 3) for n in range(120)]
SPAM = np.array([mail.count("free") + mail.count("money") + mail.count("winner") > 2 for mail in MAILS])


def columns(numbers=None, texts=None):
    """The usual two branches over numbers and categories."""
    numbers = numbers or make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
    texts = texts or make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))
    return ColumnTransformer([("numbers", numbers, NUMBERS), ("texts", texts, TEXTS)])


def hinges():
    return make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), make_column_selector(dtype_include="number")),
        (make_pipeline(SimpleImputer(strategy="constant", fill_value="none"), OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)), TEXTS))


def pipelines():
    """Names, unfitted models, tables, targets."""
    trees = dict(n_estimators=10, max_depth=4, random_state=0)
    yield "logistic", make_pipeline(columns(), LogisticRegression(max_iter=500)), TABLE, CHURN
    yield "forest", make_pipeline(hinges(), RandomForestClassifier(**trees)), TABLE, LEVEL
    yield "calibrated_svc", make_pipeline(columns(), CalibratedClassifierCV(SVC(gamma=0.1), ensemble=False)), TABLE, CHURN
    base = [("trees", ExtraTreesClassifier(**trees)), ("neighbours", KNeighborsClassifier(7)), ("line", LogisticRegression(max_iter=500))]
    yield "stacking", make_pipeline(columns(), StackingClassifier(base, LogisticRegression(), cv=3)), TABLE, CHURN
    yield "search", GridSearchCV(make_pipeline(columns(), SGDClassifier(loss="log_loss", random_state=0)), {"sgdclassifier__alpha": [1e-3, 1e-2]}, cv=3), TABLE, CHURN
    yield "random_search", RandomizedSearchCV(make_pipeline(columns(), Ridge()), {"ridge__alpha": [0.1, 1.0, 10.0]}, n_iter=2, cv=3, random_state=0), TABLE, VALUE
    several = np.column_stack([CHURN, np.where(LEVEL > 0, "some", "none")])
    yield "multi_output", make_pipeline(columns(), MultiOutputClassifier(LogisticRegression(max_iter=500))), TABLE, several
    yield "multi_output_forest", make_pipeline(columns(), RandomForestClassifier(**trees)), TABLE, several
    yield "multi_output_values", make_pipeline(columns(), RandomForestRegressor(**trees)), TABLE, np.column_stack([VALUE, VALUE ** 2])
    boosted = dict(n_estimators=12, max_depth=4, random_state=0, n_jobs=1)
    yield "xgboost", make_pipeline(columns(numbers="passthrough"), XGBClassifier(**boosted)), TABLE, LEVEL
    yield "xgboost_target", TransformedTargetRegressor(make_pipeline(columns(), XGBRegressor(**boosted)), func=np.log1p, inverse_func=np.expm1), TABLE, VALUE - VALUE.min()
    yield "lightgbm", make_pipeline(columns(texts=TargetEncoder(random_state=0)), LGBMClassifier(verbose=-1, **boosted)), TABLE, CHURN
    yield "lightgbm_search", GridSearchCV(make_pipeline(hinges(), LGBMRegressor(verbose=-1, **boosted)), {"lgbmregressor__num_leaves": [5, 9]}, cv=2), TABLE, VALUE
    passed = ColumnTransformer([("numbers", make_pipeline(SimpleImputer(), StandardScaler()), NUMBERS)], remainder="passthrough", verbose_feature_names_out=False)
    yield "catboost", make_pipeline(passed, CatBoostClassifier(iterations=12, depth=4, cat_features=[3, 4], random_seed=0, verbose=0, allow_writing_files=False)), FULL, CHURN
    framed, categories = clone(passed).set_output(transform="pandas"), FULL.astype({"city": "category", "plan": "category"})
    yield "lightgbm_categories", make_pipeline(framed, LGBMClassifier(verbose=-1, **boosted)), categories, CHURN
    # XGBoost 3.2 writes texts beyond ASCII cut short.
    plain_cities = FULL.replace("\u00c5lesund", "Alesund").astype({"city": "category", "plan": "category"})
    yield "xgboost_categories", make_pipeline(clone(framed), XGBRegressor(enable_categorical=True, **boosted)), plain_cities, VALUE
    yield "hist_boosting", HistGradientBoostingClassifier(max_iter=15, categorical_features=[1, 3]), FULL.astype({"city": "category", "plan": "category"}), LEVEL
    yield "voting", make_pipeline(columns(), VotingRegressor([("line", LinearRegression()), ("trees", RandomForestRegressor(**trees))])), TABLE, VALUE
    bins = make_pipeline(KNNImputer(n_neighbors=3), FeatureUnion([("bins", KBinsDiscretizer(4, quantile_method="averaged_inverted_cdf")), ("products", make_pipeline(MinMaxScaler(), PolynomialFeatures(2)))]))
    yield "features", make_pipeline(ColumnTransformer([("numbers", bins, NUMBERS)]), SelectKBest(k=8), LogisticRegression(max_iter=2000)), TABLE, CHURN
    yield "outliers", make_pipeline(SimpleImputer(), FunctionTransformer(np.log1p, validate=True), PCA(2), IsolationForest(n_estimators=15, random_state=0)), TABLE[NUMBERS], None
    yield "spam", make_pipeline(TfidfVectorizer(ngram_range=(1, 2), strip_accents="unicode", sublinear_tf=True), LogisticRegression()), MAILS, SPAM
    yield "topics", make_pipeline(TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 3)), TruncatedSVD(4, random_state=0), RandomForestClassifier(**trees)), MAILS, SPAM
    mails = pd.DataFrame({"subject": MAILS, "length": [len(mail) for mail in MAILS], "sender": RANDOM.choice(["a", "b"], len(MAILS)).astype(object)})
    parts = ColumnTransformer([("words", TfidfVectorizer(), "subject"), ("sender", OneHotEncoder(), ["sender"]), ("rest", MinMaxScaler(), ["length"])])
    yield "mail_table", make_pipeline(parts, ComplementNB()), mails, SPAM
    yield "factors", make_pipeline(SimpleImputer(), MinMaxScaler(clip=True), NMF(2, random_state=0, max_iter=600), LogisticRegression()), TABLE[NUMBERS], CHURN


def plain(value):
    """A cell as JSON."""
    if value is None or isinstance(value, float) and math.isnan(value):
        return None
    return value.item() if isinstance(value, np.generic) else value


def post(port, path, body):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    if response.status != 200:
        raise SystemExit(f"FAILED  {path}: {response.status} {answer}\n  sent: {json.dumps(body)[:600]}")
    return answer


def tensor(name, values, content):
    """A column as MLServer's codecs send it."""
    values = [plain(value) for value in values]
    is_text = any(isinstance(value, str) for value in values)
    integers = not is_text and all(isinstance(value, int) for value in values)
    datatype = "BYTES" if is_text else "INT64" if integers else "FP64"
    column = {"name": name, "shape": [len(values), 1] if content else [len(values)], "datatype": datatype, "data": values}
    if content and is_text:
        column["parameters"] = {"content_type": "str"}
    return column


def forms(rows):
    """Every way to send rows, by name: the path after the model's name, the body, and where the answers are."""
    if isinstance(rows, list):
        yield "V1 texts", "v1", {"instances": rows}
        yield "V2 texts", "v2", {"inputs": [{"name": "text", "shape": [len(rows), 1], "datatype": "BYTES", "data": rows}]}
        return
    cells = [[plain(value) for value in row] for row in rows.itertuples(index=False)]
    names = list(rows.columns)
    yield "V1 lists", "v1", {"instances": cells}
    yield "V1 objects", "v1", {"instances": [dict(reversed(list(zip(names, row)))) for row in cells]}
    yield "V1 columns", "v1", {"inputs": {name: [row[at] for row in cells] for at, name in reversed(list(enumerate(names)))}}
    for content in [False, True]:
        inputs = [tensor(name, rows[name].tolist(), content) for name in reversed(names)]
        body = {"inputs": inputs, "parameters": {"content_type": "pd"}} if content else {"inputs": inputs}
        yield "V2 data frame" if content else "V2 tensors", "v2", body


def same(got, expected, tolerance):
    if isinstance(expected, (list, tuple)):
        return isinstance(got, list) and len(got) == len(expected) and all(same(g, e, tolerance) for g, e in zip(got, expected))
    if isinstance(expected, float):
        return abs(got - expected) <= tolerance * max(1.0, abs(expected))
    return got == expected


def answers(model, rows):
    """What Python answers, by method."""
    expected = {"predict": model.predict(rows).tolist()}
    if hasattr(model, "predict_proba"):
        tables = model.predict_proba(rows)
        if isinstance(tables, list):
            width = max(table.shape[1] for table in tables)
            tables = np.stack([np.pad(table, ((0, 0), (0, width - table.shape[1]))) for table in tables], axis=1)
        expected["predict_proba"] = tables.tolist()
    return expected


def check(port, name, model, rows):
    # XGBoost computes in single precision, which a batch sums as a row does.
    tolerance = 1e-6 if name.startswith("xgboost") else 1e-9
    n_forms = 0
    if name == "factors":
        # Factors depend on the other rows of a call in scikit-learn, so each row is asked alone there.
        each = [answers(model, rows.iloc[[row]]) for row in range(len(rows))]
        expected = {method: [answer[method][0] for answer in each] for method in each[0]}
    else:
        expected = answers(model, rows)
    for method, values in expected.items():
        for form, protocol, body in forms(rows):
            n_forms += 1
            body = {**body, "parameters": {**body.get("parameters", {}), "method": method}}
            if protocol == "v1":
                got = post(port, f"/v1/models/{name}:predict", body)["predictions"]
            else:
                output = post(port, f"/v2/models/{name}/infer", body)["outputs"][0]
                got = np.array(output["data"], dtype=object).reshape(output["shape"]).tolist()
            if not same(got, values, tolerance):
                raise SystemExit(f"FAILED  {name}, {method}, {form}\n  got: {got}\n  expected: {values}")
    return n_forms


def main(binary):
    with tempfile.TemporaryDirectory() as work:
        fitted = []
        for name, model, table, target in pipelines():
            model.fit(table, target) if target is not None else model.fit(table)
            directory = pathlib.Path(work, name)
            directory.mkdir()
            joblib.dump(model, directory / "model.joblib")
            rows = table[:8] if isinstance(table, list) else table.iloc[:8]
            fitted.append((name, model, rows))
        server = subprocess.Popen([binary, "serve", work, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            port, log = None, []
            for line in server.stdout:
                log.append(line)
                if "listening on" in line:
                    port = int(line.rsplit(":", 1)[1])
                    break
            if port is None:
                raise SystemExit("FAILED  the server did not start:\n" + "".join(log))
            for name, model, rows in fitted:
                n_forms = check(port, name, model, rows)
                print(f"ok  {name}: {n_forms} requests, as in Python", flush=True)
        finally:
            server.terminate()
            server.wait()
    print(f"ok  {len(fitted)} pipelines")


main(sys.argv[1])
