"""Tables, pictures, summaries and comparisons."""
