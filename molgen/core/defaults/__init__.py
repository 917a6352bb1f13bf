"""What a modality has that says nothing of its own: files, records in memory, scores, a picture."""
