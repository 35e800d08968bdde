"""Devices and processes: the mesh of one, the meeting points of several."""
