"""Held-out likelihoods, and samples, of a trained model."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from scipy.special import logsumexp

from tfp_flows import datasets, latent
from tfp_flows.command.settings import Settings
from tfp_flows.command.tables import standard_error
from tfp_flows.distributions import (
    LowerBound,
    MixedDequantization,
    log_prob_and_standard_error,
)
from tfp_flows.training import FlowModel
from tfp_flows.training.data_checks import check_surface, surface_of

__all__ = ["check_rows", "evaluate", "sample"]

# Random numbers for each example, where a density is an estimate.
_DRAWS = 16

# Samples are drawn in parts of so many numbers, and of at most so many samples.
_PART_NUMBERS = 2**20
_PART_SAMPLES = 10_000


def evaluate(
    model: FlowModel | Sequence[FlowModel],
    source: datasets.DataSource,
    split: str = "test",
    settings: Settings | None = None,
) -> dict[str, Any]:
    """Computes the likelihood of a split under a model.

    Args:
      model: model of a flow over the events of `source`; or several of them, which are
        mixed in equal parts as one density.
      source: data; their labels are the context of a model that takes one.
      split: "train", "validation" or "test".
      settings: for the size of batches and the seed of the dequantisation.

    Returns:
      `log_likelihood` (mean, nats per example, of the data as stored), its
      `standard_error`, `bits_per_dim`; for bounded data also `log_likelihood_unit`,
      with values scaled to [0, 1]; for a toy also the exact `kl` from the data's
      density to the model's, in nats, and its `kl_standard_error`. Where the model's
      density is an estimate, it is averaged over 16 draws, and what their randomness
      adds to the error of the mean is the `estimator_standard_error`. A
      `LowerBound`, such as a flow of integers or of a table with categories, gives its
      bound with 16 samples, and has no `log_likelihood_unit`. The `exactness` is the
      flow's: "exact", "estimate" or "bound".

    Raises:
      ValueError: if data do not fit the model.
    """
    models = [model] if isinstance(model, FlowModel) else list(model)
    found = [log_probs(model, source, split, settings) for model in models]
    return summary(found, models[0], source, split)


def log_probs(
    model: FlowModel,
    source: datasets.DataSource,
    split: str = "test",
    settings: Settings | None = None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Log-densities of a split, nats, and their standard errors if they are estimates.

    Args:
      model: see `evaluate`, as for the others.
      source: see there.
      split: see there.
      settings: see there.

    Raises:
      ValueError: if data do not fit the model.
    """
    if tuple(model.flow.event_shape) != source.event_shape:
        raise ValueError(
            f"{source.name} has examples of shape {list(source.event_shape)}, but "
            f"the model is over {list(model.flow.event_shape)}."
        )
    flow = model.flow
    if isinstance(flow, MixedDequantization) and source.kinds is not None:
        kinds = [list(k) if isinstance(k, tuple) else k for k in flow.columns]
        if kinds != source.kinds:
            raise ValueError(
                f"{source.name} has columns of {source.kinds}, the model of {kinds}."
            )
    classes = _num_classes(model)
    if classes and (source.num_classes or 0) > classes:
        raise ValueError(
            f"{source.name} has labels of {source.num_classes} classes, but the "
            f"model knows {classes}."
        )
    check_rows(model, source, split)
    batches = source.dataset(
        split,
        settings.batch_size if settings else 128,
        labels=classes is not None,
        seed=settings.seed if settings else 0,
    )
    return _log_probs(model, batches)


def check_rows(model: FlowModel, source: datasets.DataSource, split: str) -> None:
    """Raises an error unless a split lies on the surface of a flow that has one.

    Args:
      model: the model.
      source: the data.
      split: of the data.

    Raises:
      ValueError: naming the first row that is elsewhere.
    """
    if surface_of(model.flow) is not None:
        x = source.arrays(split)[0]
        check_surface(f"{source.name}, {split},", x, model.flow)


def summary(
    found: Sequence[tuple[np.ndarray, np.ndarray | None]],
    model: FlowModel,
    source: datasets.DataSource,
    split: str,
) -> dict[str, Any]:
    """Makes the results that `evaluate` returns of `log_probs` of several models.

    Args:
      found: the log-densities, which are mixed in equal parts.
      model: one of the models.
      source: see `evaluate`.
      split: see there.
    """
    log_q, errors = _mixed(found)
    size = math.prod(source.event_shape)
    results: dict[str, Any] = {
        "split": split,
        "examples": len(log_q),
        "exactness": getattr(model.flow, "exactness", "exact"),
        "log_likelihood": float(log_q.mean()),
        "standard_error": standard_error(log_q),
        "bits_per_dim": float(-log_q.mean() / (size * math.log(2.0))),
    }
    if errors is not None:
        results["estimator_standard_error"] = float(
            np.sqrt(np.square(errors).sum()) / len(errors)
        )
    if source.bounds and not isinstance(model.flow, LowerBound):
        unit = size * math.log(source.bounds[1] - source.bounds[0])
        results["log_likelihood_unit"] = results["log_likelihood"] + unit
    toy = datasets.TOYS.get(source.name)
    if toy is not None and toy.log_prob is not None:
        difference = toy.log_prob(source.arrays(split)[0]) - log_q
        results["kl"] = float(difference.mean())
        results["kl_standard_error"] = standard_error(difference)
    return results


