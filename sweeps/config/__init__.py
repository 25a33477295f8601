"""The room where Hydra's configuration becomes checked dataclasses."""
