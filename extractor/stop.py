"""A run that is told to end, as a preempted job is: SIGTERM is noted, and the step under way goes on."""

import signal
import threading

STATUS = 75   # of a script that was told to end and can go on: EX_TEMPFAIL of sysexits.h
GRACE_S = 600  # that processes which make mixtures live on, so that a long validation and the last step find them


class Stop:
    """`with Stop() as stop:`, and in it `stop.asked` says whether SIGTERM has come."""

    def __init__(self):
        self.asked = False

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():  # no other one may
            self.before = signal.signal(signal.SIGTERM, self.note)
        return self

    def note(self, *_):
        self.asked = True

    def __exit__(self, *_):
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self.before)


def outlive(_: int):
    """In a DataLoader's worker: told to end, as all of a job's processes may be at once, it does so when its own has
    no more use for it, or is gone, or else GRACE_S later."""
    if hasattr(signal, "alarm"):  # not on Windows
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE_S))
