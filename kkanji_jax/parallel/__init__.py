"""Devices and processes: the mesh of devices, and how several processes start and agree."""
