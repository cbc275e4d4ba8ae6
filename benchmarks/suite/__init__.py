"""One run of every question against every peer. `python benchmarks/run_suite.py` starts it.

peers            the environment in which the peers are installed
contenders       the pools of Python, behind one interface
node_turn.cjs    the contenders of Node
turn             one turn: a server process with one contender and one question
watching         starts a turn, and measures memory and CPU time from outside
records          the results, as JSON lines
work             the functions that every pool calls
questions/       one module for each question
summary          medians and spreads
plots, pages     what is shown in docs/benchmarks
"""
