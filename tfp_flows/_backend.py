"""Refuses a Keras that does not compute with TensorFlow: first of all imports."""

import os

_HOW = 'set KERAS_BACKEND=tensorflow in the environment, or "backend" in keras.json.'

wanted = os.environ.get("KERAS_BACKEND") or None
if wanted in (None, "tensorflow"):
    try:
        import keras
    except ImportError as error:
        raise ImportError(
            "tfp_flows needs Keras with TensorFlow, but Keras cannot be imported "
            f"({error}). If its backend is another one, {_HOW}"
        ) from error
    wanted = keras.backend.backend()
if wanted != "tensorflow":
    # Variables of another backend would be seen, and trained, by nobody.
    raise ImportError(
        f"tfp_flows needs Keras with TensorFlow, but its backend is {wanted!r}: {_HOW}"
    )
