"""The web page that recognises characters in the browser, and its assets."""
