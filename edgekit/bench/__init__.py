"""An honest benchmark: each engine in a process of its own, at its best, beside what the machine can do.

protocol.py   the order of things: which engine measures what, when
child.py      one engine in a process of its own, commanded by lines of text, answering in JSON
worker.py     that process for an engine with a Python interface (cpp/bench/edgekit_bench.cpp is ours)
peers/        one file per engine, found by name
machine.py    what the machine is, and what it can do at this moment
cost.py       the bytes and multiplications a token costs
comparison.py two results: ratios with intervals
report.py     a result as text, and as one HTML page
"""
