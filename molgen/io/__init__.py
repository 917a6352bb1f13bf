"""Files and machines: readers and writers, data sets and downloads, checkpoints, export, the Hub."""
