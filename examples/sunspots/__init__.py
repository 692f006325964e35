"""Yearly sunspot numbers, forecast one year ahead by three networks that are declared edge by edge in ``networks.py``.

    python -m examples.sunspots            about ten seconds; files go to examples/output
    python -m examples.sunspots --quick    one network of each kind, few iterations, no pictures

The benchmark is that of Weigend, Huberman and Rumelhart, "Predicting the future: a connectionist approach",
International Journal of Neural Systems 1 (1990) 193-209: learn from the years up to 1920, forecast 1921-55 and 1956-79.
The error is the average relative variance: mean squared error / variance of the whole series, 1700-2008. Which variance
the paper divided by is not known here; the record ended in 1979 then, and its variance to that year is 0.92 of ours.

How it is trained. All forecasts are open loop: for year t a network sees the *measured* numbers up to t-1. It is given
their square roots (the spread of a count grows with the count), scaled by the mean and deviation of 1700-1920. The
years 1712-1920 are cut into five blocks; each network leaves one block out and stops (L-BFGS, early stopping) where the
error on it is lowest. The forecast of a kind is the mean of ten such networks, two per block.

How it was chosen. The error on the blocks left out chose the hidden size (4, 8 or 12), the rule that draws the first
weights, square roots rather than plain numbers, and no direct edge from x to y. The years 1921-79 chose none of these,
but they were looked at on the way: a first version left out 1881-1920 alone, a quiet stretch of the record; how
far it fell short in 1956-79 is why the blocks left out now come from all the years.
"""
