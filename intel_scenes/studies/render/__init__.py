"""Renderings of a comparison: sentences, tables, CSV files, figures and the HTML page."""
