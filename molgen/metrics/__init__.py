"""Scores that hold for every kind of data: distances, two-sample statistics, anomaly scores."""
