"""Thin digits to thick ones, without pairs, and back: two flows with a common base, of
which the second starts anew or as the first, and a flow on top of the first.

    python examples/translate.py
"""

import copy

import keras
import numpy as np
from scipy.ndimage import grey_dilation
from sklearn.datasets import load_digits
from sklearn.svm import SVC

import tfp_flows
from tfp_flows import latent


def train(flow, x, epochs, frozen=None):
    model = tfp_flows.FlowModel(flow)
    if frozen is not None:
        tfp_flows.training.freeze(model, frozen)
    rate = keras.optimizers.schedules.CosineDecay(1e-3, epochs * -(-len(x) // 64))
    model.compile(keras.optimizers.Adam(rate))
    model.fit(x, batch_size=64, epochs=epochs, verbose=0)
    return flow


def main(epochs=25, width=128):
    keras.utils.set_random_seed(0)
    draw = np.random.default_rng(0)
    thin, labels = load_digits(return_X_y=True)
    thick = grey_dilation(thin.reshape(-1, 8, 8), (1, 2, 2)).reshape(-1, 64)
    a, b, test = np.split(draw.permutation(len(thin)), [700, 1400])
    classify = SVC().fit(thick[b], labels[b])
    thin, thick = (v + draw.uniform(size=v.shape) for v in (thin, thick))
    make, options = tfp_flows.flows.nice, {"width": width, "depth": 2}
    flow = train(make((64,), bounds=(0, 17), seed=0, **options), thin[a], epochs)
    apart = train(make((64,), bounds=(0, 17), seed=1, **options), thick[b], epochs)
    tuned = train(copy.deepcopy(flow), thick[b], epochs)
    options = {"layers": 6, "width": width, "max_log_scale": 0.2, "normalize": False}
    top = tfp_flows.flows.real_nvp((64,), seed=2, **options)
    on_top = train(latent.on_flow(top, flow), thick[b], epochs, frozen=flow)
    x, found = thin[test].astype("float32"), {}
    for name, other in {"apart": apart, "tuned": tuned, "on top": on_top}.items():
        if other is on_top:
            y = on_top.decode(x)
            back = on_top.encode(y)
        else:
            y = latent.translate(flow, x, other)
            back = latent.translate(other, y, flow)
        error, kept = np.abs(back - x).max(), classify.score(np.floor(y), labels[test])
        found[name] = error, kept, np.mean(other.bits_per_dim(thick[test]))
        print(name, "round trip {:.1e}, class {:.3f}, bits {:.3f}".format(*found[name]))
    print(f"as they are: class {classify.score(np.floor(x), labels[test]):.3f}")
    return found


if __name__ == "__main__":
    main()
