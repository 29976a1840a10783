"""Kills at random moments of random runs: `KILLS=40 .venv/bin/python -m pytest tests/interruptions`."""

import os
import random
import shutil
import signal
import time

from disturbed import DOOMED, DPL, PROBE, RANKS, STATUS, log_of, outcome_of
from forked import none_alive

KILLS = int(os.environ.get("KILLS", "6"))


def test_at_random_moments(forks, undisturbed, tmp_path):
    """KILLS signals to runs of randomly chosen kinds, each at a random moment of the time that such a run takes."""
    rng, kinds, seen, seconds = random.Random(KILLS), [[*DOOMED, "select=best_val"], DPL, PROBE], [], {}
    if KILLS > 20:
        kinds.append(RANKS)
    for trial in range(KILLS):
        overrides, signal_name = rng.choice(kinds), rng.choice(list(STATUS))
        whole, folder = undisturbed(*overrides), tmp_path / f"{trial}"
        folder.mkdir()
        if str(overrides) not in seconds:
            began = time.monotonic()
            assert forks.run(folder, *overrides, "output=timed") == 0
            seconds[str(overrides)] = time.monotonic() - began
            log_of(folder)
        moment = rng.uniform(0, seconds[str(overrides)])
        process = forks.start(folder, *overrides)
        time.sleep(moment)
        os.kill(process, getattr(signal, signal_name))
        status = forks.wait(process)
        none_alive(process)
        text = log_of(folder)
        seen.append((" ".join(overrides[6:9]), signal_name, round(moment, 2), status))
        # 0: it was done before the signal came; or the signal came before the first line of run.py
        before = status == -getattr(signal, signal_name) and not text
        assert before or status in (0, STATUS[signal_name]), (seen[-1], text)
        assert "Traceback" not in text, (seen[-1], text)
        assert text.count("Stopped by") == (status > 0), (seen[-1], text)
        assert forks.run(folder, *overrides) == 0, (seen[-1], log_of(folder))
        assert outcome_of(folder / "outputs") == whole, seen[-1]
        shutil.rmtree(folder)
    print(*seen, sep="\n")
