"""A flow over data and further numbers, which nobody sees."""

from __future__ import annotations

import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows.distributions.flow import Flow
from tfp_flows.distributions.lower_bound import LowerBound, check_flow, check_noise

__all__ = ["Augmented"]


class Augmented(LowerBound):
    r"""The distribution of some entries of what a flow gives; the others are left out.

    A flow over $(x, u)$ may fold and cut what one over $x$ alone only bends: with
    enough entries $u$, it is a hierarchical latent-variable model (Huang et al. 2020,
    "Augmented Normalizing Flows"; as the surjection of slicing, Nielsen et al. 2020).
    `log_prob` is a lower bound in the mean, see `LowerBound`:

    $$ \log \frac1S \sum_{s=1}^S \frac{p(x, u_s)}{q(u_s | x)}, \qquad
       u_s \sim q(u | x), \qquad \mathbb E[\,\cdot\,] \le \log \int p(x, u)\, du. $$

    Example:
      >>> from tfp_flows import distributions, flows
      >>> flow = flows.real_nvp((3,), layers=2, width=8, normalize=False, seed=0)
      >>> noise = distributions.standard_normal((1,))
      >>> augmented = distributions.Augmented(flow, noise, samples=4)
      >>> augmented.log_prob([[0.5, 1.0]], seed=0).shape
      TensorShape([1])

    Args:
      flow: the `Flow` over $(x, u)$, joined along the last axis.
      noise: the distribution $q$ of $u$: of as many entries as are to be added to the
        last axis. One with a `context_shape` is given $x$.
      samples: $S$, how many times `log_prob` draws.
      name: name of the distribution.

    Raises:
      TypeError: if `flow` is not a `Flow`, or `noise` not a TFP distribution.
      ValueError: if the event shape, context shape or dtype of `noise` does not fit, or
        `samples` is below 1.
    """

    papers = (
        "nielsen2020survae",
        "huang2020augmented",
        "burda2016importance",
    )

    def __init__(
        self,
        flow: Flow,
        noise: tfd.Distribution,
        samples: int = 1,
        name: str = "augmented",
    ):
        parameters = dict(locals())
        check_flow(flow)
        *leading, whole = flow.event_shape.as_list()
        added = getattr(noise, "event_shape", [0])
        size = whole - (added[-1] if len(added) else whole)
        if size < 1:
            raise ValueError(
                f"noise must have fewer entries than flow, of event shape "
                f"{flow.event_shape}, along the last axis; got event shape {added}."
            )
        event_shape = (*leading, size)
        conditional = getattr(noise, "context_shape", None) is not None
        check_noise(
            "noise",
            noise,
            (*leading, whole - size),
            event_shape if conditional else None,
            flow.dtype,
        )
        self._noise, self._size, self._conditional = noise, size, conditional
        super().__init__(
            flow,
            event_shape=event_shape,
            samples=samples,
            parameters=parameters,
            name=name,
        )

    @property
    def noise(self) -> tfd.Distribution:
        """The distribution of what is added to the data."""
        return self._noise

    _noise_in_words = "more entries"

    def _lift(self, x, samples, seed):
        rank = self.event_shape.rank
        if self._conditional:
            shape, given = samples, {"context": x}
        else:
            shape, given = tf.concat([samples, tf.shape(x)[:-rank]], 0), {}
        u, log_q = self._noise.experimental_sample_and_log_prob(shape, seed, **given)
        whole = tf.concat([tf.shape(u)[:-1], [self._size]], 0)
        return tf.concat([tf.broadcast_to(x, whole), u], -1), log_q

    def _drop(self, v):
        return v[..., : self._size]
