"""Reports for people: HTML, Markdown and text made from the files of a run."""
