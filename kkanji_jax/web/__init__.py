"""The page that reads characters in a browser, and its assets."""
