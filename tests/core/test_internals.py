"""Private names of TFP, Keras and TensorFlow stand in three files only."""

import ast
import sys
from collections import defaultdict
from pathlib import Path

import keras
import tensorflow as tf

import tfp_flows

PACKAGE = Path(tfp_flows.__file__).parent
INTERNALS = {f"core/{library}_internals.py" for library in ("tfp", "keras", "tf")}
LIBRARIES = ("tensorflow.python", "tensorflow_probability.python", "keras.src")

# Python documents these.
OF_PYTHON = {"_asdict", "_fields", "_getframe", "_replace"}
# Overwritten on a builder of TensorFlow Datasets.
OF_DATASETS = {"_log_download_bytes", "_log_download_done"}

# What TFP documents for subclasses of its bijectors and distributions.
DOCUMENTED = {
    *("_batch_shape", "_batch_shape_tensor", "_event_shape", "_event_shape_tensor"),
    *("_forward_event_shape", "_forward_event_shape_tensor"),
    *("_inverse_event_shape", "_inverse_event_shape_tensor"),
    *("_is_increasing", "_is_permutation", "_parameter_properties"),
    *(
        "_log_prob",
        "_sample_n",
        "_sample_and_log_prob",
        "_mean",
        "_mode",
        "_stddev",
        "_variance",
    ),
    *("_entropy", "_quantile", "_default_event_space_bijector"),
    *("_forward_log_det_jacobian", "_inverse_log_det_jacobian"),
}
# What the three files check at import.
OVERRIDDEN = {
    # Every call of a bijector is evaluated jointly.
    *("_call_forward", "_call_forward_log_det_jacobian"),
    *("_call_inverse", "_call_inverse_log_det_jacobian"),
    # Values and seeds are checked before TFP converts them; contexts have a batch.
    *("_call_log_prob", "_call_prob", "_call_sample_and_log_prob", "_call_sample_n"),
    # One computation for all variables; building with labels under `tf.distribute`.
    *("_backend_update_step", "_maybe_symbolic_build"),
    # Nothing to sum over one replica.
    "_all_reduce_sum_gradients",
}
# TFP's and Python's metaclasses add these to classes.
ADDED = {"_abc_impl", "_convert_variables_to_tensors", "_type_spec"}


def is_private(name) -> bool:
    return isinstance(name, str) and name.startswith("_") and not name.endswith("_")


def private_uses(package: Path) -> dict[str, set[str]]:
    """Files in which each private name stands that no class of the package defines."""
    uses, own = defaultdict(set), set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            found = ""
            match node:
                case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                    own.add(name)
                case ast.Name(id=name, ctx=ast.Store()):
                    own.add(name)
                case ast.Attribute(ast.Name(id="self" | "cls"), name, ast.Store()) if (
                    is_private(name)
                ):
                    own.add(name)
                # The call may be `getattr`, `hasattr` or `object.__setattr__`.
                case ast.Attribute(_, found) | ast.Call(
                    _, [_, ast.Constant(found), *_]
                ):
                    pass
                case ast.ImportFrom(module=str(module)) if module.startswith(LIBRARIES):
                    for name in node.names:
                        uses[f"{module}.{name.name}"].add(path)
            if is_private(found):
                uses[found].add(path)
    return {
        name: {path.relative_to(package).as_posix() for path in paths}
        for name, paths in uses.items()
        if name not in own | OF_PYTHON | OF_DATASETS | DOCUMENTED
    }


def subclasses(base: type) -> set[type]:
    direct = base.__subclasses__()
    return set(direct).union(*map(subclasses, direct))


def test_private_names_of_libraries_stand_in_three_files():
    elsewhere = {n: f - INTERNALS for n, f in private_uses(PACKAGE).items()}
    assert not {n: f for n, f in elsewhere.items() if f}


def test_private_methods_that_are_overridden_are_known():
    kinds = (tf.Module, keras.Layer, keras.Optimizer, keras.callbacks.Callback)
    found = set()
    for kind in set().union(*map(subclasses, kinds)):
        if kind.__module__.startswith("tfp_flows."):
            theirs = [c for c in kind.__mro__ if "tfp_flows" not in c.__module__]
            names = set().union(*map(vars, theirs)) & set(vars(kind))
            found |= {n for n in names if is_private(n)}
    assert found - DOCUMENTED - ADDED == OVERRIDDEN


if __name__ == "__main__":
    for name, files in sorted(private_uses(Path(sys.argv[1])).items()):
        print(name, *sorted(files))
