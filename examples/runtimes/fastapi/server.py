"""A model server of one's own: FastAPI around the iris forest, with KServe's V1 protocol.

    pip install fastapi uvicorn scikit-learn
    python -m uvicorn server:app --port 8080     # MODEL_DIR says where model.joblib is
"""

import asyncio
import os
import pathlib

import joblib
from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

model = joblib.load(pathlib.Path(os.environ["MODEL_DIR"]) / "model.joblib")
app = FastAPI()


class Request(BaseModel):
    instances: list[list[float]]


@app.get("/healthz")
def healthz():
    return {"status": "ok"}


@app.post("/v1/models/{name}:predict")
def predict(name: str, request: Request):
    try:
        return {"predictions": model.predict(request.instances).tolist()}
    except ValueError as error:
        raise HTTPException(400, str(error)) from error


@app.get("/count")
async def count(n: int = 5):
    """A path of its own, answered in parts."""

    async def lines():
        for i in range(n):
            yield f"{i}\n"
            await asyncio.sleep(0.01)

    return StreamingResponse(lines(), media_type="text/plain")
