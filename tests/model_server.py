"""A real embedding model behind OpenAI's `/v1/embeddings`: `PYTHON -m tests.model_server DIRECTORY [PORT]`.

The directory holds a sentence transformer as `*.onnx` and its `*tokenizer.json`. PYTHON needs onnxruntime, tokenizers
and numpy, which the project does not. Prints its address when it is ready.
"""

import base64
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

MAX_TOKENS = 256


class Model:
    def __init__(self, directory: Path) -> None:
        import onnxruntime  # noqa: PLC0415  of another environment than the project's
        from tokenizers import Tokenizer  # noqa: PLC0415

        [weights] = directory.glob("*.onnx")
        [tokenizer] = directory.glob("*tokenizer.json")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(weights), options, providers=["CPUExecutionProvider"])
        self._names = {each.name for each in self._session.get_inputs()}
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.no_padding()

    def embed(self, text: str) -> Any:
        """The mean of the tokens' vectors, float32, normalised."""
        encoded = self._tokenizer.encode(text)
        given = {"input_ids": encoded.ids, "attention_mask": encoded.attention_mask, "token_type_ids": encoded.type_ids}
        inputs = {name: np.array([ids], dtype=np.int64) for name, ids in given.items() if name in self._names}
        vectors = self._session.run(None, inputs)[0][0]
        mean = vectors.mean(axis=0)
        return (mean / np.linalg.norm(mean)).astype(np.float32)


def serve(model: Model, port: int) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            texts = [asked["input"]] if isinstance(asked["input"], str) else asked["input"]
            is_base64 = asked.get("encoding_format") == "base64"
            vectors = [model.embed(text) for text in texts]
            data = [
                {
                    "object": "embedding",
                    "index": place,
                    "embedding": base64.b64encode(vector.tobytes()).decode() if is_base64 else vector.tolist(),
                }
                for place, vector in enumerate(vectors)
            ]
            usage = {"prompt_tokens": 0, "total_tokens": 0}
            body = json.dumps({"object": "list", "data": data, "model": asked["model"], "usage": usage}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    print(f"http://127.0.0.1:{server.server_port}/v1", flush=True)  # noqa: T201  whoever started it reads this
    server.serve_forever()


if __name__ == "__main__":
    serve(Model(Path(sys.argv[1])), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
