"""A comparison as words, tables, files, figures and a page."""
