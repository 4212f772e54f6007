"""Measurements, and the tables of docs/; each is a command, run from the repository's root.

    python -m benchmarks.walk                    # the way from fit to the first sum over edges
    python -m benchmarks.speed.memory_speed      # training steps beside an MLP and other KANs
    python -m benchmarks.speed.loop              # the estimators beside a hand-written loop
    python -m benchmarks.speed.steps             # small steps and calls beside an MLP's
    python -m benchmarks.speed.precision         # loss curves in float32, TF32 and bf16
    python -m benchmarks.speed.large             # memory and time of large tables
    python -m benchmarks.tables                  # default estimators beside others on many tables
    python -m benchmarks.additive                # additive models with pairs beside EBM
    python -m benchmarks.paper feynman           # the paper's tables; also fc-images, conv-images
    python -m benchmarks.pde table               # equations; also the name of one, and speed

Each has ``--help``. Data that is in no package is looked for in ``--data-dir``.
"""
