"""Serves an exported flow in TensorFlow Serving's REST format, by TensorFlow alone.

    python examples/serve.py path/of/the/export 8501

Then: curl -d '{"signature_name": "log_prob", "instances": [[0.0, 1.0]]}'
localhost:8501/v1/models/flow:predict
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import tensorflow as tf


def predict(signatures, request):
    """`instances` is a list of examples, `inputs` holds whole tensors by name."""
    function = signatures[request.get("signature_name", "log_prob")]
    specs = function.structured_input_signature[1]
    rows = "instances" in request
    given = request["instances" if rows else "inputs"]
    if rows and isinstance(given[0], dict):
        given = {name: [row[name] for row in given] for name in given[0]}
    given = given if isinstance(given, dict) else {next(iter(specs)): given}
    tensors = {n: tf.constant(v, specs[n].dtype) for n, v in given.items()}
    tensors = {n: tf.ensure_shape(t, specs[n].shape) for n, t in tensors.items()}
    (found,) = function(**tensors).values()
    return {"predictions" if rows else "outputs": found.numpy().tolist()}


def serve(path, port=8501, name="flow"):
    """A server whose `serve_forever` answers requests; port 0 is a free one."""
    models = {f"/v1/models/{name}:predict": tf.saved_model.load(path).signatures}

    class Handler(BaseHTTPRequestHandler):
        def answer(self, status, content):
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(content).encode())

        def do_GET(self):
            state = {"version": "1", "state": "AVAILABLE"}
            known = self.path == f"/v1/models/{name}"
            self.answer(
                200 if known else 404, {"model_version_status": [state][:known]}
            )

        def do_POST(self):
            try:
                text = self.rfile.read(int(self.headers["Content-Length"]))
                self.answer(200, predict(models[self.path], json.loads(text)))
            except Exception as error:
                self.answer(400, {"error": f"{type(error).__name__}: {error}"})

    return ThreadingHTTPServer(("localhost", port), Handler)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2])).serve_forever()
