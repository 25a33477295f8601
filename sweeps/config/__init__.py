"""The door where Hydra's configuration ends."""
