"""Commands that train the shipped models and write all tables and figures: `python -m benchmarks NAME`."""
