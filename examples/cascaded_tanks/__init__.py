"""Two water tanks, one above the other, simulated by networks: open-loop training, closing, closed-loop training.

    python -m examples.cascaded_tanks PATH              one to two minutes on one core; picture in examples/output
    python -m examples.cascaded_tanks --simulated       the same on records of two simulated tanks, without the data
    python -m examples.cascaded_tanks PATH --left-out   errors on blocks left out of the training, some minutes

PATH is dataBenchmark.csv, or its folder, of the benchmark of M. Schoukens and J. P. Noel, "Three benchmarks addressing
open challenges in nonlinear system identification", IFAC-PapersOnLine 50 (2017) 446-451 (nonlinearbenchmark.org,
"Cascaded tanks"); the environment variable CASCADED_TANKS may hold it. A pump fills the upper tank, which runs into the
lower one, whose level is measured every 4 s; both can overflow. 1024 samples are for estimation, 1024 others for the
test. The task is simulation: the level over the whole test record from the voltage of the pump alone.

How it is trained. ``networks.py`` declares two networks in closed loop. ``rg.open_loop`` turns the feedback of the
level into an input, which is given the measured level: Levenberg-Marquardt fits one step ahead. ``rg.close_loop`` puts
the feedback back, with the same weights, and Levenberg-Marquardt fits the free run over the whole estimation record.

How it is tested. A free run sees the voltage and, as its initial condition, the first measured levels that its delays
reach back to: one for the network "two tanks", eight for "NARX". The level of the upper tank is not measured; where it
starts is learned from the estimation record, as the benchmark says that both records begin in the same state. The error
is the root of the mean squared error in volts over all later samples; a last column counts from sample 50 on.
Each figure is that of one network; the mean is that of the errors of three seeds, not the error of a mean of networks.

How it was chosen. The estimation record was cut into blocks, first four, then eight. Each was left out of both stages
in turn, and the error of the free run on the blocks left out chose sizes, delays, weight decay and numbers of steps,
with two or three seeds, by a faster prototype of the same equations with first weights of its own. With eight blocks
"two tanks" had about 0.31 V with the weight decay 1e-5, 0.35 with 3e-5, 0.69 with 1e-4, and 0.44 with layers of 2 and 3
units; 0.97 in place of 0.95 made no difference. A version whose upper unit had no leak, h(t) = h(t-1) + 0.1 s, did not
train from most seeds. "NARX" had 0.38 to 0.52 V with 4, 6 or 8 units, other delays and other weight decays, too close
together to tell them apart. The scaling is that of the whole estimation record.
--left-out with this example's own first weights was run afterwards, for seed 0 alone: 0.64 V for "two tanks" and 0.29 V
for "NARX". So these errors scatter widely, and do not say which of the two is better; both are shown.

What was looked at of the test record. Its smallest and largest values, means and deviations, its first six rows and a
picture of its input, when the file was first opened. The test error was computed when all the settings were fixed, and
none was changed after it. Models made for these tanks have reached lower errors than the published networks in the
table, which are baselines.
"""
