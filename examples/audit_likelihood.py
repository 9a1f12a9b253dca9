"""Reported likelihoods of MNIST in one unit, and what they can be compared with.

python examples/audit_likelihood.py
"""

from tfp_flows import audit_likelihood

# What is reported, and how.
REPORTED = {
    "NICE, as in the paper": (1980.5, {"pixels": (0, 1), "dequantized": True}),
    "NICE, a loss without the Gaussian's constant": (
        -2200.0,
        {
            "pixels": (0, 1),
            "dequantized": True,
            "quantity": "loss",
            "dropped": "gaussian",
        },
    ),
    "Glow, bits per dimension": (
        1.05,
        {"pixels": (0, 255), "dequantized": True, "unit": "bits_per_dim"},
    ),
    "pixels divided by 255, no noise": (
        3000.0,
        {"pixels": (0, 1), "dequantized": False},
    ),
    "said to be of pixels in [0, 255]": (
        1980.5,
        {"pixels": (0, 255), "dequantized": True},
    ),
}


def main():
    found = {
        name: audit_likelihood(value, (28, 28, 1), **options)
        for name, (value, options) in REPORTED.items()
    }
    paper = next(iter(found.values()))
    for name, audited in found.items():
        print(f"{name}\n{audited}")
        if audited.comparable:
            print(f"{audited.better_than(paper):+.1f} nats beside NICE's paper")
        print()
    return found


if __name__ == "__main__":
    main()
