"""Metrics of other frameworks' trainers in the journal, from one process of them.

    huggingface.py  WindlassCallback, for transformers.Trainer and what derives from it (TRL)
    lightning.py    WindlassLogger, for lightning.Trainer
    recorder.py     what of it is logged
    ranks.py        which process logs

A plain loop calls ``run.log``; where it runs in several processes, only ``if main_process():``.
"""

from windlass.training.callbacks.ranks import main_process as main_process
