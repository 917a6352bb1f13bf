"""Commands that make what the package ships and what the README shows: `python -m benchmarks NAME`."""
