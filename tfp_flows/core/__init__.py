"""Building blocks of bijectors. Nothing here is part of the public interface."""
