"""The command line `tfp-flows`, and runs that can be interrupted and resumed."""
