"""The benchmark suite of celoss: speed and accuracy, side by side with its peers, in one run.

Read it in this order; each file uses only the ones above it:

======================  ==========================================================================
cases                   shapes, seeds and data: the only place where they are written
machine                 what ran: processor, threads, build, versions
timing                  interleaved rounds, medians, ratios
peers                   every way to get (loss, gradient) that is compared
family                  the functions beside cross-entropy, and their peers
usual                   the usual calls of small arrays, beside the plain one
limits                  what the memory of this machine allows: the floors
accuracy                errors in ulp against an extended-precision truth
test_bench_*            pytest-benchmark: time per logit of every peer and floor, by shape; of usual calls
ratios                  what the ratios below are made of
against_*               celoss against its peers, the memory, itself: one function for each ratio with a limit
fresh_processes         ratios for which a process has to be fresh: levels, memory, errors, bits
targets                 the ratios that the project set itself to reach: all of these
pictures                the pictures of the report
report                  runs all of it and writes ``results/<machine>/report.md`` with pictures
======================  ==========================================================================

Nothing here is installed, and nothing in the package imports it. Time is measured here and nowhere
asserted.
"""
