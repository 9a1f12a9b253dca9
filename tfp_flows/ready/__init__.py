"""What makes a ready flow of a generator of bijectors: see `building.py`.

The names of it that are public are those of `tfp_flows.flows`.
"""
