"""Which keywords a distribution takes beside the value."""

from __future__ import annotations

from tensorflow_probability import distributions as tfd

__all__ = ["keywords_of"]


def keywords_of(distribution: tfd.Distribution) -> set[str]:
    """Names of the keywords that `log_prob` takes; those of TFP's take none.

    Args:
      distribution: a distribution of any kind.
    """
    takes_context = getattr(distribution, "context_shape", None) is not None
    context = {"context"} if takes_context else set()
    return context | set(getattr(distribution, "keywords", ()))