def _mixed(
    found: Sequence[tuple[np.ndarray, np.ndarray | None]],
) -> tuple[np.ndarray, np.ndarray | None]:
    """Log-densities of the mixture in equal parts, with their standard errors."""
    if len(found) == 1:
        return found[0]
    parts = np.stack([log_q for log_q, _ in found])
    log_q = logsumexp(parts, 0) - math.log(len(parts))
    if found[0][1] is None:
        return log_q, None
    # Each counts as much as it contributes.
    shares = np.exp(parts - log_q) / len(parts)
    errors = shares * np.stack([e for _, e in found if e is not None])
    return log_q, np.sqrt(np.square(errors).sum(0))


def _log_probs(
    model: FlowModel, batches: Iterable[Any]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Log-densities, with their standard errors if they are estimates."""
    flow = model.flow
    if "seed" not in getattr(flow, "keywords", ()):
        return np.asarray(model.predict(batches, verbose=0), np.float64), None

    @tf.function(reduce_retracing=True, autograph=False)
    def estimate(x, context, seed):
        x = tf.cast(x, flow.dtype)
        if isinstance(flow, LowerBound):
            keywords = {} if context is None else {"context": context}
            log_q = flow.log_prob(x, seed=seed, samples=_DRAWS, **keywords)
            return log_q, None
        return log_prob_and_standard_error(flow, x, context, _DRAWS, seed)

    found = [
        estimate(
            *(batch if isinstance(batch, tuple) else (batch, None)),
            tf.constant([0, i], tf.int32),
        )
        for i, batch in enumerate(batches)
    ]
    log_q, parts = zip(*found, strict=True)
    errors = None if parts[0] is None else np.concatenate(parts).astype(np.float64)
    return np.concatenate(log_q).astype(np.float64), errors


def sample(
    model: FlowModel,
    n: int,
    *,
    temperature: float = 1.0,
    label: int | None = None,
    guidance: float | None = None,
    attention_temperature: float = 1.0,
    seed: int = 0,
) -> np.ndarray:
    """Draws from a model; of a class-conditional one all classes in turn, or one.

    Many samples are drawn in parts, so that memory does not grow with their number.

    Args:
      model: the model.
      n: number of samples.
      temperature: scale of the noise, see `tfp_flows.Flow.sample`.
      label: class of all samples, for a class-conditional model.
      guidance: weight of `tfp_flows.latent.guided_sample`, for such a model, or for one
        that attends.
      attention_temperature: see there.
      seed: natural number on which alone the samples depend.

    Returns:
      Data `[n, *event_shape]`.

    Raises:
      ValueError: if a label is given to a model without classes or is not one of them,
        if the model takes a context that is no label, or if it cannot be guided so.
    """
    if attention_temperature != 1.0 and guidance is None:
        raise ValueError(
            f"attention_temperature={attention_temperature} needs a guidance, the "
            "weight with which samples are pushed."
        )
    classes = _num_classes(model)
    labels = None
    if classes is not None:
        if label is not None and not 0 <= label < classes:
            raise ValueError(f"label must be from 0 to {classes - 1}, got {label}.")
        labels = np.arange(n) % classes if label is None else np.full(n, label)
    elif label is not None:
        raise ValueError(f"label {label} was given, but the model has no classes.")
    elif guidance is not None and attention_temperature == 1.0:
        raise ValueError(
            f"guidance={guidance} needs a model of classes, or an "
            "attention_temperature other than 1."
        )
    size = math.prod(model.flow.event_shape)
    part = max(1, min(_PART_SAMPLES, _PART_NUMBERS // size))
    draw: Callable[..., Any] = model.flow.sample
    count = "sample_shape"
    if guidance is not None:
        count = "n"
        draw = functools.partial(
            latent.guided_sample,
            model.flow,
            weight=guidance,
            attention_temperature=attention_temperature,
        )
    parts = []
    for i, start in enumerate(range(0, n, part)):
        of: dict[str, Any] = {count: min(part, n - start)}
        if labels is not None:
            of = {"context": labels[start : start + part].astype(np.int32)}
        drawn = draw(**of, seed=_seed_of(seed, i), temperature=temperature)
        parts.append(drawn.numpy())
    return np.concatenate(parts)


def _seed_of(seed: int, part: int) -> int:
    """The seed itself for the first part, and others for the others."""
    if part == 0:
        return seed
    return int(np.random.SeedSequence([seed, part]).generate_state(1)[0] >> 1)


def _num_classes(model: FlowModel) -> int | None:
    """Number of labels of a class-conditional model, `None` of an unconditional one.

    Raises:
      ValueError: if the model takes a context that is no label.
    """
    flow = model.flow
    if flow.context_shape is None:
        return None
    classes = (flow.config or {}).get("num_classes")
    if classes is None:
        raise ValueError(
            f"the model takes contexts of shape {list(flow.context_shape)}, not "
            "labels: use it in Python, where flow.sample and flow.log_prob take "
            "context=..."
        )
    return classes
