"""The benchmark behind `cargo xtask bench`: what a host's operations cost, as its clients see it and by its own word.

    PYTHONPATH=scripts python -m benchmarks --url http://127.0.0.1:7070 --out target/bench

One file of `rows/` for each kind of operation; `table`, `plot` and `compare` show what `results` writes down.
"""
