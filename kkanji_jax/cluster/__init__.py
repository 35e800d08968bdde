"""Reading an archive on a Ray cluster: the listing, its partitions, and their files of rows."""
