"""A search without a plan."""

import random


class Dice:
    """A trial whose suggestions are random."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def suggest_float(self, name, low, high, *, step):
        return low + step * self.random.randrange(round((high - low) / step) + 1)

    def suggest_int(self, name, low, high):
        return self.random.randint(low, high)

    def suggest_categorical(self, name, choices):
        return self.random.choice(choices)
