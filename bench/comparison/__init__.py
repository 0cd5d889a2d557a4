"""What bench/compare is made of: the libraries (libraries.py), the rows of the table (suite.py, programs.py), running
them in interleaved rounds (running.py), the statistics (figures.py) and the reports (markdown.py, charts.py)."""
