"""What the molecular modalities share: parsing, properties, sizes, data sets, 2D metrics."""
