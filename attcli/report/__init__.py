"""Reports: what a results folder holds, as one HTML page that needs nothing else, or several runs on one page.

model.py says what the data of a report are; gather.py takes them from a results folder (`pictures.py` the images,
`courses.py` the history, `origins.py` settings and commands), and files.py keeps them. plots.py draws, page.py writes
the HTML from the templates.
"""
