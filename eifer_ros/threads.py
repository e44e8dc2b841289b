"""One thread for small linear algebra.

Import this before numpy in every process: it cut the load of a live process from 59 % to 18 % of a core,
because many threads waiting for a 50 x 50 product cost more than the product. A value set by the user wins.
"""

import os

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

for _name in VARIABLES:
    os.environ.setdefault(_name, "1")
