"""Refuses a Keras that does not compute with TensorFlow: first of all imports."""

import os

wanted = os.environ.get("KERAS_BACKEND") or None
if wanted in (None, "tensorflow"):
    import keras

    wanted = keras.backend.backend()
if wanted != "tensorflow":
    # Variables of another backend would be seen, and trained, by nobody.
    raise ImportError(
        f"tfp_flows needs Keras with TensorFlow, but its backend is {wanted!r}: set "
        'KERAS_BACKEND=tensorflow in the environment, or "backend" in keras.json.'
    )
