"""A day's changes of a dump: one place in 200 kB gets other bytes and another length, and
a five-hundredth is added that resembles what is there. The same for the same day.

    one-more-day.py BEFORE AFTER DAY
"""

import random
import sys

PLACE = 60
CHANGED_EVERY = 200_000
ADDED_SHARE = 500
ROW = 400

before, after, day = sys.argv[1], sys.argv[2], int(sys.argv[3])
chance = random.Random(day)
with open(before, "rb") as file:
    data = file.read()

pieces, at = [], 0
for place in sorted(chance.randrange(len(data) - PLACE) for _ in range(len(data) // CHANGED_EVERY)):
    if place >= at:
        pieces += [data[at:place], chance.randbytes(chance.randrange(20, 40)).hex().encode()]
        at = place + PLACE
pieces.append(data[at:])

start = chance.randrange(len(data) - len(data) // ADDED_SHARE)
added = bytearray(data[start : start + len(data) // ADDED_SHARE])
for row in range(0, len(added) - ROW, ROW):
    added[row : row + 16] = chance.randbytes(16)
pieces.append(added)

with open(after, "wb") as file:
    file.write(b"".join(pieces))
