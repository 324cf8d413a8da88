"""An honest benchmark: each engine in a process of its own, at its best, beside what the machine can do.

protocol.py   the order of things: which engine measures what, when
child.py      one engine in a process of its own, commanded by lines of text, answering in JSON
worker.py     that process for an engine with a Python interface (cpp/bench/edgekit_bench.cpp is ours)
peers/        one file per engine, found by name
machine.py    what the machine is, and what it can do at this moment
plan.py       what another device is to measure: the commands of edgekit_bench
recording.py  what it answered, and the result that this makes
cost.py       the bytes and multiplications a token costs
rows.py       single measurements become medians and fractions
result.py     the document: energy, flags, signature; schema.py holds it to results-schema.json
comparison.py two results: ratios with intervals
report.py     a result as text, and as one HTML page
board.py      many results as one HTML page
"""
