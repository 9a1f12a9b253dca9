"""What bijectors are made of. Nothing here is part of the public interface."""
