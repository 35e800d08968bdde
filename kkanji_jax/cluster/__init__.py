"""Reading an archive on a Ray cluster: what is read, in which parts, what is written of each."""
