"""Shards, the state of a build that resumes, and augmented copies written out."""
