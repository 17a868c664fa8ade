"""A task and a safety set; a suite finds them by `include_paths`."""
