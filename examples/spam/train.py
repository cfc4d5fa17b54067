"""Trains a spam filter on a few made-up messages: tf-idf, then a logistic regression.

    pip install scikit-learn joblib
    python train.py
"""
from pathlib import Path

import joblib
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

SPAM = ["Free entry! Text WIN to claim your prize", "You have won a free cruise, call now", "URGENT: your account needs you to reply YES",
        "Free ringtones for your phone, text TONE", "Claim your cash prize today", "Winner! You have been selected, call to claim",
        "Cheap loans, no questions, reply now", "Your free trial is waiting, click to win"]
HAM = ["Are we still meeting tonight?", "Can you pick up milk on the way home", "I'll call you later, in a meeting", "Happy birthday! See you on Sunday",
       "The train is late again, start without me", "Thanks for dinner, it was lovely", "Did you win the match yesterday?", "Mum says hi, call her when you can"]

model = make_pipeline(TfidfVectorizer(stop_words="english", ngram_range=(1, 2)), LogisticRegression(C=10.0))
model.fit(SPAM + HAM, ["spam"] * len(SPAM) + ["ham"] * len(HAM))
path = Path(__file__).with_name("model.joblib")
joblib.dump(model, path)
print(path.name, model.predict(["Win a free prize now", "See you tonight, Mum"]))
