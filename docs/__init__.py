"""The guide: pages, and what runs and builds them."""
