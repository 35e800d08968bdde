"""Writes shards and augmented copies, with the state that lets a build resume."""
