"""Small character-level language models that train on a CPU (Bengio et al. 2003; makemore, part 2)."""
