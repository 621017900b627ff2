"""PLACEHOLDER by the lead until the real module lands: overwrite me."""


class ProcessFinder:
    def __init__(self, *a, **k): ...
    def owner(self, *a):
        return None
